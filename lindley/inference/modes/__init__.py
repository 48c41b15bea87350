"""Posteriors that are no single hump on the line: separated modes, each sampled apart; and angles."""
