"""What may be done to a chain, one module per record kind and command: plan, then fit, then log."""
