"""Structured logs: events with fields, for people (console) or machines (json).

Never per row, and never a password: the text of a PASSWORD clause is struck out of every field.
structlog, and what it brings along, is imported at the first event: a node that starts well has none.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

_PASSWORD: Final = re.compile(
    r"""(\bPASSWORD\s*=?\s*)(?:[eEuU]&?)?('(?:[^']|'')*'?|\$(\w*)\$.*?(?:\$\3\$|$))""", re.I | re.S
)
_DSN_PASSWORD: Final = re.compile(r"(\w+://[^:/@\s]+):[^@\s/]+@")
_VERIFIER: Final = re.compile(r"SCRAM-SHA-256\$[^\s'\"]+")
STRUCK_OUT: Final = "********"


def redact(text: str) -> str:
    """Strikes out passwords: those of SQL statements, of connection strings, and stored verifiers."""
    text = _PASSWORD.sub(rf"\1'{STRUCK_OUT}'", text)
    text = _DSN_PASSWORD.sub(rf"\1:{STRUCK_OUT}@", text)
    return _VERIFIER.sub(f"SCRAM-SHA-256${STRUCK_OUT}", text)


def _redact_fields(logger: Any, method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {name: redact(value) if isinstance(value, str) else value for name, value in event.items()}


class Log:
    """The node's log, to standard error."""

    def __init__(self, log_format: str = "console", level: str = "info") -> None:
        self._format = log_format
        self._level = logging.getLevelNamesMapping()[level.upper()]
        self._logger: Any = None

    def info(self, event: str, **fields: Any) -> None:
        """What an operator wants to know later."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """What an operator should look at."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """What must not happen."""
        self._write(logging.ERROR, event, fields)

    def _write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if level < self._level:
            return
        if self._logger is None:
            self._logger = self._make()
        self._logger.log(level, event, **fields)

    def _make(self) -> Any:
        import structlog

        renderer: Any = (
            structlog.processors.JSONRenderer()
            if self._format == "json"
            else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        )
        return structlog.wrap_logger(
            structlog.PrintLogger(sys.stderr),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                _redact_fields,
                renderer,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(self._level),
        )
