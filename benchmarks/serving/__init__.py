"""How soon `lindley serve` answers, and whether it does while the head moves."""
