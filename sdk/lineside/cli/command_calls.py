"""What ``lineside command`` does with one command, and says of its answer."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Final

import click
import msgspec

from lineside.cli.document import format_document
from lineside.errors import BrokerError, CommandRefusedError
from lineside.mqtt import StateWord, StationTopics
from lineside.remote import Scalar
from lineside.remote.call import Call, Order
from lineside.remote.caller import Caller

_POLL_S: Final = 0.1


class CommandReport(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, as ``--json`` prints it.

    Attributes:
        station: who answered.
        verb: what it was told.
        ok: it is done and durable.
        reason: of a refusal, in a word.
        detail: more, in the station's words.
        t: when it answered, by its own clock, milliseconds since 1970 UTC.
    """

    station: str
    verb: str
    ok: bool
    reason: str = ""
    detail: str = ""
    t: int | None = None


def give(
    caller: Caller,
    station: StationTopics,
    verb: str,
    args: Mapping[str, Scalar],
    *,
    as_json: bool,
) -> CommandReport:
    """Give a command and wait for its answer.

    Raises:
        CommandRefusedError: the station said no; with ``as_json`` the document is out before.
        BrokerError: no answer in time, or no broker.
        InputDataError: no station would take it.
    """
    call = caller.submit(Order(station=station, verb=verb, args=args))
    while not call.wait(_POLL_S):
        continue  # so that Ctrl-C is heard
    return report_of(call, as_json=as_json)


def report_of(call: Call, *, as_json: bool) -> CommandReport:
    """What came of it.

    Raises:
        As `give`.
    """
    station, verb = str(call.order.station), call.order.verb
    try:
        ack = call.result()
    except CommandRefusedError as error:
        if as_json:
            detail = call.fault.words if call.fault else str(error)
            report = CommandReport(
                station=station, verb=verb, ok=False, reason=error.reason, detail=detail
            )
            tell(report, as_json=True)
        raise
    return CommandReport(station=station, verb=verb, ok=True, detail=ack.detail, t=ack.t)


def tell(report: msgspec.Struct, *, as_json: bool) -> None:
    """Print it."""
    if as_json:
        click.echo(format_document(report))
        return
    assert isinstance(report, CommandReport)
    more = f": {report.detail}" if report.detail else ""
    click.echo(f"{report.station}: {report.verb}: done{more}")


def wait_for_bundle(caller: Caller, station: StationTopics, product: str, timeout_s: float) -> str:
    """The hash of the bundle that a station says it uses.

    Raises:
        BrokerError: it has said nothing, or is offline.
        CommandRefusedError: it uses the bundle of another product.
    """
    caller.watch([station])
    deadline_s, seen = time.monotonic() + timeout_s, 0
    state = caller.state(station)
    while state is None and time.monotonic() < deadline_s:
        seen = caller.wait_for_news(seen, _POLL_S)
        state = caller.state(station)
    if state is None or state.state is StateWord.OFFLINE or not state.bundle:
        raise BrokerError(
            f"{station}: does not say which bundle it uses (offline, or unknown to this broker): "
            "give --bundle"
        )
    if product and product != state.product:
        words = f"{station}: uses the bundle of {state.product} just now, not of {product}"
        raise CommandRefusedError(f"{words}: give --bundle", reason="product")
    return state.bundle


def say(words: str) -> None:
    """For people, beside the answer."""
    click.echo(f"lineside: {words}", err=True)


def is_terminal() -> bool:
    """Whether somebody watches."""
    return sys.stderr is not None and sys.stderr.isatty()
