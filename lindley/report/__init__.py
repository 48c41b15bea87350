"""lindley/report."""
