"""What the user declares: the PyMC model, the policy, the graph and coordinates derived from them."""
