"""Servers that follow the ledger: predictions (`lindley serve`) and pages (`lindley pages`)."""
