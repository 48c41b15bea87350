"""What a person decides on candidates and quarantined versions."""
