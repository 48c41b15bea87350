"""Append-only history of a chain: record format, signing, write order, and the protocol of its backends.

`lindley.ledger.backend` opens the ledger of a workspace; `mlflow` is one backend.
"""
