"""What code a model is: its file, and the modules and distributions that it imports."""
