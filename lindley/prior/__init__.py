"""Densities on unconstrained coordinates that stand for a posterior. NumPy and SciPy only."""
