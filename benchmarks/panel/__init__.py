"""The benchmark of panels: thousands of beliefs of one model."""
