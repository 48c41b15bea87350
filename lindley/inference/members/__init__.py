"""Many beliefs of one model, each updated by itself: the members of a panel."""
