"""How good a fit and its match are: pure functions of draws, weights and maps; and the gate."""
