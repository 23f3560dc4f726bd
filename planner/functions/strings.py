"""text, name, bpchar: length and position, case, padding, splitting, quoting.

Positions count characters from 1.  Lengths of results are bounded (54000) before they are
made.  PostgreSQL 15 manual: 9.4.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Any, Final

from base.errors import error
from planner.functions.declare import define, define_operator
from planner.functions.registry import Registry

LENGTH_MAX: Final = 1 << 28
"""Longest string or bytea a function makes (bytes; PostgreSQL's limit is 1 GB)."""
KEYWORDS_RESERVED: Final = frozenset(
    [
        "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "authorization", "between", "bigint", "binary", "bit",
        "boolean", "both", "case", "cast", "char", "character", "check", "coalesce", "collate", "collation", "column", "concurrently",
        "constraint", "create", "cross", "current_catalog", "current_date", "current_role", "current_schema", "current_time",
        "current_timestamp", "current_user", "dec", "decimal", "default", "deferrable", "desc", "distinct", "do", "else", "end", "except",
        "exists", "extract", "false", "fetch", "float", "for", "foreign", "freeze", "from", "full", "grant", "greatest", "group", "grouping",
        "having", "ilike", "in", "initially", "inner", "inout", "int", "integer", "intersect", "interval", "into", "is", "isnull", "join",
        "lateral", "leading", "least", "left", "like", "limit", "localtime", "localtimestamp", "national", "natural", "nchar", "none",
        "normalize", "not", "notnull", "null", "nullif", "numeric", "offset", "on", "only", "or", "order", "out", "outer", "overlaps",
        "overlay", "placing", "position", "precision", "primary", "real", "references", "returning", "right", "row", "select",
        "session_user", "setof", "similar", "smallint", "some", "substring", "symmetric", "table", "tablesample", "then", "time", "timestamp",
        "to", "trailing", "treat", "trim", "true", "union", "unique", "user", "using", "values", "varchar", "variadic", "verbose", "when",
        "where", "window", "with", "xmlattributes", "xmlconcat", "xmlelement", "xmlexists", "xmlforest", "xmlnamespaces", "xmlparse", "xmlpi",
        "xmlroot", "xmlserialize", "xmltable",
    ]
)  # fmt: skip
"""Words that need quotes as identifiers: all that are not UNRESERVED in PostgreSQL 15's keyword list."""


def check_length(length: int) -> None:
    """Refuses results that would be too long."""
    if length > LENGTH_MAX:
        raise error("54000", "requested length too large")


def octet_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def initcap(text: str) -> str:
    """Upper case for the first letter of every run of letters and digits."""
    out: list[str] = []
    inside = False
    for char in text:
        out.append(char.lower() if inside else char.upper())
        inside = char.isalnum()
    return "".join(out)


def substring(text: str, start: int) -> str:
    """Characters from ``start`` (1-based) on."""
    return text[max(start, 1) - 1 :]


def substring_length(text: str, start: int, length: int) -> str:
    """``length`` characters from ``start``, of which some may lie before the text."""
    if length < 0:
        raise error("22011", "negative substring length not allowed")
    return text[max(start, 1) - 1 : max(start + length, 1) - 1]


def overlay(text: str, replacement: str, start: int, length: int | None = None) -> str:
    """Replaces ``length`` characters (default: as many as the replacement has) from ``start``."""
    if start <= 0:
        raise error("22011", "negative substring length not allowed")
    end = start + (len(replacement) if length is None else length)
    return substring_length(text, 1, start - 1) + replacement + substring(text, end)


def position(text: str, wanted: str) -> int:
    """strpos(): 1-based, 0 if absent."""
    return text.find(wanted) + 1


def pad_left(text: str, length: int, fill: str = " ") -> str:
    missing = _padding(text, length, fill)
    return missing + text[: max(length, 0)] if missing else text[: max(length, 0)]


def pad_right(text: str, length: int, fill: str = " ") -> str:
    return text[: max(length, 0)] + _padding(text, length, fill)


def _padding(text: str, length: int, fill: str) -> str:
    missing = length - len(text)
    if missing <= 0 or not fill:
        return ""
    check_length(length)
    return (fill * (missing // len(fill) + 1))[:missing]


def trim_both(text: str, characters: str = " ") -> str:
    return text.strip(characters) if characters else text


def trim_left(text: str, characters: str = " ") -> str:
    return text.lstrip(characters) if characters else text


def trim_right(text: str, characters: str = " ") -> str:
    return text.rstrip(characters) if characters else text


def left(text: str, count: int) -> str:
    """The first ``count`` characters; all but the last -count if negative."""
    return text[:count]


def right(text: str, count: int) -> str:
    """The last ``count`` characters; all but the first -count if negative."""
    if count == 0:
        return ""
    return text[-count:]


def repeat(text: str, count: int) -> str:
    if count <= 0:
        return ""
    check_length(len(text) * count)
    return text * count


def replace(text: str, wanted: str, replacement: str) -> str:
    if not wanted:
        return text
    if len(replacement) > len(wanted):
        check_length(len(text) + text.count(wanted) * (len(replacement) - len(wanted)))
    return text.replace(wanted, replacement)


def translate(text: str, characters: str, replacements: str) -> str:
    """Replaces each character of the first set by that at its place in the second, or removes it."""
    table: dict[int, str | None] = {}
    for i, char in enumerate(characters):
        table.setdefault(ord(char), replacements[i] if i < len(replacements) else None)
    return text.translate(table)


def split_part(text: str, delimiter: str, number: int) -> str:
    """The n-th field, counted from the end if negative; '' if there is none."""
    if number == 0:
        raise error("22023", "field position must not be zero")
    fields = text.split(delimiter) if delimiter else [text]
    at = number - 1 if number > 0 else len(fields) + number
    return fields[at] if 0 <= at < len(fields) else ""


def split(text: str | None, delimiter: str | None, null_text: str | None = None) -> tuple[str | None, ...] | None:
    """string_to_array: a NULL delimiter gives characters, an empty one a single field."""
    if text is None:
        return None
    if not text:
        return ()
    fields: list[str] = list(text) if delimiter is None else text.split(delimiter) if delimiter else [text]
    if null_text is None:
        return tuple(fields)
    return tuple([None if field == null_text else field for field in fields])


def split_rows(text: str | None, delimiter: str | None, null_text: str | None = None) -> Iterator[str | None]:
    """string_to_table."""
    yield from split(text, delimiter, null_text) or ()


def ascii_code(text: str) -> int:
    return ord(text[0]) if text else 0


def character(code: int) -> str:
    """chr()."""
    if code < 0:
        raise error("54000", "character number must be positive")
    if code == 0:
        raise error("54000", "null character not permitted")
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise error("54000", f"requested character too large for encoding: {code}")
    return chr(code)


def to_hex(value: int) -> str:
    """Negative numbers as two's complement."""
    return f"{value & 0xFFFFFFFFFFFFFFFF:x}"


def to_hex4(value: int) -> str:
    return f"{value & 0xFFFFFFFF:x}"


# --- quoting ------------------------------------------------------------------------


def quote_ident(name: str) -> str:
    """Double quotes where the name would not read back as itself."""
    plain = (
        bool(name)
        and (name[0].islower() or name[0] == "_")
        and all(c == "_" or (c.isascii() and (c.islower() or c.isdigit())) for c in name)
    )
    if plain and name not in KEYWORDS_RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """As a string literal; with backslashes, in the E'' form."""
    quoted = "'" + text.replace("'", "''").replace("\\", "\\\\") + "'"
    return "E" + quoted if "\\" in text else quoted


def quote_nullable(text: str | None) -> str:
    return "NULL" if text is None else quote_literal(text)


def parse_ident(text: str, strict: bool = True) -> tuple[str, ...]:
    """Splits a qualified identifier into its parts, unquoted and folded."""
    parts: list[str] = []
    at = 0
    while True:
        at = _skip_blanks(text, at)
        if text.startswith('"', at):
            part, at = _quoted_part(text, at)
        else:
            start = at
            while at < len(text) and (text[at].isalnum() or text[at] in "_$" or ord(text[at]) > 127):
                at += 1
            part = text[start:at].lower()
            if not part or part[0].isdigit():
                raise _bad_identifier(text, text[start : start + 1] == "." and not parts)
        parts.append(part)
        at = _skip_blanks(text, at)
        if not text.startswith(".", at):
            break
        at += 1
    if at < len(text) and strict:
        raise _bad_identifier(text)
    return tuple(parts)


def _skip_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\n\r\f\v":
        at += 1
    return at


def _quoted_part(text: str, at: int) -> tuple[str, int]:
    out: list[str] = []
    at += 1
    while True:
        end = text.find('"', at)
        if end < 0:
            raise error(
                "22023", f'string is not a valid identifier: "{text}"', detail="String has unclosed double quotes."
            )
        out.append(text[at:end])
        if not text.startswith('""', end):
            break
        out.append('"')
        at = end + 2
    part = "".join(out)
    if not part:
        raise error(
            "22023", f'string is not a valid identifier: "{text}"', detail="Quoted identifier must not be empty."
        )
    return part, end + 1


def _bad_identifier(text: str, before_dot: bool = False) -> Exception:
    detail = 'No valid identifier before ".".' if before_dot else None
    return error("22023", f'string is not a valid identifier: "{text}"', detail=detail)


# --- Unicode ------------------------------------------------------------------------

_FORMS: Final = {"nfc": "NFC", "nfd": "NFD", "nfkc": "NFKC", "nfkd": "NFKD"}


def _form(name: str) -> Any:
    form = _FORMS.get(name.lower())
    if form is None:
        raise error("22023", f"invalid normalization form: {name}")
    return form


def normalize(text: str, form: str = "NFC") -> str:
    return unicodedata.normalize(_form(form), text)


def is_normalized(text: str, form: str = "NFC") -> bool:
    return unicodedata.is_normalized(_form(form), text)


def unescape_unicode(text: str) -> str:
    """unistr(): \\XXXX, \\+XXXXXX, \\uXXXX, \\UXXXXXXXX and \\\\; surrogates must come in pairs."""
    out: list[str] = []
    at = 0
    high = 0
    while at < len(text):
        if text[at] != "\\":
            if high:
                raise _bad_pair()
            out.append(text[at])
            at += 1
            continue
        if text.startswith("\\\\", at):
            out.append("\\")
            at += 2
            continue
        code, at = _escape_at(text, at)
        high = _append_unit(out, code, high)
    if high:
        raise _bad_pair()
    return "".join(out)


def _append_unit(out: list[str], code: int, high: int) -> int:
    """Appends a code point, or joins a surrogate to its other half; returns a high surrogate that waits."""
    if high:
        if not 0xDC00 <= code <= 0xDFFF:
            raise _bad_pair()
        out.append(chr(0x10000 + ((high & 0x3FF) << 10) + (code & 0x3FF)))
        return 0
    if 0xD800 <= code <= 0xDBFF:
        return code
    if 0xDC00 <= code <= 0xDFFF:
        raise _bad_pair()
    if code == 0 or code > 0x10FFFF:
        raise error("22023", f"invalid Unicode code point: {code:04X}")
    out.append(chr(code))
    return 0


def _escape_at(text: str, at: int) -> tuple[int, int]:
    for prefix, width in (("\\+", 6), ("\\u", 4), ("\\U", 8), ("\\", 4)):
        if text.startswith(prefix, at):
            start = at + len(prefix)
            digits = text[start : start + width]
            if len(digits) == width and all(c in "0123456789abcdefABCDEF" for c in digits):
                return int(digits, 16), start + width
            if prefix != "\\":
                break
    raise error(
        "42601", "invalid Unicode escape", hint="Unicode escapes must be \\XXXX, \\+XXXXXX, \\uXXXX, or \\UXXXXXXXX."
    )


def _bad_pair() -> Exception:
    return error("42601", "invalid Unicode surrogate pair")


def _register_basic(registry: Registry) -> None:
    for name in ("length", "char_length", "character_length"):
        define(registry, f"{name}(text) int4", inline="len({0})")
        define(registry, f"{name}(bpchar) int4", inline='len({0}.rstrip(" "))')
    for text_type in ("text", "bpchar"):
        define(registry, f"octet_length({text_type}) int4", octet_length)
    define(registry, "bit_length(text) int4", lambda text: 8 * octet_length(text))
    define(registry, "lower(text) text", inline="{0}.lower()")
    define(registry, "upper(text) text", inline="{0}.upper()")
    define(registry, "initcap(text) text", initcap)
    define(registry, "reverse(text) text", inline="{0}[::-1]")
    define(registry, "ascii(text) int4", ascii_code)
    define(registry, "chr(int4) text", character)
    define(registry, "to_hex(int4) text", to_hex4)
    define(registry, "to_hex(int8) text", to_hex)
    define(registry, "starts_with(text, text) bool", inline="{0}.startswith({1})")
    define_operator(registry, "^@", "starts_with(text, text) bool", inline="{0}.startswith({1})")


def _register_parts(registry: Registry) -> None:
    for name in ("substring", "substr"):
        define(registry, f"{name}(text, int4) text", substring)
        define(registry, f"{name}(text, int4, int4) text", substring_length)
    define(registry, "position(text, text) int4", position)
    define(registry, "strpos(text, text) int4", position)
    define(registry, "overlay(text, text, int4) text", overlay)
    define(registry, "overlay(text, text, int4, int4) text", overlay)
    for name, impl in (("lpad", pad_left), ("rpad", pad_right)):
        define(registry, f"{name}(text, int4) text", impl)
        define(registry, f"{name}(text, int4, text) text", impl)
    for name, trim in (("btrim", trim_both), ("ltrim", trim_left), ("rtrim", trim_right)):
        define(registry, f"{name}(text) text", trim)
        define(registry, f"{name}(text, text) text", trim)
    define(registry, "left(text, int4) text", left)
    define(registry, "right(text, int4) text", right)
    define(registry, "repeat(text, int4) text", repeat)
    define(registry, "replace(text, text, text) text", replace)
    define(registry, "translate(text, text, text) text", translate)
    define(registry, "split_part(text, text, int4) text", split_part)
    for arguments in ("text, text", "text, text, text"):
        define(registry, f"string_to_array({arguments}) text[]", split, strict=False)
        define(registry, f"string_to_table({arguments}) setof text", split_rows, strict=False)


def register(registry: Registry) -> None:
    """Adds this family."""
    _register_basic(registry)
    _register_parts(registry)
    define_operator(registry, "||", "textcat(text, text) text", inline="({0} + {1})")
    define(registry, "quote_ident(text) text", quote_ident)
    define(registry, "quote_literal(text) text", quote_literal)
    define(registry, "quote_nullable(text) text", quote_nullable, strict=False)
    define(registry, "parse_ident(text) text[]", parse_ident)
    define(registry, "parse_ident(text, bool) text[]", parse_ident)
    define(registry, "normalize(text) text", normalize)
    define(registry, "normalize(text, text) text", normalize)
    define(registry, "is_normalized(text) bool", is_normalized)
    define(registry, "is_normalized(text, text) bool", is_normalized)
    define(registry, "unistr(text) text", unescape_unicode)
