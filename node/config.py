"""Configuration: defaults, then a TOML file, then MERIDIAN_* variables, then flags.

store = "meridian-data"
listen = "127.0.0.1:26257"
http = "127.0.0.1:8080"
insecure = false
locality = "region=eu-west,zone=a"
[settings]           # defaults of SQL parameters
statement_timeout = "30s"
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

PREFIX: Final = "MERIDIAN_"
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
CONNECTIONS_MIN: Final = 4
CACHE_MB_MIN: Final = 8


class ConfigError(Exception):
    """What is wrong with the configuration, and where it was said."""


class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Everything a node can be told."""

    store: str = "meridian-data"
    listen: str = "127.0.0.1:26257"
    http: str = "127.0.0.1:8080"
    """Address of /healthz and /metrics; "" turns it off."""
    insecure: bool = False
    """No TLS and no passwords; only on loopback addresses."""
    locality: str = ""
    rpc: str = ""
    """host:port for other nodes; "" for a node that is alone."""
    join: str = ""
    """Addresses of nodes of the cluster to join, with commas; for the first start."""
    certs: str = ""
    """Directory with ca.crt, node.crt and node.key (``meridian cert``), for talking to other nodes."""
    latency: str = ""
    """Delays messages between nodes as between their regions: a file of round trips, or builtin; for demonstrations."""
    allow_faults: bool = False
    """POST /faults on the HTTP port breaks the network, the clock and the disk; for demonstrations and tests."""
    certificate: str = ""
    """PEM files of the server's own; made and kept in the store if not given."""
    key: str = ""
    max_connections: int = 500
    cache_mb: int = 512
    """Block cache of the storage engine."""
    log_format: str = "console"
    """console or json."""
    log_level: str = "info"
    drain_seconds: float = 10.0
    merge_ranges: bool = True
    """Joins small cold neighbours that were not split by hand."""
    split_requests: float = 2500.0
    """A replicated range that serves more batches a second for a while is split; 0: never."""
    consistency_hours: float = 24.0
    """How often the replicas of each range are compared; 0: never."""
    settings: dict[str, str] = {}
    """Defaults of SQL parameters, as ALTER SYSTEM would set them."""


def load(path: str | None, environ: Mapping[str, str], flags: Mapping[str, Any]) -> Config:
    """Merges the four sources; raises ConfigError naming the key that is wrong, and where it was said."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, found in (
        (path or "", _file_values(path)),
        ("", _environment_values(environ)),
        ("the command line", {name: value for name, value in flags.items() if value is not None}),
    ):
        for name, value in found.items():
            values[name] = value
            sources[name] = source or f"{PREFIX}{name.upper()}"
    for name, value in values.items():
        _check_type(name, value, sources[name])
    config = msgspec.convert(values, Config, strict=False)
    check(config)
    return config


def _file_values(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        values = tomllib.loads(Path(path).read_text())
    except OSError as problem:
        raise ConfigError(f"cannot read {path}: {problem.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ConfigError(f"{path}: {problem}") from None
    settings = values.get("settings")
    if isinstance(settings, dict):
        values["settings"] = {name: _setting_text(value) for name, value in settings.items()}
    return values


def _setting_text(value: Any) -> Any:
    """A parameter's value as SET would get it: 30 is '30', true is 'on'."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value) if isinstance(value, int | float) else value


def _environment_values(environ: Mapping[str, str]) -> dict[str, Any]:
    """Unknown variables are none of ours: orchestrators set MERIDIAN_PORT and the like for a service of that name."""
    variables = {name: environ.get(PREFIX + name.upper()) for name in _TYPES if name != "settings"}
    return {name: text for name, text in variables.items() if text is not None}


def _check_type(name: str, value: Any, source: str) -> None:
    """Converts one value alone, so that the message can say which."""
    wanted = _TYPES.get(name)
    if wanted is None:
        close = difflib.get_close_matches(name, list(_TYPES), 1)
        raise ConfigError(f'unknown key "{name}" in {source}' + (f'; did you mean "{close[0]}"?' if close else ""))
    try:
        msgspec.convert(value, wanted, strict=False)
    except msgspec.ValidationError as problem:
        raise ConfigError(f"{name} in {source} is {value!r}: {str(problem)[:1].lower() + str(problem)[1:]}") from None


def address(text: str) -> tuple[str, int]:
    """Splits ``host:port``; a bare port listens on loopback."""
    host, separator, port = text.rpartition(":")
    host = host.strip("[]") if separator else "127.0.0.1"
    if not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ConfigError(f'"{text}" is not an address: expected host:port')
    return host or "0.0.0.0", int(port)  # noqa: S104  # an empty host was asked for


_TYPES: Final = {field.name: field.type for field in msgspec.structs.fields(Config)}


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_locality(text: str) -> tuple[tuple[str, str], ...]:
    """``region=eu-west,zone=a`` in order from the widest tier."""
    tiers = []
    for part in filter(None, text.split(",")):
        key, separator, value = part.partition("=")
        if not separator or not key.strip() or not value.strip():
            raise ConfigError(f'"{part}" is not a locality tier: expected key=value')
        tiers.append((key.strip(), value.strip()))
    return tuple(tiers)


def check(config: Config) -> None:
    """Refuses what would be unsafe or cannot work."""
    host, _ = address(config.listen)
    if config.http:
        http_host, _ = address(config.http)
        if not is_loopback(http_host):
            raise ConfigError("the HTTP port has no authentication yet and listens on loopback addresses only")
    if config.insecure and not is_loopback(host):
        raise ConfigError(f"--insecure on {host} would let anybody in; it is allowed on loopback addresses only")
    parse_locality(config.locality)
    _check_cluster(config)
    if bool(config.certificate) != bool(config.key):
        raise ConfigError("certificate and key must be given together")
    if config.log_format not in ("console", "json"):
        raise ConfigError(f'log_format must be "console" or "json", not "{config.log_format}"')
    if config.log_level not in LOG_LEVELS:
        raise ConfigError(f'log_level must be one of {", ".join(LOG_LEVELS)}, not "{config.log_level}"')
    for name, value, least in (
        ("max_connections", config.max_connections, CONNECTIONS_MIN),
        ("cache_mb", config.cache_mb, CACHE_MB_MIN),
        ("drain_seconds", config.drain_seconds, 0),
        ("split_requests", config.split_requests, 0),
        ("consistency_hours", config.consistency_hours, 0),
    ):
        if value < least:
            raise ConfigError(f"{name} must be at least {least}, not {value}")
    if not config.store:
        raise ConfigError("store must name a directory")


def _check_cluster(config: Config) -> None:
    if (config.latency or config.allow_faults) and not config.rpc:
        raise ConfigError("--latency and --allow-faults are for nodes with --rpc")
    if config.allow_faults and not config.http:
        raise ConfigError("--allow-faults needs the HTTP port")
    if config.join and not config.rpc:
        raise ConfigError("--join needs --rpc: the address at which other nodes reach this one")
    if not config.rpc:
        return
    host, _ = address(config.rpc)
    for seed in config.join.split(",") if config.join else ():
        address(seed)
    if not config.certs and not (config.insecure and is_loopback(host)):
        raise ConfigError(
            "nodes of a cluster need certificates: --certs DIR, made by `meridian cert` (or --insecure on loopback)"
        )


def from_environment(path: str | None, flags: Mapping[str, Any]) -> Config:
    return load(path, os.environ, flags)
