"""Where batches come from and go: landing, store, rejected."""
