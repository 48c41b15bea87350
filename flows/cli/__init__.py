"""The command line `lindley`, one module per group of commands."""
