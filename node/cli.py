"""The command ``meridian``.  Heavy modules are imported inside the commands that need them."""

from __future__ import annotations

import gc
import os
import sys
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="MeridianDB: a SQL database that any PostgreSQL client can talk to.",
)

Dsn = Annotated[str, typer.Option("--dsn", "--url", help="Connection string of the node.")]
LOCAL_DSN = "postgresql://root@127.0.0.1:26257/defaultdb?sslmode=prefer"


@app.command()
def start(
    store: Annotated[str | None, typer.Option(help="Directory of the store.  [default: meridian-data]")] = None,
    listen: Annotated[str | None, typer.Option(help="host:port for SQL clients.  [default: 127.0.0.1:26257]")] = None,
    http: Annotated[
        str | None, typer.Option(help="host:port of /healthz and /metrics; '' for none.  [default: 127.0.0.1:8080]")
    ] = None,
    insecure: Annotated[bool | None, typer.Option("--insecure", help="No TLS, no passwords; loopback only.")] = None,
    locality: Annotated[str | None, typer.Option(help="Where the node is: region=..,zone=..")] = None,
    rpc: Annotated[str | None, typer.Option(help="host:port for other nodes; a node without it is alone.")] = None,
    join: Annotated[str | None, typer.Option(help="host:port[,..] of nodes of the cluster to join.")] = None,
    certs: Annotated[str | None, typer.Option(help="Directory of ca.crt, node.crt, node.key.")] = None,
    latency: Annotated[
        str | None, typer.Option(help="Round trips between regions to imitate: a file, or builtin.")
    ] = None,
    allow_faults: Annotated[
        bool | None, typer.Option("--allow-faults", help="Let POST /faults break network, clock and disk.")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(envvar="MERIDIAN_CONFIG", help="TOML file; flags and MERIDIAN_* variables win over it."),
    ] = None,
    cache_mb: Annotated[int | None, typer.Option(help="Block cache in MiB.")] = None,
    log_format: Annotated[str | None, typer.Option(help="console or json.")] = None,
) -> None:
    """Start a node."""
    from node.config import ConfigError, from_environment

    flags = {
        "store": store, "listen": listen, "http": http, "insecure": insecure, "locality": locality, "cache_mb": cache_mb,
        "log_format": log_format, "rpc": rpc, "join": join, "certs": certs,
        "latency": latency, "allow_faults": allow_faults,
    }  # fmt: skip
    try:
        settings = from_environment(config, flags)
    except ConfigError as problem:
        typer.echo(f"meridian: {problem}", err=True)
        raise typer.Exit(2) from None
    # Nothing made while starting is garbage; ``node.start`` turns collection on again.
    gc.disable()
    from node.start import run

    raise typer.Exit(run(settings))


@app.command()
def init(
    rpc: Annotated[str, typer.Option(help="host:port for other nodes of one node that waits.")] = "127.0.0.1:26357",
    certs: Annotated[str | None, typer.Option(help="Directory of ca.crt, node.crt, node.key.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="No TLS; loopback only.")] = False,
) -> None:
    """Found the cluster of nodes that were all started with --join; once, through any of them."""
    from node.initcli import run

    raise typer.Exit(run(rpc, certs, insecure))


@app.command()
def sql(
    dsn: Dsn = LOCAL_DSN,
    execute: Annotated[list[str] | None, typer.Option("--execute", "-e", help="Run this statement and exit.")] = None,
) -> None:
    """Open a SQL prompt (a small one: psql works fully)."""
    from node.shell import run

    raise typer.Exit(run(dsn, execute or []))


@app.command()
def status(http: Annotated[str, typer.Option(help="host:port of the node's HTTP address.")] = "127.0.0.1:8080") -> None:
    """Show whether a node is up, and its main figures."""
    from node.status import show

    raise typer.Exit(show(http))


@app.command()
def doctor(store: Annotated[str, typer.Option(help="Directory of the store.")] = "meridian-data") -> None:
    """Check this machine and a store: disk, limits, clock, free space."""
    from node.doctor import examine

    raise typer.Exit(examine(store))


@app.command()
def demo(
    warehouses: Annotated[int, typer.Option(envvar="DEMO_WAREHOUSES", min=1, help="TPC-C warehouses to load.")] = 1,
    seconds: Annotated[int, typer.Option(envvar="DEMO_SECONDS", min=1, help="How long to run TPC-C.")] = 60,
    keep: Annotated[str | None, typer.Option(help="Keep the store in this directory.")] = None,
    regions: Annotated[
        str | None, typer.Option(help="Start a cluster with nodes in these regions instead, and a prompt to break it.")
    ] = None,
    nodes_per_region: Annotated[int, typer.Option(min=1, help="Of the cluster.")] = 1,
    latency: Annotated[str, typer.Option(help="Between regions: demo, builtin, a file, or off.")] = "demo",
    execute: Annotated[list[str] | None, typer.Option("--exec", help="Run these lines instead of the prompt.")] = None,
    with_load: Annotated[str, typer.Option(help="bank or tpcc: what clients in every region do meanwhile.")] = "",
) -> None:
    """Start a node, load TPC-C, run it, check its consistency, print the report; or a cluster that can be broken."""
    if regions is None:
        from node.demo import run

        raise typer.Exit(run(warehouses, seconds, keep))
    if with_load not in ("", "bank", "tpcc"):
        typer.echo("meridian: --with-load knows bank and tpcc", err=True)
        raise typer.Exit(2)
    from node.laptop.command import run as run_cluster

    names = [name.strip() for name in regions.split(",") if name.strip()]
    raise typer.Exit(run_cluster(names, nodes_per_region, latency, execute or [], with_load, keep))


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"meridian {version('meridiandb')} on Python {sys.version.split()[0]}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """MeridianDB."""


def _mount_tpcc() -> None:
    from tpcc.cli import app as tpcc_app

    app.add_typer(tpcc_app, name="tpcc", help="Load, run and check TPC-C on any PostgreSQL-compatible database.")


def _mount_cert() -> None:
    from node.certcli import app as cert_app

    app.add_typer(cert_app, name="cert")


def _mount_node() -> None:
    from node.nodecli import app as node_app

    app.add_typer(node_app, name="node")


def main() -> None:
    """Entry point of the console script."""
    if len(sys.argv) > 1 and sys.argv[1] in ("tpcc", "--help"):
        _mount_tpcc()
    if len(sys.argv) > 1 and sys.argv[1] in ("cert", "--help"):
        _mount_cert()
    if len(sys.argv) > 1 and sys.argv[1] in ("node", "--help"):
        _mount_node()
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    app()


if __name__ == "__main__":
    main()
