"""Configuration: who wins, what is refused, and how it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.config import Config, ConfigError, address, is_loopback, load, parse_locality


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "meridian.toml"
    path.write_text(text)
    return str(path)


def refusal(path: str | None = None, environ: dict[str, str] | None = None, **flags: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {}, flags)
    return str(caught.value)


def test_defaults() -> None:
    assert load(None, {}, {}) == Config()


def test_flags_win_over_variables_and_these_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, 'store = "file"\nlisten = "127.0.0.1:1"\nhttp = "127.0.0.1:2"\nmax_connections = 7\n')
    environ = {"MERIDIAN_LISTEN": "127.0.0.1:3", "MERIDIAN_HTTP": "127.0.0.1:4"}
    config = load(path, environ, {"http": "", "store": None})
    assert (config.store, config.listen, config.http, config.max_connections) == ("file", "127.0.0.1:3", "", 7)


def test_variables_are_converted() -> None:
    config = load(None, {"MERIDIAN_INSECURE": "true", "MERIDIAN_DRAIN_SECONDS": "2.5", "MERIDIAN_CACHE_MB": "64"}, {})
    assert (config.insecure, config.drain_seconds, config.cache_mb) == (True, 2.5, 64)


def test_variables_of_others_are_left_alone() -> None:
    assert load(None, {"MERIDIAN_PORT_5432_TCP": "tcp://10.0.0.1:5432", "HOME": "/"}, {}) == Config()


def test_settings_are_written_as_set_would_take_them(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '[settings]\nstatement_timeout = "30s"\nextra_float_digits = 2\ndefault_transaction_read_only = true\n',
    )
    assert load(path, {}, {}).settings == {
        "statement_timeout": "30s",
        "extra_float_digits": "2",
        "default_transaction_read_only": "on",
    }


def test_an_unknown_key_is_named_with_its_file_and_a_suggestion(tmp_path: Path) -> None:
    path = write(tmp_path, "max_conections = 5\n")
    assert refusal(path) == f'unknown key "max_conections" in {path}; did you mean "max_connections"?'


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"MERIDIAN_MAX_CONNECTIONS": "many"}, "max_connections in MERIDIAN_MAX_CONNECTIONS is 'many': expected `int`, got `str`"),
        ({"MERIDIAN_MAX_CONNECTIONS": "3"}, "max_connections must be at least 4, not 3"),
        ({"MERIDIAN_LOG_FORMAT": "xml"}, 'log_format must be "console" or "json", not "xml"'),
        ({"MERIDIAN_LOG_LEVEL": "loud"}, 'log_level must be one of debug, info, warning, error, not "loud"'),
        ({"MERIDIAN_DRAIN_SECONDS": "-1"}, "drain_seconds must be at least 0, not -1.0"),
        ({"MERIDIAN_STORE": ""}, "store must name a directory"),
        ({"MERIDIAN_KEY": "server.key"}, "certificate and key must be given together"),
        ({"MERIDIAN_LISTEN": "localhost"}, '"localhost" is not an address: expected host:port'),
        ({"MERIDIAN_LOCALITY": "eu"}, '"eu" is not a locality tier: expected key=value'),
    ],
)  # fmt: skip
def test_wrong_values(environ: dict[str, str], message: str) -> None:
    assert refusal(None, environ) == message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.toml")
    assert refusal(missing) == f"cannot read {missing}: No such file or directory"
    broken = write(tmp_path, "store = \n")
    assert refusal(broken).startswith(f"{broken}: Invalid value (at line 1")


def test_nobody_gets_in_without_a_password_from_outside() -> None:
    assert "allowed on loopback addresses only" in refusal(insecure=True, listen="0.0.0.0:26257")
    assert "allowed on loopback addresses only" in refusal(insecure=True, listen=":26257")
    assert "loopback addresses only" in refusal(http="192.0.2.1:8080")
    assert load(None, {}, {"listen": "0.0.0.0:26257"}).listen == "0.0.0.0:26257"
    assert load(None, {}, {"insecure": True, "listen": "[::1]:26257"}).insecure


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:26257", ("127.0.0.1", 26257)),
        ("localhost:1", ("localhost", 1)),
        ("[::1]:65535", ("::1", 65535)),
        (":5432", ("0.0.0.0", 5432)),
        ("5432", ("127.0.0.1", 5432)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert address(text) == expected


@pytest.mark.parametrize("text", ["", "host", "host:", "host:port", "host:65536", "host:-1", "host: 1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError, match="is not an address: expected host:port"):
        address(text)


def test_loopback() -> None:
    assert [host for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "0.0.0.0", "example.org", "10.0.0.1") if is_loopback(host)] == [
        "127.0.0.1", "127.9.9.9", "::1", "localhost",
    ]  # fmt: skip


def test_localities() -> None:
    assert parse_locality("region=eu-west, zone=a") == (("region", "eu-west"), ("zone", "a"))
    assert parse_locality("") == ()
