"""Panels: ten thousand beliefs of one model in one chain. Keys, leaves and their tree, rows, shards."""
