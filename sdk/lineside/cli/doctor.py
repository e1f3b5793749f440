"""`lineside doctor`: what works on this machine, what is missing, and what to do about it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineside.cli.document import format_document
from lineside.cli.options import TRUST_FOLDERS, TRUST_VARIABLE, json_option

if TYPE_CHECKING:
    from lineside.doctor import Check


@click.command()
@click.option(
    "--station",
    type=click.Path(path_type=Path),
    help="A station file: its bundle, source, outbox and broker are looked at too.",
)
@json_option
@click.pass_context
def doctor(context: click.Context, station: Path | None, as_json: bool) -> None:
    """Look at engines, cores, memory, clock, disk and permissions, and name each remedy.

    Exit codes: 0 all that is needed is there (warnings may stand), 1 something needed is missing.

    Example: lineside doctor --station station.toml
    """
    from lineside.doctor import State, examine_machine, examine_station, station_trust

    named = os.environ.get(TRUST_VARIABLE, "")
    given = [Path(place) for place in named.split(os.pathsep) if place]
    folders = [Path(folder) for folder in TRUST_FOLDERS]
    places = given or [*(station_trust(station) if station else ()), *folders]
    checks = examine_machine(folder=_here(), trust_places=places)
    if station is not None:
        checks += examine_station(station, given_trust=given, machine_trust=folders)
    click.echo(format_document(checks) if as_json else _tell(checks))
    if any(check.state is State.MISSING for check in checks):
        context.exit(1)


def _here() -> Path:
    try:
        return Path.cwd()
    except OSError:  # it was removed meanwhile
        return Path()


def _tell(checks: list[Check]) -> str:
    from lineside.cli.table import format_table

    rows = [(check.state.value, check.topic, check.found) for check in checks]
    lines = [format_table(("state", "topic", "found"), rows)]
    remedies = [f"{check.topic}: {check.remedy}" for check in checks if check.remedy]
    if remedies:
        lines += ["", "What to do:", *(f"  {remedy}" for remedy in remedies)]
    return "\n".join(lines)
