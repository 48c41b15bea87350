"""lindley/ledger."""
