"""Regular expression operators and functions: ~, regexp_match, regexp_replace and their family.

PostgreSQL 15 manual: 9.4 (string functions), 9.7.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from base.errors import error
from planner.functions.are import Pattern, compile_pattern
from planner.functions.declare import define, define_operator
from planner.functions.like import similar_to_regex
from planner.functions.registry import Registry

Groups = tuple[str | None, ...]


def _split_flags(flags: str) -> tuple[str, bool]:
    """(flag letters without g, whether g was there)."""
    return flags.replace("g", ""), "g" in flags


def _without_global(flags: str, function: str) -> str:
    letters, is_global = _split_flags(flags)
    if is_global:
        raise error("22023", f'{function} does not support the "global" option')
    return letters


def matches(text: str, pattern: str) -> bool:
    return compile_pattern(pattern).matches(text)


def matches_not(text: str, pattern: str) -> bool:
    return not compile_pattern(pattern).matches(text)


def matches_icase(text: str, pattern: str) -> bool:
    return compile_pattern(pattern, "i").matches(text)


def matches_icase_not(text: str, pattern: str) -> bool:
    return not compile_pattern(pattern, "i").matches(text)


def _groups(match: Any, pattern: Pattern) -> Groups:
    if pattern.groups == 0:
        return (match.group(0),)
    return tuple(match.groups())


def regexp_match(text: str, pattern: str, flags: str = "") -> Groups | None:
    """The groups (or the whole) of the first match."""
    letters, is_global = _split_flags(flags)
    if is_global:
        raise error(
            "22023",
            'regexp_match() does not support the "global" option',
            hint="Use the regexp_matches function instead.",
        )
    compiled = compile_pattern(pattern, letters)
    match = compiled.find(text)
    return None if match is None else _groups(match, compiled)


def regexp_matches(text: str, pattern: str, flags: str = "") -> Iterator[Groups]:
    """A row per match (one without the g flag)."""
    letters, is_global = _split_flags(flags)
    compiled = compile_pattern(pattern, letters)
    for match in compiled.find_all(text):
        yield _groups(match, compiled)
        if not is_global:
            return


def _check_start(start: int, name: str = "start") -> None:
    if start <= 0:
        raise error("22023", f'invalid value for parameter "{name}": {start}')


def _check_count(count: int, name: str) -> None:
    if count < 0:
        raise error("22023", f'invalid value for parameter "{name}": {count}')


def _expand(template: str, match: Any) -> str:
    """The replacement for one match: \\1..\\9, \\& and \\\\."""
    if "\\" not in template:
        return template
    out: list[str] = []
    at = 0
    while at < len(template):
        char = template[at]
        at += 1
        if char != "\\" or at == len(template):
            out.append(char)
            continue
        code = template[at]
        at += 1
        if code in "123456789":
            number = int(code)
            out.append((match.group(number) or "") if number <= len(match.groups()) else "")
        elif code == "&":
            out.append(match.group(0))
        elif code == "\\":
            out.append("\\")
        else:
            out.append("\\" + code)
    return "".join(out)


def _replace(text: str, pattern: Pattern, template: str, start: int, occurrence: int) -> str:
    """Replaces the n-th match from ``start`` (0-based), all of them for n = 0."""
    out: list[str] = []
    copied = 0
    for number, match in enumerate(pattern.find_all(text, start), 1):
        if occurrence and number != occurrence:
            continue
        out.append(text[copied : match.start()])
        out.append(_expand(template, match))
        copied = match.end()
        if occurrence:
            break
    out.append(text[copied:])
    return "".join(out)


def regexp_replace(text: str, pattern: str, template: str, flags: str = "") -> str:
    if flags[:1].isdigit():
        raise error(
            "22023",
            f'invalid regular expression option: "{flags[0]}"',
            hint="If you meant to use regexp_replace() with a start parameter, cast the fourth argument to integer explicitly.",
        )
    letters, is_global = _split_flags(flags)
    return _replace(text, compile_pattern(pattern, letters), template, 0, 0 if is_global else 1)


def regexp_replace_at(text: str, pattern: str, template: str, start: int, occurrence: int = 1, flags: str = "") -> str:
    _check_start(start)
    _check_count(occurrence, "n")
    letters, _ = _split_flags(flags)
    return _replace(text, compile_pattern(pattern, letters), template, start - 1, occurrence)


def regexp_replace_from(text: str, pattern: str, template: str, start: int) -> str:
    return regexp_replace_at(text, pattern, template, start, 1)


def regexp_count(text: str, pattern: str, start: int = 1, flags: str = "") -> int:
    _check_start(start)
    letters = _without_global(flags, "regexp_count()")
    return sum(1 for _ in compile_pattern(pattern, letters).find_all(text, start - 1))


def _nth(text: str, pattern: str, start: int, occurrence: int, letters: str) -> Any:
    for number, match in enumerate(compile_pattern(pattern, letters).find_all(text, start - 1), 1):
        if number == occurrence:
            return match
    return None


def _check_occurrence(occurrence: int) -> None:
    if occurrence <= 0:
        raise error("22023", f'invalid value for parameter "n": {occurrence}')


def regexp_instr(
    text: str, pattern: str, start: int = 1, occurrence: int = 1, endoption: int = 0, flags: str = "", group: int = 0
) -> int:
    """Position of the n-th match (or of what follows it), 0 if there is none."""
    _check_start(start)
    _check_occurrence(occurrence)
    if endoption not in (0, 1):
        raise error("22023", f'invalid value for parameter "endoption": {endoption}')
    _check_count(group, "subexpr")
    match = _nth(text, pattern, start, occurrence, _without_global(flags, "regexp_instr()"))
    if match is None or group > len(match.groups()):
        return 0
    position = int(match.end(group) if endoption else match.start(group))
    return position + 1 if position >= 0 else 0


def regexp_substr(
    text: str, pattern: str, start: int = 1, occurrence: int = 1, flags: str = "", group: int = 0
) -> str | None:
    _check_start(start)
    _check_occurrence(occurrence)
    _check_count(group, "subexpr")
    match = _nth(text, pattern, start, occurrence, _without_global(flags, "regexp_substr()"))
    if match is None or group > len(match.groups()):
        return None
    found: str | None = match.group(group)
    return found


def regexp_like(text: str, pattern: str, flags: str = "") -> bool:
    return compile_pattern(pattern, _without_global(flags, "regexp_like()")).matches(text)


def regexp_split(text: str, pattern: str, flags: str = "", function: str = "regexp_split_to_table()") -> list[str]:
    """The pieces between matches; an empty match at the start, the end or right after a match does not split."""
    compiled = compile_pattern(pattern, _without_global(flags, function))
    out: list[str] = []
    copied = 0
    for match in compiled.find_all(text):
        start, end = match.start(), match.end()
        if start == end and (start in (0, len(text)) or start == copied):
            continue
        out.append(text[copied:start])
        copied = end
    out.append(text[copied:])
    return out


def regexp_split_to_array(text: str, pattern: str, flags: str = "") -> tuple[str, ...]:
    return tuple(regexp_split(text, pattern, flags, "regexp_split_to_array()"))


def substring_pattern(text: str, pattern: str) -> str | None:
    """substring(text from pattern): the first group of the first match, or all of it."""
    compiled = compile_pattern(pattern)
    match = compiled.find(text)
    if match is None:
        return None
    found: str | None = match.group(1 if compiled.groups else 0)
    return found


def substring_similar(text: str, pattern: str, escape: str) -> str | None:
    """substring(text similar pattern escape e)."""
    return substring_pattern(text, similar_to_regex(pattern, escape))


def _register_operators(registry: Registry) -> None:
    for left, name in (("text", "text"), ("name", "name"), ("bpchar", "bpchar")):
        define_operator(registry, "~", f"{name}regexeq({left}, text) bool", matches)
        define_operator(registry, "!~", f"{name}regexne({left}, text) bool", matches_not)
        define_operator(registry, "~*", f"{name}icregexeq({left}, text) bool", matches_icase)
        define_operator(registry, "!~*", f"{name}icregexne({left}, text) bool", matches_icase_not)


def register(registry: Registry) -> None:
    """Adds this family."""
    _register_operators(registry)
    families: tuple[tuple[str, Any, tuple[str, ...], str, int], ...] = (
        ("regexp_match", regexp_match, ("text",), "text[]", 0),
        ("regexp_matches", regexp_matches, ("text",), "setof text[]", 0),
        ("regexp_like", regexp_like, ("text",), "bool", 0),
        ("regexp_count", regexp_count, ("int4", "text"), "int4", 0),
        ("regexp_instr", regexp_instr, ("int4", "int4", "int4", "text", "int4"), "int4", 0),
        ("regexp_substr", regexp_substr, ("int4", "int4", "text", "int4"), "text", 0),
        ("regexp_split_to_table", regexp_split, ("text",), "setof text", 0),
        ("regexp_split_to_array", regexp_split_to_array, ("text",), "text[]", 0),
    )
    for name, impl, optional, result, least in families:
        for count in range(least, len(optional) + 1):
            define(registry, f"{name}({', '.join(('text', 'text', *optional[:count]))}) {result}", impl)
    define(registry, "regexp_replace(text, text, text) text", regexp_replace)
    define(registry, "regexp_replace(text, text, text, text) text", regexp_replace)
    define(registry, "regexp_replace(text, text, text, int4) text", regexp_replace_from)
    define(registry, "regexp_replace(text, text, text, int4, int4) text", regexp_replace_at)
    define(registry, "regexp_replace(text, text, text, int4, int4, text) text", regexp_replace_at)
    define(registry, "substring(text, text) text", substring_pattern)
    define(registry, "substring(text, text, text) text", substring_similar)
