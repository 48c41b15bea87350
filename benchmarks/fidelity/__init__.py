"""Fidelity: how close a chain, batch after batch, comes to a reference posterior of all data."""
