"""Commands on the members of panels."""
