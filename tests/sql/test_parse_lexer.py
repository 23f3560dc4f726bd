"""PostgreSQL's lexical rules, case by case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import MeridianError
from sql.parse.lexer import BITS, IDENT, NUMBER, OP, PARAM, PUNCT, STRING, WORD, scan

CASES = [
    ("SELECT Ärger", [(WORD, "select"), (WORD, "Ärger")]),
    ('"A ""b"""', [(IDENT, 'A "b"')]),
    ("'it''s'", [(STRING, "it's")]),
    ("'a'\n  'b' -- c\n 'd'", [(STRING, "abd")]),
    ("'a' 'b'", [(STRING, "a"), (STRING, "b")]),
    (r"E'a\n\x41\101\u00e9\'b'", [(STRING, "a\nAAé'b")]),
    (r"e'\ud83d\ude00'", [(STRING, "😀")]),
    (r"U&'d\0061t\+00006F\\' ", [(STRING, "dato\\")]),
    ("U&'d!0061t' UESCAPE '!'", [(STRING, "dat")]),
    ('U&"d\\0061t"', [(IDENT, "dat")]),
    ("N'x'", [(STRING, "x")]),
    ("B'10' x'1F'", [(BITS, "b10"), (BITS, "x1F")]),
    ("$$a'b$$ $t$ $$ $t$", [(STRING, "a'b"), (STRING, " $$ ")]),
    ("$1,$2", [(PARAM, "1"), (PUNCT, ","), (PARAM, "2")]),
    ("1 1.5 .5 5. 1e10 1.5E-3", [(NUMBER, x) for x in ("1", "1.5", ".5", "5.", "1e10", "1.5E-3")]),
    ("1..2", [(NUMBER, "1"), (PUNCT, ".."), (NUMBER, "2")]),
    ("a<-b", [(WORD, "a"), (OP, "<"), (OP, "-"), (WORD, "b")]),
    ("a<->b", [(WORD, "a"), (OP, "<->"), (WORD, "b")]),
    ("a@-1", [(WORD, "a"), (OP, "@-"), (NUMBER, "1")]),
    ("a*-1", [(WORD, "a"), (OP, "*"), (OP, "-"), (NUMBER, "1")]),
    ("a::int", [(WORD, "a"), (PUNCT, "::"), (WORD, "int")]),
    ("1 /* a /* b */ c */ + 2 -- x", [(NUMBER, "1"), (OP, "+"), (NUMBER, "2")]),
    ("a+/* x */b", [(WORD, "a"), (OP, "+"), (WORD, "b")]),
    ("f(a := 1, b => 2)", None),
    ("x" * 70, [(WORD, "x" * 63)]),
    ('"' + "é" * 40 + '"', [(IDENT, "é" * 31)]),
]


@pytest.mark.parametrize(("sql", "expected"), CASES, ids=[case[0][:20] for case in CASES])
def test_lexemes(sql: str, expected: list[tuple[int, str]] | None) -> None:
    found = [(lexeme.kind, lexeme.text) for lexeme in scan(sql)]
    assert expected is None or found == expected


@pytest.mark.parametrize(
    ("sql", "message", "position"),
    [
        ("select 'abc", 'unterminated quoted string at or near "\'abc"', 8),
        ('select "abc', 'unterminated quoted identifier at or near ""abc"', 8),
        ("1_000", 'trailing junk after numeric literal at or near "1_"', 1),
        ("0x1F", 'trailing junk after numeric literal at or near "0x"', 1),
        ("select $1a", 'trailing junk after parameter at or near "$1a"', 8),
        ("/* x", 'unterminated /* comment at or near "/* x"', 1),
        ("$t$ x", 'unterminated dollar-quoted string at or near "$t$ x"', 1),
        ('""', 'zero-length delimited identifier at or near """"', 1),
        (r"E'\u00'", "invalid Unicode escape", 1),
        (r"U&'\d800'", "invalid Unicode surrogate pair", 1),
    ],
)
def test_lexical_errors(sql: str, message: str, position: int) -> None:
    with pytest.raises(MeridianError) as caught:
        scan(sql)
    assert (caught.value.sqlstate, caught.value.message, caught.value.position) == ("42601", message, position)


@given(st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), min_size=1, max_size=15))
def test_quoting_round_trips(text: str) -> None:
    """What quote_literal and quote_ident write is read back."""
    string = scan("'" + text.replace("'", "''") + "'")
    assert [(lexeme.kind, lexeme.text) for lexeme in string] == [(STRING, text)]
    name = scan('"' + text.replace('"', '""') + '"')
    assert [(lexeme.kind, lexeme.text) for lexeme in name] == [(IDENT, text)]


@given(st.text("ab1 '\"$<>-+*/@~.,:;()[]\n\\Ee&Uu", max_size=40))
def test_lexemes_cover_the_text_in_order(sql: str) -> None:
    """Any text is read or refused; lexemes never overlap and never go back."""
    try:
        lexemes = scan(sql)
    except MeridianError as refused:
        assert refused.sqlstate in ("42601", "22021")
        return
    end = 0
    for lexeme in lexemes:
        assert end <= lexeme.start < lexeme.end <= len(sql)
        end = lexeme.end
