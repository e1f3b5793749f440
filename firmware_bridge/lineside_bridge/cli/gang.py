"""`lineside sensor gang`: one bundle into many sensors, the first of them before the others."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lineside.cli.document import format_document
from lineside.cli.options import json_option, trust_option
from lineside_bridge.cli.flash import document_of, tell_report
from lineside_bridge.cli.options import bundle_options, line_options, open_session, open_wrapping

if TYPE_CHECKING:
    from lineside.errors import LinesideError
    from lineside_bridge.flash_report import FlashReport
    from lineside_bridge.gang import Halt, Member

_AT_ONCE = 8


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--match", "pattern", metavar="VID:PID[:INTERFACE]", help="All USB devices of this kind."
)
@click.option(
    "--port", "ports", multiple=True, metavar="PORT", help="Such a port; may be given again."
)
@click.option(
    "--at-once",
    type=click.IntRange(min=1, max=64),
    default=_AT_ONCE,
    show_default=True,
    help="Sensors at a time, after the first.",
)
@line_options
@bundle_options
@click.option(
    "--inventory",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for what all of them say of themselves afterwards.",
)
@trust_option
@json_option
def gang(
    bundle: Path,
    pattern: str | None,
    ports: tuple[str, ...],
    at_once: int,
    baud: int,
    framing: str,
    engine: str,
    hardware: str,
    mcuboot: str | None,
    image_version: str,
    password_env: str | None,
    ask_password: bool,
    inventory: Path | None,
    trust: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Flash many sensors: the first alone, and the others when it has confirmed.

    At the first that fails no other is begun, and those under way are left before their trial. The
    exit code is that of the first failure; calling it again goes on with those that are left.

    Example: lineside sensor gang joint.lsb --match 2fe3:0100 --trust factory.pub
    """
    from lineside.bundle import load_trust
    from lineside_bridge.errors import BridgeError
    from lineside_bridge.flash import FlashTerms, Watch, flash_bundle
    from lineside_bridge.gang import flash_gang
    from lineside_bridge.payload import open_sendable
    from lineside_bridge.survey import check_inventory, survey

    check_inventory(inventory)
    trusted = load_trust(trust)
    with open_sendable(bundle, trusted=trusted):
        pass  # refused before a port is touched
    wrapping = open_wrapping(mcuboot, image_version, password_env, ask_password)
    terms = FlashTerms(engine=engine, hardware=hardware, wrapping=wrapping)
    surveys: dict[str, dict[str, Any]] = {}
    faults: list[LinesideError] = []

    def flash_one(port: str, halt: Halt) -> FlashReport:
        watch = Watch(progress=lambda _: halt.check(), before_trial=halt.check)
        with open_session(port, baud, framing) as session:
            report = flash_bundle(session, bundle, trusted=trusted, terms=terms, watch=watch)
            if inventory is not None:
                try:
                    surveys[port] = survey(session)
                except BridgeError as fault:  # it is confirmed: no reason to stop the others
                    surveys[port] = {"port": port, "error": str(fault)}
                    faults.append(fault)
        return report

    chosen = _choose(pattern, ports)
    teller = _Teller()
    members = flash_gang(chosen, flash_one, at_once=at_once, on_member=teller.tell)
    if as_json:
        click.echo(format_document([_document(member) for member in members]))
    else:
        done = sum(member.report is not None for member in members)
        click.echo(f"{done} of {len(members)} sensors have it, confirmed")
    if inventory is not None:
        faults += _keep(inventory, [surveys[port] for port in chosen if port in surveys])
    _fail([member.error for member in members if member.error is not None], faults, teller)


def _keep(inventory: Path, found: list[dict[str, Any]]) -> list[LinesideError]:
    from lineside.errors import StorageError
    from lineside_bridge.survey import write_inventory

    try:
        write_inventory(inventory, found)
    except StorageError as error:
        return [error]
    return []


def _fail(failed: list[LinesideError], faults: list[LinesideError], teller: _Teller) -> None:
    """The first sensor's fault is the exit code; one of the inventory alone else."""
    if failed:
        for fault in faults:
            teller.say(str(fault))
        raise failed[0]
    if faults:
        raise faults[0]


class _Teller:
    """Says of each sensor how it ended, whole lines, from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def tell(self, member: Member) -> None:
        """On standard error: the document may be on standard output."""
        self.say(_tell(member))

    def say(self, words: str) -> None:
        """The same, in words. Where nobody hears them any more, the sensors go on."""
        with self._lock, contextlib.suppress(OSError):
            click.echo(words, err=True)


def _choose(pattern: str | None, ports: Sequence[str]) -> list[str]:
    from lineside_bridge.ports import list_ports, match_ports

    if pattern is None and not ports:
        raise click.UsageError("which sensors? --match VID:PID, or --port for each")
    matched = () if pattern is None else match_ports(list_ports(), pattern)
    named = [*ports, *(port.name for port in matched)]
    # One device may have several names, as /dev/serial/by-id has them.
    chosen: dict[str, str] = {}
    for name in named:
        chosen.setdefault(os.path.realpath(name), name)
    return list(chosen.values())


def _tell(member: Member) -> str:
    if member.report is not None:
        return tell_report(member.report)
    words = {
        "failed": str(member.error),
        "stopped": f"{member.port}: left before its trial: it judges by what it had",
        "untouched": f"{member.port}: not begun",
    }
    return words[member.fate.value]


def _document(member: Member) -> dict[str, object]:
    return {
        "port": member.port,
        "fate": member.fate.value,
        "error": None if member.error is None else str(member.error),
        "report": None if member.report is None else document_of(member.report),
    }
