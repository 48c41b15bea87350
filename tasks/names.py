"""Names that tasks and flows share; imports nothing, because `lindley up` starts with it."""

from __future__ import annotations

#: Name of the flow that asks a person, and of its deployment. While its runs wait they have no process.
DECIDE = "decide"
#: Tag of its runs.
DECIDE_TAG = f"kind:{DECIDE}"
