"""The drift benchmark: chains over streams whose posterior is exactly known at every link; see README.md."""
