"""Prove a chain from bytes. Rules are pure functions of a gathered case; I/O only in `gather`."""
