"""Whether parameters mean the same in every batch, and what moves their meaning."""
