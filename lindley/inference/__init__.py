"""One Bayesian update: sample, gate, assess, match. Pure: no files, no ledger."""
