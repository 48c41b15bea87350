"""What predicts for the rows of many members: from a ledger, or from a registered model alone."""
