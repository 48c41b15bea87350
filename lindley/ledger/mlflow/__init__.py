"""The ledger on MLflow; the only package of the core that imports MLflow."""
