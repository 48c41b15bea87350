"""The browser of the tests of pages."""

from __future__ import annotations

import shutil

#: Path of the program; None where there is none.
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NO_BROWSER = "NO BROWSER: neither chromium nor google-chrome is on the PATH, the pages were not tested"
