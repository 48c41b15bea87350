"""Prefect flows: sequence, branching, retries. The command line lives beside them."""
