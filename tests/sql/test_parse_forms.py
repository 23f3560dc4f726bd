"""All statement forms, and (where a directory is named) everything real clients were seen to send."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base.errors import MeridianError
from sql.parse import parse
from sql.parse.lexer import scan
from tests.sql.blocks import check_blocks, read_blocks

CORPUS_VARIABLE = "MERIDIAN_CLIENT_CORPUS"
"""Names a directory of JSON files, each a list of statements a client sent."""
ALLOWED = ("0A000", "42601")


def outcome(sql: str) -> str:
    try:
        return ", ".join(type(parsed.statement).__name__ for parsed in parse(sql)) or "nothing"
    except MeridianError as failure:
        at = "" if failure.position is None else f" at {failure.position}"
        return f"{failure.sqlstate} {failure.message}{at}"


def test_forms() -> None:
    """Parsed, or rejected by name: nothing in between."""
    check_blocks("forms.txt", outcome)
    for block in read_blocks("forms.txt"):
        if block.outcome[:1].isdigit():
            assert block.outcome.startswith((*ALLOWED, "22023")), block


@pytest.mark.skipif(CORPUS_VARIABLE not in os.environ, reason="no corpus of client statements here")
def test_client_statements() -> None:
    """Every statement of the corpus is parsed, or refused with 0A000 or 42601."""
    seen: set[str] = set()
    for path in sorted(Path(os.environ[CORPUS_VARIABLE]).glob("*.json")):
        content = json.loads(path.read_text())
        if not isinstance(content, list):
            continue
        for sql in content:
            if isinstance(sql, str) and sql not in seen:
                seen.add(sql)
                found = outcome(sql)
                assert not found[:1].isdigit() or found.startswith(ALLOWED), f"{path.name}: {sql}: {found}"
    assert len(seen) > 100


FORMS = [
    block.sql for block in read_blocks("forms.txt") if block.sql and block.outcome and not block.outcome[:1].isdigit()
]
WORDS = sorted({sql[x.start : x.end] for sql in FORMS for x in scan(sql)})


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FORMS), st.data())
def test_mutated_statements_are_read_or_refused(sql: str, data: st.DataObject) -> None:
    """One lexeme taken out, put in or exchanged: an answer or an error of ours, at once, never a crash or an endless loop."""
    lexemes = [sql[x.start : x.end] for x in scan(sql)]
    at = data.draw(st.integers(0, max(len(lexemes) - 1, 0)))
    action = data.draw(st.sampled_from(["delete", "insert", "replace"]))
    if action == "insert":
        lexemes.insert(at, data.draw(st.sampled_from(WORDS)))
    elif lexemes:
        lexemes[at : at + 1] = [] if action == "delete" else [data.draw(st.sampled_from(WORDS))]
    try:
        parse(" ".join(lexemes))
    except MeridianError as failure:
        assert failure.sqlstate[:2] in ("0A", "42", "22", "54"), failure
