"""COPY's file formats: text, csv, binary (PostgreSQL's reference page of COPY).

Readers take chunks of any size and give rows of raw fields (``str`` or None; bytes for binary); writers take rows of
encoded fields.  No format here knows types: the command decodes and encodes fields.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import Any, Final

from base.errors import SqlError

SIGNATURE: Final = b"PGCOPY\n\xff\r\n\x00"
ROW_BYTES_MAX: Final = 64 << 20
"""Longest line or binary field."""
_SHORT: Final = struct.Struct("!h")
_INT: Final = struct.Struct("!i")
_ESCAPE: Final = re.compile(r"\\(x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class CopyOptions:
    """Checked options of one COPY."""

    def __init__(self, options: dict[str, Any], is_from: bool) -> None:
        self.format = str(options.get("format", "text")).lower()
        if self.format not in ("text", "csv", "binary"):
            raise SqlError(f'COPY format "{self.format}" not recognized', sqlstate="22023")
        is_csv = self.format == "csv"
        header = options.get("header", False)
        self.header = header if header == "match" else str(header).lower() in ("true", "on", "1", "yes")
        self.delimiter = str(options.get("delimiter", "," if is_csv else "\t"))
        self.null = str(options.get("null", "" if is_csv else "\\N"))
        self.quote = str(options.get("quote", '"'))
        self.escape = str(options.get("escape", self.quote))
        self.force_quote: Sequence[str] = options.get("force_quote", ())
        self.force_not_null: Sequence[str] = options.get("force_not_null", ())
        self.force_null: Sequence[str] = options.get("force_null", ())
        self.is_from = is_from
        self._check(options, is_csv)

    def _check(self, options: dict[str, Any], is_csv: bool) -> None:
        if self.format == "binary" and ("delimiter" in options or "null" in options or self.header):
            name = "DELIMITER" if "delimiter" in options else "NULL" if "null" in options else "HEADER"
            raise SqlError(f"cannot specify {name} in BINARY mode", sqlstate="42601")
        if len(self.delimiter.encode()) != 1:
            raise SqlError("COPY delimiter must be a single one-byte character", sqlstate="0A000")
        if self.delimiter in "\r\n" or self.null.find("\n") >= 0 or self.null.find("\r") >= 0:
            raise SqlError("COPY delimiter cannot be newline or carriage return", sqlstate="22023")
        if not is_csv and self.delimiter in "\\.abcdefghijklmnopqrstuvwxyz0123456789":
            raise SqlError(f'COPY delimiter cannot be "{self.delimiter}"', sqlstate="22023")
        for name in ("quote", "escape", "force_quote", "force_not_null", "force_null"):
            if name in options and not is_csv:
                raise SqlError(f"COPY {name.replace('_', ' ')} available only in CSV mode", sqlstate="0A000")
        if is_csv and (len(self.quote.encode()) != 1 or len(self.escape.encode()) != 1):
            raise SqlError("COPY quote must be a single one-byte character", sqlstate="0A000")
        if is_csv and self.delimiter == self.quote:
            raise SqlError("COPY delimiter and quote must be different", sqlstate="22023")
        encoding = str(options.get("encoding", "UTF8")).upper().replace("-", "")
        if encoding not in ("UTF8", "UNICODE", "SQL_ASCII"):
            raise SqlError(f'COPY encoding "{encoding}" is not supported', sqlstate="0A000")


Fields = list[Any]


class TextReader:
    """Lines of backslash-escaped fields."""

    def __init__(self, options: CopyOptions) -> None:
        self._delimiter = options.delimiter
        self._null = options.null
        self._rest = b""
        self.line = 0
        """Of the data, how many are read."""
        self.lines: list[str] = []
        """Those of the rows that were returned last, as they came."""
        self.is_done = False

    def feed(self, chunk: bytes) -> list[Fields]:
        """Returns the rows completed by a chunk."""
        self.lines = []
        data = self._rest + chunk
        end = data.rfind(b"\n")
        while end > 0 and _ends_escaped(data, end):
            end = data.rfind(b"\n", 0, end)
        if end < 0:
            if len(data) > ROW_BYTES_MAX:
                raise SqlError("COPY line is too long", sqlstate="54000")
            self._rest = data
            return []
        self._rest = data[end + 1 :]
        return self._rows(data[:end])

    def finish(self) -> list[Fields]:
        """Returns the last row, if the data did not end with a newline."""
        self.lines = []
        rest, self._rest = self._rest, b""
        return self._rows(rest) if rest else []

    def _rows(self, data: bytes) -> list[Fields]:
        if self.is_done:
            return []
        text = decode_utf8(data)
        delimiter, null = self._delimiter, self._null
        if "\\" in null and "\\" not in text and "\r" not in text:
            # Nothing escaped, no NULL, no end: most data.
            self.lines = text.split("\n")
            self.line += len(self.lines)
            return [line.split(delimiter) for line in self.lines]
        rows: list[Fields] = []
        for line in self._lines(text):
            self.line += 1
            if line.endswith("\r"):
                line = line[:-1]
            if line == "\\.":
                self.is_done = True
                break
            self.lines.append(line)
            if "\\" in line:
                rows.append(self._escaped(line))
            else:
                rows.append([None if field == null else field for field in line.split(delimiter)])
        return rows

    def _lines(self, text: str) -> list[str]:
        lines = text.split("\n")
        if "\\\n" not in text:
            return lines
        joined: list[str] = []
        pending = ""
        for line in lines:
            pending += line
            backslashes = len(pending) - len(pending.rstrip("\\"))
            if backslashes % 2:
                pending += "\n"
            else:
                joined.append(pending)
                pending = ""
        return [*joined, pending] if pending else joined

    def _escaped(self, line: str) -> Fields:
        raw = _split_escaped(line, self._delimiter) if "\\" + self._delimiter in line else line.split(self._delimiter)
        null = self._null
        return [None if field == null else _ESCAPE.sub(_unescape, field) if "\\" in field else field for field in raw]


def _ends_escaped(data: bytes, end: int) -> bool:
    backslashes = 0
    while end - 1 - backslashes >= 0 and data[end - 1 - backslashes] == 0x5C:
        backslashes += 1
    return backslashes % 2 == 1


def _split_escaped(line: str, delimiter: str) -> list[str]:
    fields, current, escaped = [], "", False
    for char in line:
        if escaped:
            current, escaped = current + "\\" + char, False
        elif char == "\\":
            escaped = True
        elif char == delimiter:
            fields.append(current)
            current = ""
        else:
            current += char
    fields.append(current + ("\\" if escaped else ""))
    return fields


def _unescape(match: re.Match[str]) -> str:
    code = match.group(1)
    if code in _ESCAPES:
        return _ESCAPES[code]
    if code[0] == "x" and len(code) > 1:
        return chr(int(code[1:], 16))
    if code[0] in "01234567":
        return chr(int(code, 8) & 0xFF)
    return code


def decode_utf8(data: bytes) -> str:
    """Raises 22021."""
    try:
        return data.decode()
    except UnicodeDecodeError as problem:
        lead = data[problem.start]
        length = 4 if lead >= 0xF0 else 3 if lead >= 0xE0 else 2 if lead >= 0xC0 else 1
        shown = " ".join(f"0x{byte:02x}" for byte in data[problem.start : problem.start + length])
        found = SqlError(f'invalid byte sequence for encoding "UTF8": {shown}', sqlstate="22021")
        found.row = data.count(b"\n", 0, problem.start)
        raise found from None


class CsvReader:
    """RFC 4180 as PostgreSQL reads it: quotes may hold delimiters and newlines; an unquoted NULL marker is NULL."""

    def __init__(self, options: CopyOptions) -> None:
        self._options = options
        self._rest = ""
        self._bytes = b""
        self.line = 0
        """Of the data, how many are read; a row with newlines in quotes has several."""
        self.lines: list[str] = []
        self.is_done = False

    def feed(self, chunk: bytes) -> list[Fields]:
        self.lines = []
        data = self._bytes + chunk
        end = data.rfind(b"\n")
        if end < 0:
            if len(data) > ROW_BYTES_MAX:
                raise SqlError("COPY line is too long", sqlstate="54000")
            self._bytes = data
            return []
        self._bytes = data[end + 1 :]
        return self._rows(self._rest + decode_utf8(data[: end + 1]), at_end=False)

    def finish(self) -> list[Fields]:
        self.lines = []
        text = self._rest + decode_utf8(self._bytes)
        self._rest, self._bytes = "", b""
        return self._rows(text if text.endswith("\n") else text + "\n", at_end=True) if text else []

    def _rows(self, text: str, at_end: bool) -> list[Fields]:
        rows: list[Fields] = []
        at = 0
        options = self._options
        quote, delimiter, null = options.quote, options.delimiter, options.null
        while at < len(text) and not self.is_done:
            end = text.find("\n", at)
            line = text[at:end]
            if quote not in line:
                self.line += 1
                line = line[:-1] if line.endswith("\r") else line
                if line == "\\.":
                    self.is_done = True
                    break
                self.lines.append(line)
                rows.append([None if field == null else field for field in line.split(delimiter)])
                at = end + 1
                continue
            parsed = self._quoted_row(text, at)
            if parsed is None:
                if at_end:
                    self.lines.append(text[at:])
                    raise SqlError("unterminated CSV quoted field", sqlstate="22P04")
                break
            rows.append(parsed[0])
            self.lines.append(text[at : parsed[1] - 1])
            self.line += 1 + self.lines[-1].count("\n")
            at = parsed[1]
        self._rest = "" if self.is_done else text[at:]
        if len(self._rest) > ROW_BYTES_MAX:
            raise SqlError("COPY line is too long", sqlstate="54000")
        return rows

    def _quoted_row(self, text: str, at: int) -> tuple[Fields, int] | None:
        """Parses one row with quotes; None if it is not complete."""
        options = self._options
        quote, delimiter, escape = options.quote, options.delimiter, options.escape
        fields: Fields = []
        current, was_quoted, inside = "", False, False
        while at < len(text):
            char = text[at]
            at += 1
            if inside:
                if char == escape and at < len(text) and text[at] in (quote, escape):
                    current += text[at]
                    at += 1
                elif char == quote:
                    inside = False
                else:
                    current += char
            elif char == quote:
                inside = was_quoted = True
            elif char == delimiter or char == "\n":
                if char == "\n" and current.endswith("\r") and not was_quoted:
                    current = current[:-1]
                fields.append(None if not was_quoted and current == options.null else current)
                current, was_quoted = "", False
                if char == "\n":
                    return fields, at
            elif not (char == "\r" and text[at : at + 1] == "\n"):
                current += char
        return None


class BinaryReader:
    """PGCOPY: a header, tuples of length-prefixed fields, a trailer of -1."""

    def __init__(self, options: CopyOptions) -> None:
        self._data = b""
        self._has_header = False
        self.line = 0
        self.lines: list[str] = []
        """None: what is binary cannot be shown."""
        self.is_done = False

    def feed(self, chunk: bytes) -> list[Fields]:
        self._data += chunk
        if not self._has_header and not self._read_header():
            return []
        rows: list[Fields] = []
        data, at = self._data, 0
        while not self.is_done:
            parsed = self._row(data, at)
            if parsed is None:
                break
            row, at = parsed
            if row is not None:
                self.line += 1
                rows.append(row)
        self._data = data[at:]
        return rows

    def finish(self) -> list[Fields]:
        if not self._has_header:
            raise SqlError("COPY file signature not recognized", sqlstate="22P04")
        if not self.is_done:
            raise SqlError("unexpected EOF in COPY data", sqlstate="22P04")
        return []

    def _read_header(self) -> bool:
        data = self._data
        if len(data) < 19:
            if not SIGNATURE.startswith(data[:11]):
                raise SqlError("COPY file signature not recognized", sqlstate="22P04")
            return False
        if data[:11] != SIGNATURE:
            raise SqlError("COPY file signature not recognized", sqlstate="22P04")
        flags, extension = struct.unpack_from("!Ii", data, 11)
        if flags & 0xFFFF0000:
            raise SqlError("unrecognized critical flags in COPY file header", sqlstate="22P04")
        if extension < 0 or extension > ROW_BYTES_MAX:
            raise SqlError("invalid COPY file header (missing length)", sqlstate="22P04")
        if len(data) < 19 + extension:
            return False
        self._data = data[19 + extension :]
        self._has_header = True
        return True

    def _row(self, data: bytes, at: int) -> tuple[Fields | None, int] | None:
        if len(data) < at + 2:
            return None
        (count,) = _SHORT.unpack_from(data, at)
        at += 2
        if count == -1:
            self.is_done = True
            if len(data) > at:
                raise SqlError("received copy data after EOF marker", sqlstate="22P04")
            return None, at
        if count < 0:
            raise SqlError("row field count is negative", sqlstate="22P04")
        row: Fields = []
        for _ in range(count):
            if len(data) < at + 4:
                return None
            (length,) = _INT.unpack_from(data, at)
            at += 4
            if length == -1:
                row.append(None)
                continue
            if length < 0 or length > ROW_BYTES_MAX:
                raise SqlError("invalid field size", sqlstate="22P04")
            if len(data) < at + length:
                return None
            row.append(data[at : at + length])
            at += length
        return row, at


def reader(options: CopyOptions) -> TextReader | CsvReader | BinaryReader:
    if options.format == "binary":
        return BinaryReader(options)
    return CsvReader(options) if options.format == "csv" else TextReader(options)


_TEXT_SPECIAL: Final = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f", "\v": "\\v"}


class TextWriter:
    """Rows of (bytes | None) fields to chunks."""

    def __init__(self, options: CopyOptions, names: Sequence[str]) -> None:
        self._delimiter = options.delimiter
        self._null = options.null.encode()
        special = dict(_TEXT_SPECIAL)
        if options.delimiter not in special:
            special[options.delimiter] = "\\" + options.delimiter
        self._table = str.maketrans(special)
        self._needs = re.compile("[" + re.escape("".join(special)) + "]")
        self.header = (options.delimiter.join(names) + "\n").encode() if options.header else b""
        self.trailer = b""

    def row(self, fields: Sequence[bytes | None]) -> bytes:
        parts = []
        for field in fields:
            if field is None:
                parts.append(self._null)
                continue
            text = field.decode()
            parts.append(text.translate(self._table).encode() if self._needs.search(text) else field)
        return self._delimiter.encode().join(parts) + b"\n"


class CsvWriter:
    def __init__(self, options: CopyOptions, names: Sequence[str]) -> None:
        self._options = options
        everything = "*" in options.force_quote
        self._forced = [everything or name in options.force_quote for name in names]
        self._special = re.compile("[" + re.escape(options.delimiter + options.quote) + "\r\n]")
        self.header = (
            (options.delimiter.join(self._field(name, False) for name in names) + "\n").encode()
            if options.header
            else b""
        )
        self.trailer = b""

    def _field(self, text: str, forced: bool) -> str:
        options = self._options
        if forced or text == options.null or text == "\\." or self._special.search(text):
            escaped = text.replace(options.escape, options.escape * 2)
            if options.escape != options.quote:
                escaped = escaped.replace(options.quote, options.escape + options.quote)
            return options.quote + escaped + options.quote
        return text

    def row(self, fields: Sequence[bytes | None]) -> bytes:
        parts = [
            self._options.null if f is None else self._field(f.decode(), forced)
            for f, forced in zip(fields, self._forced)
        ]
        return (self._options.delimiter.join(parts) + "\n").encode()


class BinaryWriter:
    def __init__(self, options: CopyOptions, names: Sequence[str]) -> None:
        self.header = SIGNATURE + bytes(8)
        self.trailer = b"\xff\xff"

    def row(self, fields: Sequence[bytes | None]) -> bytes:
        parts = [_SHORT.pack(len(fields))]
        for field in fields:
            if field is None:
                parts.append(b"\xff\xff\xff\xff")
            else:
                parts.append(_INT.pack(len(field)))
                parts.append(field)
        return b"".join(parts)


def writer(options: CopyOptions, names: Sequence[str]) -> TextWriter | CsvWriter | BinaryWriter:
    if options.format == "binary":
        return BinaryWriter(options, names)
    return CsvWriter(options, names) if options.format == "csv" else TextWriter(options, names)
