"""The page of a chain: one file that an auditor opens anywhere, without a request to any server."""
