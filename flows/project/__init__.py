"""A working folder of one's own: `lindley init`."""
