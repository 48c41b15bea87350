"""Servers, watcher, and the worker with its warm processes."""
