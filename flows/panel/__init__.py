"""Panels: engines that fit shards, and commands for members."""
