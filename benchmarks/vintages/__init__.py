"""Benchmark of a source that grows and is revised; see README.md."""
