"""Untrusted files to typed tables with a canonical digest. No prior, no ledger."""
