"""`lineside sensor`: look at sensors on serial ports, and tell them what to do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineside.cli.document import format_document
from lineside.cli.options import json_option
from lineside.cli.table import format_table, printable
from lineside.errors import RefusedError
from lineside_bridge.cli.gang import gang
from lineside_bridge.cli.options import line_options, open_session, port_option
from lineside_bridge.cli.serve import serve
from lineside_bridge.cli.simulate import simulate
from lineside_bridge.cli.tables import info_rows, slot_table
from lineside_bridge.cli.wrap import wrap

if TYPE_CHECKING:
    from lineside_bridge.custom import Health
    from lineside_bridge.session import Session

_FOLLOW_S = 1.0
# A log that grows by being read has no end.
_MOST_LINES = 10_000


class _Verbs(click.Group):
    """Whole first sentences: click would cut each to what is left of one line."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [
            (name, self.commands[name].get_short_help_str(limit=1000))
            for name in self.list_commands(ctx)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=_Verbs)
def sensor() -> None:
    """Look at sensors on serial ports, tell them what to do, flash many at once.

    `lineside flash` brings a bundle into one.
    """


sensor.add_command(gang)
sensor.add_command(serve)
sensor.add_command(simulate)
sensor.add_command(wrap)


@sensor.command("list")
@json_option
def list_sensors(as_json: bool) -> None:
    """Show this machine's serial ports; nothing is sent to them.

    Example: lineside sensor list --json
    """
    from lineside_bridge.ports import list_ports

    ports = list_ports()
    if as_json:
        click.echo(format_document(ports))
        return
    if not ports:
        click.echo("no serial port is here; is the sensor plugged in?", err=True)
        return
    rows = [
        (
            port.name,
            port.usb + ("" if port.interface is None else f":{port.interface}"),
            printable(port.serial_number),
            printable(port.description),
        )
        for port in ports
    ]
    click.echo(format_table(("port", "VID:PID", "serial number", "what"), rows))


@sensor.command()
@port_option
@line_options
@click.option(
    "--inventory",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write all of it to.",
)
@json_option
def info(port: str, baud: int, framing: str, inventory: Path | None, as_json: bool) -> None:
    """Show who a sensor is, how it is, and what its line can do.

    Example: lineside sensor info --port /dev/ttyUSB0
    """
    from lineside_bridge.survey import check_inventory, survey, write_inventory

    check_inventory(inventory)
    with open_session(port, baud, framing) as session:
        found = survey(session)
        health = session.read_health()
    if as_json:
        click.echo(format_document({**found, "health": health}))
    else:
        click.echo(format_table(("what", "is"), info_rows(found, health)))
    if inventory is not None:
        write_inventory(inventory, [found])


@sensor.command()
@port_option
@line_options
@json_option
def slots(port: str, baud: int, framing: str, as_json: bool) -> None:
    """Show what lies in a sensor's slots.

    Example: lineside sensor slots --port /dev/ttyUSB0
    """
    from lineside_bridge.survey import survey

    with open_session(port, baud, framing) as session:
        found = survey(session)
    if as_json:
        click.echo(format_document({"slots": found["slots"], "images": found["images"]}))
    else:
        click.echo(slot_table(found))


@sensor.command()
@port_option
@line_options
def confirm(port: str, baud: int, framing: str) -> None:
    """Keep the bundle that is on trial.

    Example: lineside sensor confirm --port /dev/ttyUSB0
    """
    with open_session(port, baud, framing) as session:
        active = session.read_states().active
        if active is None or active.confirmed:
            raise RefusedError(
                f"{port}: nothing is on trial there: `lineside sensor slots` shows it"
            )
        session.confirm(active.hash)
        click.echo(f"{port}: confirmed {active.hash.hex()[:16]}")


@sensor.command()
@port_option
@line_options
def revert(port: str, baud: int, framing: str) -> None:
    """Go back to the bundle before; a pending one is cancelled.

    Example: lineside sensor revert --port /dev/ttyUSB0
    """
    with open_session(port, baud, framing) as session:
        if not session.is_ours:
            raise RefusedError(
                f"{port}: this sensor has no word for it: what is not confirmed it leaves at its "
                "next start (lineside sensor reset)"
            )
        session.revert()
        active = session.read_states().active
        click.echo(f"{port}: now {'nothing' if active is None else active.hash.hex()[:16]}")


@sensor.command()
@port_option
@line_options
@click.option(
    "--wait", "wait_s", default=60.0, show_default=True, help="Seconds until it must answer again."
)
def reset(port: str, baud: int, framing: str, wait_s: float) -> None:
    """Start a sensor anew, and wait until it answers again.

    Example: lineside sensor reset --port /dev/ttyUSB0
    """
    with open_session(port, baud, framing) as session:
        before = session.read_health()
        is_heard = session.reset()
        time.sleep(_FOLLOW_S)
        session.reconnect(wait_s)
        if not is_heard:
            _check_restarted(session, before)
        click.echo(f"{port}: is back")


def _check_restarted(session: Session, before: Health | None) -> None:
    """One that did not say that it will start anew answers all the same."""
    from lineside_bridge.errors import UnprovenError

    now = session.read_health()
    if before is None or now is None or now.uptime_s >= before.uptime_s:
        raise UnprovenError(
            f"{session.name}: it did not say that it will start anew, and it answers: nobody knows "
            "whether it did; repeat it"
        )


@sensor.command()
@port_option
@line_options
@click.option("--follow", is_flag=True, help="Go on with new lines until interrupted.")
def log(port: str, baud: int, framing: str, follow: bool) -> None:
    """Show a sensor's log.

    Example: lineside sensor log --port /dev/ttyUSB0
    """
    with open_session(port, baud, framing) as session:
        following = 0
        while True:
            following = _print_log(session, following)
            if not follow:
                return
            time.sleep(_FOLLOW_S)


def _print_log(session: Session, first: int) -> int:
    """Print what there is from that line on; the number of the next."""
    from lineside_bridge.errors import SensorGarbledError

    most = first + _MOST_LINES
    while True:
        found = session.read_log(first)
        if found is None:
            raise RefusedError(f"{session.name}: this sensor has no log that could be asked for")
        if not found.lines:
            return first
        if found.first < first:
            raise SensorGarbledError(
                f"{session.name}: its log begins at line {found.first} where {first} and those "
                "after it were asked for: a fault of its firmware"
            )
        for text in found.lines:
            click.echo(printable(text))
        first = found.first + len(found.lines)
        if first >= most:
            return first
