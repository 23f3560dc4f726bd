"""Logs: one line per event, two forms, never a password."""

from __future__ import annotations

import json

import pytest

from node.logs import Log, redact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ALTER ROLE root PASSWORD 'it''s secret' VALID UNTIL 'infinity'", "ALTER ROLE root PASSWORD '********' VALID UNTIL 'infinity'"),
        ("create user u with password $$top'secret$$;", "create user u with password '********';"),
        ("create user u password $x$a$$b$x$ login", "create user u password '********' login"),
        ("create user u password E'a\\nb'", "create user u password '********'"),
        ("ALTER ROLE r PASSWORD 'unfinished", "ALTER ROLE r PASSWORD '********'"),
        ("ALTER ROLE r PASSWORD NULL", "ALTER ROLE r PASSWORD NULL"),
        ("postgresql://root:hunter2@host:1/db", "postgresql://root:********@host:1/db"),
        ("secret='SCRAM-SHA-256$4096:c2FsdA==$a2V5:a2V5'", "secret='SCRAM-SHA-256$********'"),
        ("select password from t where x = 'kept'", "select password from t where x = 'kept'"),
    ],
)  # fmt: skip
def test_passwords_are_struck_out(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log("json", "info")
    log.info("draining", connections=2)
    log.error("internal error", trace="PASSWORD 'x'")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["event"]) for line in lines] == [("info", "draining"), ("error", "internal error")]
    assert lines[0]["connections"] == 2
    assert lines[1]["trace"] == "PASSWORD '********'"


def test_console_lines_and_levels(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log("console", "warning")
    log.info("not shown")
    log.warning("disk is slow", milliseconds=12)
    (line,) = capsys.readouterr().err.splitlines()
    assert "disk is slow" in line
    assert "milliseconds=12" in line
