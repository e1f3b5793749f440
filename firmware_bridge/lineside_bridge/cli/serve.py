"""`lineside sensor serve`: the sensor's side of the wire, on a Linux camera."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineside.cli.options import trust_option
from lineside_bridge.cli.sensor_options import (
    Say,
    events_option,
    gather_identity,
    identity_options,
    until_stopped,
)

if TYPE_CHECKING:
    from lineside_bridge.framing import Framing
    from lineside_bridge.sensor import Facts


@click.command()
@click.option("--port", required=True, metavar="TTY", help="The sensor's port, e.g. /dev/ttyGS0.")
@click.option(
    "--store",
    "folder",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The station's store, as [bundle] store of its file names it.",
)
@click.option("--make", is_flag=True, help="Make the store's folder where it is missing.")
@trust_option
@click.option(
    "--baud",
    type=click.IntRange(1),
    default=115_200,
    show_default=True,
    help="Rate of a UART; USB has none.",
)
@click.option(
    "--offer-baud",
    "offered",
    type=click.IntRange(1),
    multiple=True,
    metavar="RATE",
    help="Of a UART: another rate that its client may set; may be given again.",
)
@click.option(
    "--restart-command",
    metavar="WORDS",
    default="",
    help="Run at a reset, e.g. 'systemctl restart lineside'. Without it a reset does nothing: "
    "the station takes what is pending by itself.",
)
@identity_options
@events_option
@gather_identity
def serve(
    port: str,
    folder: Path,
    make: bool,
    trust: tuple[Path, ...],
    baud: int,
    offered: tuple[int, ...],
    restart_command: str,
    facts: Facts,
    framings: tuple[Framing, ...],
    as_json: bool,
) -> None:
    """Take bundles over a serial port into the store that a station runs from.

    What was uploaded and is to be tested becomes pending; the station beside it proves it, tries
    it, and confirms or reverts by its own rules or by the client's word. Ends by SIGTERM.

    Example: lineside sensor serve --port /dev/ttyGS0 --store /var/lib/lineside/slots
    """
    from lineside.bundle import load_trust
    from lineside.slots import open_store
    from lineside_bridge.sensor import FolderSensor, Line, Logbook, Port, SerialEnd, make_server

    say = Say(as_json)
    line = Line(baud, tuple(sorted({baud, *offered})) if offered else ())
    sensor = FolderSensor(
        open_store(folder, make=make),
        trusted=load_trust(trust),
        facts=facts,
        log=Logbook(say.line),
        restart=shlex.split(restart_command),
    )
    server = make_server(sensor, framings=framings, line=line)
    with until_stopped() as is_stopped, contextlib.closing(SerialEnd(port, baud)) as end:
        say.ready(port=port)
        Port(end, lambda: server, line=line).serve(is_stopped)
