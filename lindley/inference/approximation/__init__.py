"""A posterior sampled by independent draws around its mode, accepted only with a certificate."""
