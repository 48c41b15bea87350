"""Sources that are pulled: what is at an address, with its version, as files that are read in blocks."""
