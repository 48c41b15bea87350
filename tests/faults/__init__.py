"""What a chain survives: races, kills, tampering, hostile bytes."""
