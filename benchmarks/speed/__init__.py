"""How long an update takes, end to end, beside what else one could do; see README.md."""
