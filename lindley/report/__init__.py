"""Tables, notes, figures. Imports nothing of lindley."""
