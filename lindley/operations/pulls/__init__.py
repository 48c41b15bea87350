"""Pulls: what is new, revised or gone at a source, compared with what a chain counts, and its links."""
