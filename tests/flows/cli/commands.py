"""Run a command of Lindley in this process."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner, Result

from flows.cli.__main__ import app


def run(*arguments: object) -> Result:
    """Run it with these arguments."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def document(result: Result) -> Any:
    """Return the JSON that it printed."""
    return json.loads(result.stdout)
