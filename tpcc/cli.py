"""``meridian tpcc load | run | check | report``."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import psycopg
import typer

from tpcc.chaos import Chaos, parse_breakage
from tpcc.checks import CheckResult, check, check_near
from tpcc.database import NotLoaded, Population, read_population, read_versions
from tpcc.loading import LoadFailed, LoadPlan, load
from tpcc.output import choose_output
from tpcc.regions import NoRegions, read_gateway_region
from tpcc.report import read_result, write_report, write_result
from tpcc.result import RunResult
from tpcc.running import Run, RunFailed, RunPlan
from tpcc.scale import DIVISOR_MAX, reduced
from tpcc.session import open_connection, reopen_connection

app = typer.Typer(
    help="TPC-C against any server that speaks PostgreSQL's protocol.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)

PROCESSES_DEFAULT: Final = max(min(4, (os.cpu_count() or 2) // 2), 1)
FAILURE: Final = 1
USAGE: Final = 2

DSN_VARIABLE: Final = "MERIDIAN_DSN"
DSN_HELP: Final = "PostgreSQL URL or keyword string; also from the environment: MERIDIAN_DSN."


class Isolation(StrEnum):
    SERIALIZABLE = "serializable"
    REPEATABLE_READ = "repeatable read"
    READ_COMMITTED = "read committed"


Dsn = Annotated[str, typer.Option(envvar=DSN_VARIABLE, help=DSN_HELP)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]


@app.command("load")
def load_command(
    dsn: Dsn,
    warehouses: Annotated[int, typer.Option(min=1, help="Of 100 MB each.")] = 1,
    processes: Annotated[int, typer.Option(min=1, help="Client processes that COPY.")] = PROCESSES_DEFAULT,
    seed: Annotated[int, typer.Option(help="The same seed gives the same rows.")] = 1,
    drop: Annotated[bool, typer.Option("--drop", help="Drop the tables first.")] = False,
    indexes_first: Annotated[bool, typer.Option("--indexes-first", help="Make indexes before the rows.")] = False,
    foreign_keys: Annotated[bool, typer.Option(help="Declare the foreign keys of clause 1.4.")] = False,
    partition: Annotated[
        bool, typer.Option("--partition-by-warehouse", help="Spread warehouses over the database's regions.")
    ] = False,
    divisor: Annotated[
        int, typer.Option("--non-compliant-scale-divisor", min=1, max=DIVISOR_MAX, hidden=True, help="For tests.")
    ] = 1,
    as_json: Json = False,
) -> None:
    """Create the tables and load the initial population; goes on where an earlier load stopped."""
    output = choose_output(as_json)
    plan = LoadPlan(dsn, warehouses, processes, seed, drop, indexes_first, foreign_keys, reduced(divisor), partition)
    try:
        load(plan, output)
    except (LoadFailed, NoRegions, psycopg.Error) as failure:
        output.fail(str(failure))
        raise typer.Exit(FAILURE) from failure


@app.command("run")
def run_command(
    dsn: Annotated[list[str] | None, typer.Option(help=f"{DSN_HELP} Repeat it to spread over nodes.")] = None,
    connections: Annotated[int, typer.Option(min=1, help="Terminals, a connection each.")] = 8,
    processes: Annotated[int, typer.Option(min=1, help="Client processes.")] = PROCESSES_DEFAULT,
    duration: Annotated[int, typer.Option(min=1, help="Seconds that are measured.")] = 60,
    ramp: Annotated[int, typer.Option(min=0, help="Seconds before them.")] = 5,
    isolation: Annotated[Isolation, typer.Option(help="Of all transactions.")] = Isolation.SERIALIZABLE,
    wait: Annotated[bool, typer.Option("--wait", help="Keying and think times of clause 5.2.5.")] = False,
    pipeline: Annotated[bool, typer.Option("--pipeline", help="Send statements in batches.")] = False,
    seed: Annotated[int, typer.Option(help="Of inputs and their order.")] = 1,
    partition: Annotated[
        bool, typer.Option("--partition-by-warehouse", help="Terminals are at home in their server's region.")
    ] = False,
    chaos: Annotated[
        list[str] | None, typer.Option(help="'BREAK => MEND', two shell commands; repeat it for more to choose from.")
    ] = None,
    chaos_every: Annotated[float, typer.Option(min=0, help="Seconds from a mend to the next break, about.")] = 10.0,
    chaos_lasts: Annotated[float, typer.Option(min=0, help="Seconds that something stays broken, about.")] = 5.0,
    check_after: Annotated[bool, typer.Option("--check/--no-check", help="Check consistency at the end.")] = True,
    output_directory: Annotated[
        Path | None, typer.Option("--output", file_okay=False, help="Write result.json and report.html here.")
    ] = None,
    title: Annotated[str, typer.Option(help="Of the report.")] = "",
    as_json: Json = False,
) -> None:
    """Run the transaction mix and measure it."""
    output = choose_output(as_json)
    dsns = _dsns(dsn)
    try:
        breakages = tuple([parse_breakage(text) for text in chaos or []])
    except ValueError as failure:
        raise typer.BadParameter(str(failure), param_hint="--chaos") from failure
    try:
        with open_connection(dsns[0]) as connection:
            population, versions = read_population(connection), read_versions(connection)
        regions = _regions(dsns, population) if partition else ()
        plan = RunPlan(
            dsns, connections, processes, duration, ramp, isolation.value, pipeline, wait, seed, title, regions
        )
        breaker = Chaos(breakages, seed, chaos_every, chaos_lasts) if breakages else None
        result = Run(plan, population, versions, output, breaker).execute()
        if check_after:
            with reopen_connection(dsns) as connection:
                result.checks = check_near(connection, population)
    except (NotLoaded, NoRegions, RunFailed, psycopg.Error) as failure:
        output.fail(str(failure))
        raise typer.Exit(FAILURE) from failure
    output.show_result(result)
    output.show_checks(result.checks or [])
    if output_directory is not None:
        output.note(f"wrote {write_result(result, output_directory)}")
        output.note(f"wrote {write_report([result], output_directory / 'report.html')}")
    _exit_if_violated(result.checks or [])


@app.command("check")
def check_command(
    dsn: Dsn,
    as_of: Annotated[str | None, typer.Option(help="A time of the past, of servers with AS OF SYSTEM TIME.")] = None,
    as_json: Json = False,
) -> None:
    """Check the twelve consistency conditions of clause 3.3.2; exits with 1 if one is violated."""
    output = choose_output(as_json)
    try:
        with open_connection(dsn) as connection:
            population = read_population(connection)
            checks = check(connection, population.scale, as_of) if as_of else check_near(connection, population)
    except (NotLoaded, psycopg.Error) as failure:
        output.fail(str(failure))
        raise typer.Exit(FAILURE) from failure
    output.show_checks(checks)
    _exit_if_violated(checks)


@app.command("report")
def report_command(
    results: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, help="result.json of one run or several.")
    ],
    html: Annotated[Path, typer.Option("--html", dir_okay=False, help="The page to write.")] = Path("report.html"),
) -> None:
    """Make the HTML page of a result again, or one that compares several."""
    output = choose_output(as_json=False)
    try:
        read: list[RunResult] = [read_result(path) for path in results]
    except ValueError as failure:
        output.fail(str(failure))
        raise typer.Exit(USAGE) from failure
    output.note(f"wrote {write_report(read, html)}")


def _regions(dsns: tuple[str, ...], population: Population) -> tuple[str, ...]:
    """Returns the region of each server; raises NoRegions."""
    if not population.regions:
        raise NoRegions("the warehouses are not partitioned: load them with --partition-by-warehouse")
    found = []
    for dsn in dsns:
        with open_connection(dsn) as connection:
            found.append(read_gateway_region(connection))
    return tuple(found)


def _dsns(given: list[str] | None) -> tuple[str, ...]:
    """Returns the servers; not read by typer, which would cut a keyword string at its spaces."""
    if given:
        return tuple(given)
    if DSN_VARIABLE in os.environ:
        return (os.environ[DSN_VARIABLE],)
    raise typer.BadParameter("give --dsn or set MERIDIAN_DSN", param_hint="--dsn")


def _exit_if_violated(checks: list[CheckResult]) -> None:
    if not all(one.holds for one in checks):
        raise typer.Exit(FAILURE)


def main(arguments: list[str] | None = None) -> Any:
    """Runs a command line of its own, without the server's commands."""
    return app(arguments)


if __name__ == "__main__":
    main()
