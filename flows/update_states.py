"""Names of flow runs' final states."""

#: Name of the final state by what became of the work.
STATE_NAMES = {
    "accepted": "Completed",
    "audited": "Completed",
    "quarantined": "Quarantined",
    "unchanged": "Unchanged",
    "gone": "Unchanged",
    "unfinished": "Unfinished",
}
