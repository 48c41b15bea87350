"""Densities on unconstrained coordinates that approximate a posterior. NumPy and SciPy only."""
