"""Servers that follow the ledger: predictions of the newest links (`lindley serve`)."""
