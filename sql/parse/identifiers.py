"""Names inside text values: ``'public."My table"'::regclass``, search paths, parse_ident."""

from __future__ import annotations

from base.errors import SqlError

NAME_BYTES_MAX = 63


def split_name(text: str) -> tuple[str, ...]:
    """Splits a possibly qualified, possibly quoted name; folds unquoted parts to lower case."""
    parts: list[str] = []
    at, size = 0, len(text)
    while True:
        while at < size and text[at].isspace():
            at += 1
        if at < size and text[at] == '"':
            end = at + 1
            current = ""
            while True:
                close = text.find('"', end)
                if close < 0:
                    raise _invalid(text)
                current += text[end:close]
                if text[close + 1 : close + 2] == '"':
                    current += '"'
                    end = close + 2
                    continue
                at = close + 1
                break
            parts.append(current)
        else:
            end = at
            while end < size and text[end] != "." and not text[end].isspace():
                end += 1
            if end == at:
                raise _invalid(text)
            parts.append(text[at:end].lower())
            at = end
        while at < size and text[at].isspace():
            at += 1
        if at >= size:
            return tuple(parts)
        if text[at] != ".":
            raise _invalid(text)
        at += 1


def _invalid(text: str) -> SqlError:
    return SqlError("invalid name syntax", sqlstate="42602", detail=f"The name was {text!r}.")
