"""What a model and a batch will do, found out before anything is sampled or written."""
