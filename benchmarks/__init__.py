"""Benchmarks: what is measured against references, beside the tests."""
