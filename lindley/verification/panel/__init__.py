"""Rules on the links of panels."""
