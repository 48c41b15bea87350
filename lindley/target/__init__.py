"""The log density to sample: model likelihood times matched prior, single or pooled, compiled."""
