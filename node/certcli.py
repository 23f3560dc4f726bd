"""The commands ``meridian cert ...``."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from node.authority import Issued

app = typer.Typer(no_args_is_help=True, help="Make the certificates of a cluster.")

Directory = Annotated[Path, typer.Option("--certs-dir", help="Directory of the certificates.")]
CaKey = Annotated[Path | None, typer.Option("--ca-key", help="Key of the authority.  [default: ca.key of --certs-dir]")]


@app.command("create-ca")
def create_ca(
    certs_dir: Directory = Path("certs"), days: Annotated[int, typer.Option(help="How long it is valid.")] = 3650
) -> None:
    """Make the authority that signs all certificates of a cluster: ca.crt and ca.key."""
    from node import authority

    _issue(lambda now: authority.create_ca(certs_dir, now, days))


@app.command("create-node")
def create_node(
    hosts: Annotated[list[str], typer.Argument(help="Names and addresses under which the node is reached.")],
    certs_dir: Directory = Path("certs"),
    ca_key: CaKey = None,
    days: Annotated[int, typer.Option(help="How long it is valid.")] = 1825,
) -> None:
    """Make a node's certificate: node.crt and node.key."""
    from node import authority

    _issue(lambda now: authority.create_node(certs_dir, ca_key or certs_dir / "ca.key", hosts, now, days))


@app.command("create-client")
def create_client(
    user: Annotated[str, typer.Argument(help="Name of the SQL user.")],
    certs_dir: Directory = Path("certs"),
    ca_key: CaKey = None,
    days: Annotated[int, typer.Option(help="How long it is valid.")] = 1825,
) -> None:
    """Make a SQL user's certificate: client.USER.crt and client.USER.key."""
    from node import authority

    _issue(lambda now: authority.create_client(certs_dir, ca_key or certs_dir / "ca.key", user, now, days))


def _issue(make: Callable[[datetime.datetime], Issued]) -> None:
    from node.authority import CertificateError

    try:
        issued = make(datetime.datetime.now(datetime.UTC))
    except CertificateError as problem:
        typer.echo(f"meridian: {problem}", err=True)
        raise typer.Exit(2) from None
    typer.echo(f"{issued.certificate} and {issued.key}, valid until {issued.expires:%Y-%m-%d}")
