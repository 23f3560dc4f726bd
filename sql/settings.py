"""Configuration parameters of a session (PostgreSQL chapter 20).

Parameters PostgreSQL clients set are all accepted and remembered, also those that change nothing here
(``jit``, ``synchronize_seqscans``...): a driver that sets one must not fail.  SET is transactional: rolled back with its
transaction; SET LOCAL ends with it.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from base.errors import SqlError

BYTES_UNITS: Final = {"b": 1 / 1024, "kb": 1, "mb": 1024, "gb": 1024**2, "tb": 1024**3}
TIME_UNITS: Final = {"us": 0.001, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
SEARCH_PATH_MAX: Final = 100
BOOL_WORDS: Final = {
    "on": "on", "true": "on", "t": "on", "tr": "on", "tru": "on", "yes": "on", "y": "on", "ye": "on", "1": "on",
    "off": "off", "of": "off", "false": "off", "f": "off", "fa": "off", "fal": "off", "fals": "off", "no": "off", "n": "off", "0": "off",
}  # fmt: skip


class Parameter(NamedTuple):
    """One parameter: canonical name, default text, kind and what it is for."""

    name: str
    default: str
    kind: str = "string"
    """string, bool, integer, real, ms, kb, enum, internal (read-only)."""
    choices: tuple[str, ...] = ()
    low: int | float = 0
    high: int | float = 2**31 - 1
    report: bool = False
    """Sent as ParameterStatus when it changes."""
    plan: bool = False
    """Part of the plan cache's key."""
    note: str = ""


_ISOLATION: Final = ("serializable", "repeatable read", "read committed", "read uncommitted")
_LEVELS: Final = ("debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error")

PARAMETERS: Final[tuple[Parameter, ...]] = (
    Parameter("server_version", "15.8 (MeridianDB)", "internal", report=True),
    Parameter("server_version_num", "150008", "internal"),
    Parameter("server_encoding", "UTF8", "internal", report=True),
    Parameter("client_encoding", "UTF8", report=True),
    Parameter("application_name", "", report=True),
    Parameter("is_superuser", "on", "internal", report=True),
    Parameter("session_authorization", "root", "internal", report=True),
    Parameter("DateStyle", "ISO, MDY", report=True, plan=True),
    Parameter(
        "IntervalStyle",
        "postgres",
        "enum",
        ("postgres", "postgres_verbose", "sql_standard", "iso_8601"),
        report=True,
        plan=True,
    ),
    Parameter("TimeZone", "UTC", report=True, plan=True),
    Parameter("autovacuum", "on", "server"),
    Parameter("integer_datetimes", "on", "internal", report=True),
    Parameter("standard_conforming_strings", "on", "bool", report=True),
    Parameter("default_transaction_read_only", "off", "bool", report=True),
    Parameter("in_hot_standby", "off", "internal", report=True),
    Parameter("search_path", '"$user", public', plan=True),
    Parameter("transaction_isolation", "serializable", "enum", _ISOLATION),
    Parameter("transaction_read_only", "off", "bool"),
    Parameter("transaction_deferrable", "off", "bool"),
    Parameter("default_transaction_isolation", "serializable", "enum", _ISOLATION),
    Parameter("default_transaction_deferrable", "off", "bool"),
    Parameter("statement_timeout", "0", "ms"),
    Parameter("lock_timeout", "0", "ms"),
    Parameter("idle_in_transaction_session_timeout", "0", "ms"),
    Parameter("idle_session_timeout", "0", "ms"),
    Parameter("deadlock_timeout", "1s", "ms"),
    Parameter("meridian.max_wan_hops", "-1", "integer", low=-1, high=1_000),
    Parameter("extra_float_digits", "1", "integer", low=-15, high=3, plan=True),
    Parameter("bytea_output", "hex", "enum", ("hex", "escape"), plan=True),
    Parameter("client_min_messages", "notice", "enum", _LEVELS),
    Parameter("log_min_messages", "warning", "enum", _LEVELS),
    Parameter("work_mem", "64MB", "kb", low=64),
    Parameter("maintenance_work_mem", "64MB", "kb", low=64),
    Parameter("temp_buffers", "8MB", "kb"),
    Parameter("max_identifier_length", "63", "internal"),
    Parameter("max_index_keys", "32", "internal"),
    Parameter("block_size", "8192", "internal"),
    Parameter("max_connections", "500", "internal"),
    Parameter("lc_collate", "C", "internal"),
    Parameter("lc_ctype", "C", "internal"),
    Parameter("lc_messages", "C"),
    Parameter("lc_monetary", "C"),
    Parameter("lc_numeric", "C"),
    Parameter("lc_time", "C"),
    Parameter("row_security", "on", "bool"),
    Parameter("check_function_bodies", "on", "bool"),
    Parameter("xmloption", "content", "enum", ("content", "document")),
    Parameter("xmlbinary", "base64", "enum", ("base64", "hex")),
    Parameter("default_tablespace", ""),
    Parameter("temp_tablespaces", ""),
    Parameter("default_table_access_method", "heap"),
    Parameter("default_toast_compression", "pglz"),
    Parameter("default_text_search_config", "pg_catalog.simple"),
    Parameter("synchronize_seqscans", "on", "bool"),
    Parameter(
        "synchronous_commit",
        "on",
        "enum",
        ("on", "off", "local", "remote_write", "remote_apply", "true", "false", "yes", "no"),
    ),
    Parameter("quote_all_identifiers", "off", "bool"),
    Parameter("escape_string_warning", "on", "bool"),
    Parameter("backslash_quote", "safe_encoding", "enum", ("safe_encoding", "on", "off")),
    Parameter("array_nulls", "on", "bool"),
    Parameter("transform_null_equals", "off", "bool"),
    Parameter("jit", "off", "bool"),
    Parameter("ssl", "off", "internal"),
    Parameter("plan_cache_mode", "auto", "enum", ("auto", "force_generic_plan", "force_custom_plan")),
    Parameter("enable_seqscan", "on", "bool", plan=True),
    Parameter("enable_indexscan", "on", "bool", plan=True),
    Parameter("enable_indexonlyscan", "on", "bool", plan=True),
    Parameter("enable_bitmapscan", "on", "bool"),
    Parameter("enable_hashjoin", "on", "bool", plan=True),
    Parameter("enable_mergejoin", "on", "bool", plan=True),
    Parameter("enable_nestloop", "on", "bool", plan=True),
    Parameter("enable_hashagg", "on", "bool"),
    Parameter("enable_sort", "on", "bool"),
    Parameter("enable_material", "on", "bool"),
    Parameter("geqo", "on", "bool"),
    Parameter("random_page_cost", "4", "real"),
    Parameter("seq_page_cost", "1", "real"),
    Parameter("effective_cache_size", "4GB", "kb"),
    Parameter("from_collapse_limit", "8", "integer", low=1),
    Parameter("join_collapse_limit", "8", "integer", low=1),
    Parameter("max_parallel_workers_per_gather", "0", "integer"),
    Parameter("default_statistics_target", "100", "integer", low=1, high=10_000),
    Parameter("constraint_exclusion", "partition", "enum", ("partition", "on", "off")),
    Parameter("cursor_tuple_fraction", "0.1", "real", high=1),
    Parameter("log_statement", "none"),
    Parameter("log_min_duration_statement", "-1", "integer", low=-1),
    Parameter("session_replication_role", "origin", "enum", ("origin", "replica", "local"), plan=True),
    Parameter("vacuum_cost_delay", "0", "real"),
    Parameter("ssl_renegotiation_limit", "0", "integer"),
    Parameter("tcp_keepalives_idle", "0", "integer"),
    Parameter("tcp_keepalives_interval", "0", "integer"),
    Parameter("tcp_keepalives_count", "0", "integer"),
    Parameter("role", "none"),
    Parameter(
        "vectorize",
        "off",
        "enum",
        ("off", "on", "auto"),
        plan=True,
        note="executor choice; only the row executor is built",
    ),
)
BY_NAME: Final[dict[str, Parameter]] = {p.name.lower(): p for p in PARAMETERS}


def canonical(name: str) -> str:
    """Returns the dictionary key of a parameter's name."""
    lowered = name.lower()
    return {"time zone": "timezone", "names": "client_encoding"}.get(lowered, lowered)


def _bad(name: str, value: str, hint: str | None = None) -> SqlError:
    return SqlError(f'invalid value for parameter "{name}": "{value}"', sqlstate="22023", hint=hint)


_UNIT_NAMES: Final = {"b": "B", "kb": "kB", "mb": "MB", "gb": "GB", "tb": "TB"}
_VALID_TIMES: Final = 'Valid units for this parameter are "us", "ms", "s", "min", "h", and "d".'
_VALID_SIZES: Final = 'Valid units for this parameter are "B", "kB", "MB", "GB", and "TB".'


def _with_unit(parameter: Parameter, value: str, units: dict[str, float], base_unit: str) -> str:
    """Normalises ``90s``, ``2min``, ``64MB``; the result prints in the largest unit that divides, as SHOW does."""
    text = value.strip().lower().replace(" ", "")
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text[len(digits) :] or base_unit
    if not digits:
        raise _bad(parameter.name, value)
    if unit not in units:
        raise _bad(parameter.name, value, _VALID_TIMES if "ms" in units else _VALID_SIZES)
    try:
        number = round(float(digits) * units[unit])
    except ValueError:
        raise _bad(parameter.name, value) from None
    if not parameter.low <= number <= parameter.high:
        raise SqlError(
            f'{number} {_UNIT_NAMES.get(base_unit, base_unit)} is outside the valid range for parameter "{parameter.name}" ({parameter.low} .. {parameter.high})',
            sqlstate="22023",
        )
    if number == 0:
        return "0"
    for name, factor in sorted(units.items(), key=lambda item: -item[1]):
        if factor >= 1 and number % factor == 0:
            return f"{int(number // factor)}{_UNIT_NAMES.get(name, name)}"
    return f"{number}{base_unit}"


def check(parameter: Parameter, value: str) -> str:
    """Returns the value as SHOW prints it; raises 22023 where PostgreSQL would."""
    if parameter.kind == "bool":
        word = BOOL_WORDS.get(value.strip().lower())
        if word is None:
            raise SqlError(f'parameter "{parameter.name}" requires a Boolean value', sqlstate="22023")
        return word
    if parameter.kind == "enum":
        lowered = value.strip().lower()
        if lowered not in parameter.choices:
            raise _bad(parameter.name, value, f"Available values: {', '.join(parameter.choices)}.")
        return lowered
    if parameter.kind in ("integer", "real"):
        try:
            number = int(value) if parameter.kind == "integer" else float(value)
        except ValueError:
            raise _bad(parameter.name, value) from None
        if not parameter.low <= number <= parameter.high:
            raise SqlError(
                f'{value} is outside the valid range for parameter "{parameter.name}" ({parameter.low} .. {parameter.high})',
                sqlstate="22023",
            )
        return str(number)
    if parameter.kind == "ms":
        return _with_unit(parameter, value, TIME_UNITS, "ms")
    if parameter.kind == "kb":
        return _with_unit(parameter, value, BYTES_UNITS, "kb")
    return value


def into_ms(value: str) -> int:
    """Returns the milliseconds of a normalised ``ms`` parameter."""
    digits = value.rstrip("abcdefghijklmnopqrstuvwxyz")
    return int(int(digits) * TIME_UNITS[value[len(digits) :] or "ms"])


def into_bytes(value: str) -> int:
    """Returns the bytes of a normalised ``kb`` parameter."""
    digits = value.rstrip("kBMGT")
    return int(int(digits) * BYTES_UNITS[value[len(digits) :].lower() or "kb"] * 1024)


def _normalise_encoding(value: str) -> str:
    if value.strip("'\" ").lower().replace("-", "").replace("_", "") not in ("utf8", "unicode", "sqlascii"):
        raise SqlError(f'invalid value for parameter "client_encoding": "{value}"', sqlstate="22023")
    return "UTF8"


def _normalise_datestyle(value: str, current: str) -> str:
    style, order = (part.strip() for part in current.split(","))
    styles = {"iso": "ISO", "sql": "SQL", "postgres": "Postgres", "german": "German"}
    orders = {"dmy": "DMY", "euro": "DMY", "european": "DMY", "mdy": "MDY", "us": "MDY", "noneuro": "MDY", "ymd": "YMD"}
    for word in value.split(","):
        lowered = word.strip().strip("'\"").lower()
        if lowered in styles:
            style = styles[lowered]
            if style == "German" and "," not in value:
                order = "DMY"
        elif lowered in orders:
            order = orders[lowered]
        elif lowered != "default":
            raise _bad("DateStyle", value)
    return f"{style}, {order}"


class Settings:
    """The parameters of one session."""

    def __init__(
        self, defaults: dict[str, str], on_report: Callable[[str, str], None], zone_name: Callable[[str], str | None]
    ) -> None:
        self._defaults = defaults
        """What RESET goes back to: built-in, then server, role, database and startup options."""
        self._values: dict[str, str] = dict(defaults)
        self._saved: dict[str, str] | None = None
        self._local: dict[str, str] = {}
        """Values that SET LOCAL hides until the transaction ends."""
        self._on_report = on_report
        self._zone_name = zone_name
        self.plan_key: tuple[str, ...] = ()
        self._refresh_plan_key()

    def get(self, name: str) -> str | None:
        return self._values.get(canonical(name))

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def all(self) -> list[tuple[str, str, str]]:
        """Returns (name, value, note) of every parameter, sorted."""
        names = {**{k: p.name for k, p in BY_NAME.items()}, **{k: k for k in self._values if k not in BY_NAME}}
        return [(names[k], self._values.get(k, ""), BY_NAME[k].note if k in BY_NAME else "") for k in sorted(names)]

    def set(self, name: str, value: str, is_local: bool = False, force: bool = False) -> str:
        """Sets a parameter and returns its canonical value; raises 42704 or 22023."""
        key = canonical(name)
        value = self._checked(key, name, value, force)
        if is_local:
            self._local.setdefault(key, self._values.get(key, ""))
        else:
            self._local.pop(key, None)
        self._put(key, value)
        return value

    def reset(self, name: str) -> None:
        key = canonical(name)
        if key not in BY_NAME and "." not in key:
            raise SqlError(f'unrecognized configuration parameter "{name}"', sqlstate="42704")
        self._put(key, self._defaults.get(key, ""))

    def reset_all(self) -> None:
        for key in list(self._values):
            if BY_NAME.get(key, Parameter(key, "")).kind not in ("internal", "server") and not key.startswith(
                "transaction_"
            ):
                self._put(key, self._defaults.get(key, ""))

    def default(self, name: str) -> str:
        """Returns what RESET would set."""
        return self._defaults.get(canonical(name), "")

    def set_default(self, name: str, value: str) -> None:
        """Sets a parameter from outside SQL (startup packet, role, database); RESET goes back to it."""
        value = self.set(name, value)
        self._defaults = {**self._defaults, canonical(name): value}
        self._saved = None
        self._local = {}

    def reported(self) -> list[tuple[str, str]]:
        """Returns what is sent as ParameterStatus after authentication."""
        return [(p.name, self._values[key]) for key, p in BY_NAME.items() if p.report]

    # --- transactions ----------------------------------------------------------

    def snapshot(self) -> tuple[dict[str, str], dict[str, str]]:
        return dict(self._values), dict(self._local)

    def restore(self, snapshot: tuple[dict[str, str], dict[str, str]]) -> None:
        """Goes back to a snapshot, reporting what changed."""
        values, self._local = dict(snapshot[0]), dict(snapshot[1])
        for key in list(self._values):
            if key not in values:
                del self._values[key]
        for key, value in values.items():
            if self._values.get(key) != value:
                self._put(key, value, save=False)

    def begin_transaction(self) -> None:
        """Sets the characteristics of a new transaction from their defaults; they end with it."""
        values = self._values
        values["transaction_isolation"] = values["default_transaction_isolation"]
        values["transaction_read_only"] = values["default_transaction_read_only"]
        values["transaction_deferrable"] = values["default_transaction_deferrable"]

    def set_modes(self, modes: dict[str, str]) -> None:
        """Sets characteristics of a transaction that just began, valid ones: isolation, read_only, deferrable."""
        for name, value in modes.items():
            self._values["transaction_" + name] = value

    @property
    def has_changes(self) -> bool:
        """True if the transaction set anything."""
        return self._saved is not None or bool(self._local)

    def end_transaction(self, committed: bool) -> None:
        """Undoes SET LOCAL; after a rollback also SET."""
        if not committed and self._saved is not None:
            self.restore((self._saved, {}))
        for key, value in self._local.items():
            self._put(key, value, save=False)
        self._local = {}
        self._saved = None

    def _put(self, key: str, value: str, save: bool = True) -> None:
        if save and self._saved is None:
            self._saved = dict(self._values)
        changed = self._values.get(key) != value
        self._values[key] = value
        parameter = BY_NAME.get(key)
        if parameter is not None and changed:
            if parameter.plan:
                self._refresh_plan_key()
            if parameter.report:
                self._on_report(parameter.name, value)

    def _refresh_plan_key(self) -> None:
        self.plan_key = tuple(self._values.get(k, "") for k, p in BY_NAME.items() if p.plan)

    def _checked(self, key: str, name: str, value: str, force: bool) -> str:
        parameter = BY_NAME.get(key)
        if parameter is None:
            if "." not in key:
                raise SqlError(f'unrecognized configuration parameter "{name}"', sqlstate="42704")
            return value
        if parameter.kind == "server" and not force:
            raise SqlError(f'parameter "{parameter.name}" cannot be changed now', sqlstate="55P02")
        if parameter.kind == "internal" and not force:
            raise SqlError(f'parameter "{parameter.name}" cannot be changed', sqlstate="55P02")
        if key == "client_encoding":
            return _normalise_encoding(value)
        if key == "datestyle":
            return _normalise_datestyle(value, self._values["datestyle"])
        if key == "timezone":
            zone = self._zone_name(value)
            if zone is None:
                raise _bad("TimeZone", value)
            return zone
        if key == "search_path" and value.count(",") > SEARCH_PATH_MAX:
            raise _bad("search_path", value[:60])
        return check(parameter, value)


def builtin_defaults() -> dict[str, str]:
    """Returns the values of a session without any configuration."""
    return {key: parameter.default for key, parameter in BY_NAME.items()}


def split_search_path(value: str) -> tuple[str, ...]:
    """Parses a search_path: names folded to lower case unless quoted."""
    names = []
    for part in value.split(","):
        item = part.strip()
        if len(item) >= 2 and item[0] == '"' and item[-1] == '"':
            names.append(item[1:-1].replace('""', '"'))
        elif item:
            names.append(item.lower())
    return tuple(names)
