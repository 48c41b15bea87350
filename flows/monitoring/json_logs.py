"""Logs as JSON, one object a line, where ``LINDLEY_LOG=json`` asks for them. Secrets are left out.

Prefect takes the format of its console from the environment when it is imported; `VARIABLES` names it there,
so that servers, workers and the processes of runs follow.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from typing import Any

from flows.unexpected import without_secrets
from lindley.errors import LindleyError

#: The setting, and its values.
VARIABLE, TEXT, JSON = "LINDLEY_LOG", "text", "json"
#: What Prefect's logging reads.
VARIABLES = {
    "PREFECT_LOGGING_FORMATTERS_JSON_CLASS": "flows.monitoring.json_logs.JsonFormatter",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER": "json",
}
#: Attributes of Prefect's log records that lines have, by their key there.
_OF_RUN = ("flow_name", "flow_run_name", "flow_run_id", "task_run_name", "task_run_id", "worker_name")


class LogFormatRefused(LindleyError):
    """The setting of the log format has another value than those that it may have."""


def json_wanted() -> bool:
    """Return whether logs are JSON.

    Raises
    ------
    LogFormatRefused
        If the setting is something else.
    """
    found = os.environ.get(VARIABLE) or TEXT
    if found not in (TEXT, JSON):
        raise LogFormatRefused(
            f"{VARIABLE} names no format of logs",
            expected=f"{TEXT} or {JSON}",
            found=repr(found)[:40],
            todo=f"set it to {JSON}, or unset it",
        )
    return found == JSON


class JsonFormatter(logging.Formatter):
    """Formats a log record as one line of JSON.

    Keys: ``time`` (UTC, ISO 8601), ``level``, ``logger``, ``message``; of a flow run its names and ids; with
    an exception ``error``, its traceback. All in ASCII, so that no text can control a terminal.
    """

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
        }
        line |= {key: str(getattr(record, key)) for key in _OF_RUN if getattr(record, key, None)}
        if record.exc_info:
            line["error"] = without_secrets(self.formatException(record.exc_info))
        return json.dumps(line)


def log_line(logger: str, sentence: str) -> str:
    """Return a sentence as a line of a log: as it is, or as JSON."""
    if not json_wanted():
        return sentence
    return JsonFormatter().format(logging.LogRecord(logger, logging.INFO, "", 0, sentence, None, None))


def configure(level: int) -> None:
    """Set the root logger up for a process of its own."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if json_wanted() else logging.Formatter("%(asctime)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
