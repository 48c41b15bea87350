"""The second attack round: tries on all that listens, reads names or loads code, and what came of each."""
