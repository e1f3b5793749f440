"""``lineside run``: the station."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from lineside.cli.options import TRUST_VARIABLE, Seconds, find_trust, json_option

if TYPE_CHECKING:
    from lineside.station import RunReport, Station, StationConfiguration

_PROGRESS_S = 0.2


@click.command()
@click.argument("configuration", type=click.Path(path_type=Path), metavar="STATION.TOML")
@click.option(
    "--trust",
    metavar="FILE|FOLDER",
    multiple=True,
    type=click.Path(path_type=Path),
    envvar=TRUST_VARIABLE,
    help="Public key that may sign, or a folder of *.pub; may be given again. Else "
    f"{TRUST_VARIABLE}, else bundle.trust of the file, else the machine's trust folders.",
)
@click.option(
    "--drain-timeout-s",
    type=Seconds(),
    default=30.0,
    show_default=True,
    help="After the last frame, wait so long for the broker to acknowledge everything.",
)
@json_option
def run(
    configuration: Path, trust: tuple[Path, ...], drain_timeout_s: float, as_json: bool
) -> None:
    """Inspect frames and publish verdicts, as STATION.TOML says.

    Ends when all frames are inspected and all verdicts acknowledged (source.watch = false), or on
    SIGTERM and Ctrl-C: the current frame is finished, and what the broker does not yet have goes
    out at the next start.

    Example: lineside run station.toml --trust factory.pub
    """
    from lineside.station import SWITCH_S, open_station, read_configuration

    sys.setswitchinterval(SWITCH_S)
    settings = _with_trust(read_configuration(configuration), trust)
    say = _Progress(counts=sys.stderr is not None and sys.stderr.isatty())
    with contextlib.ExitStack() as stack:
        with _naming(configuration):
            station = stack.enter_context(open_station(settings, progress=say))
        _stop_on_signals(station.stop)
        _say(_introduction(station, settings))
        _say_products(station)
        _say_limits(station)
        if station.control.pause.is_on:
            _say("lineside: paused by command: no part is judged until it is told to resume")
        report = station.run(drain_timeout_s=drain_timeout_s)
    say.close(station)
    _print_report(report, as_json)
    _check_drained(report, settings, drain_timeout_s)


def _say_products(station: Station) -> None:
    for product in station.products:
        if product.name != station.model.product:
            card = product.card
            _say(f"lineside: also {card.product} {card.version} by {card.engine}")


def _say_limits(station: Station) -> None:
    several = len(station.products.names) > 1
    for product in station.products:
        for change in product.card.limits.told() if product.card.limits else ():
            _say(f"lineside: limits{f' of {product.name}' if several else ''}: {change}")


@contextlib.contextmanager
def _naming(file: Path) -> Iterator[None]:
    """What only bundle and file together show to be wrong is the file's fault all the same."""
    from lineside.errors import ConfigurationError

    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}", file=file, path=error.path) from error


def _introduction(station: Station, settings: StationConfiguration) -> str:
    here, model = settings.station, station.model
    return (
        f"lineside: {here.site}/{here.line}/{here.name}: {model.product} {model.version} "
        f"by {model.engine}, frames from {settings.source.place}"
    )


def _with_trust(settings: StationConfiguration, trust: tuple[Path, ...]) -> StationConfiguration:
    import msgspec

    bundles = tuple(
        msgspec.structs.replace(bundle, trust=tuple(find_trust(trust or bundle.trust)))
        for bundle in settings.bundles
    )
    return msgspec.structs.replace(settings, bundle=bundles)


def _stop_on_signals(stop: Callable[[], None]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # signals come to the main thread only; whoever runs us elsewhere calls `stop`

    def handle(number: int, _frame: FrameType | None) -> None:
        # A second one ends the process the hard way; the outbox is made for it.
        signal.signal(number, signal.SIG_DFL)
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)


class _Progress:
    """On stderr: a line for each change at the broker or of a trouble; on a terminal a count."""

    def __init__(self, *, counts: bool) -> None:
        self._counts = counts
        self._next_s = 0.0
        self._width = 0
        self._told: dict[str, str] = {}

    def __call__(self, station: Station) -> None:
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + _PROGRESS_S
        connection = station.publisher.connection
        if connection.word != "connecting":
            self._tell("broker", " ".join((connection.word, connection.detail)).strip())
        self._tell("bundle", station.slotting.last_words)
        self._tell_troubles(station)
        if self._counts:
            self._count(station, connection.word)

    def close(self, station: Station) -> None:
        """Say what the last pictures met with, which are written after the last frame."""
        self._tell_troubles(station)
        self.end()

    def _tell_troubles(self, station: Station) -> None:
        for what, words in station.troubles.items():
            if what != "broker":  # of which there is more to tell than its troubles
                self._tell(what, words)

    def end(self) -> None:
        """Leave the counting line."""
        if self._width:
            _say("")
            self._width = 0

    def _tell(self, what: str, words: str) -> None:
        before = self._told.get(what, "")
        if words == before:
            return
        self._told[what] = words
        self.end()
        _say(f"lineside: {what}: {words or 'well again'}")

    def _count(self, station: Station, broker: str) -> None:
        counts = [f"{name} {count}" for name, count in station.tally.evaluations.items() if count]
        words = [f"{station.tally.frames} inspected", *counts, f"queue {station.outbox.waiting}"]
        line = "  ".join([*words, f"broker {broker}"])
        _say("\r" + line.ljust(self._width), newline=False)
        self._width = len(line)


def _say(words: str, *, newline: bool = True) -> None:
    # A log on the disk that is full, or whose reader has gone, must not end the inspection.
    with contextlib.suppress(OSError):
        click.echo(words, nl=newline, err=True)


def _print_report(report: RunReport, as_json: bool) -> None:
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode(report).decode("utf-8"))
        return
    rate = report.frames / report.duration_s if report.duration_s > 0 else 0.0
    click.echo(f"{report.frames} frames in {report.duration_s:.1f} s ({rate:.1f}/s)")
    if report.passed_over:
        click.echo(f"{report.passed_over} more were inspected in an earlier run and left alone")
    _print_tables(report)
    click.echo(
        f"\nacknowledged {report.acknowledged} of {report.given} ever given, "
        f"waiting {report.waiting}, reconnects {report.reconnects}"
    )
    if report.late:
        click.echo(f"{report.late} results came after their deadline; the journal has them")
    if report.maps_written or report.maps_lost:
        click.echo(f"maps written {report.maps_written}, lost {report.maps_lost}")
    if report.frames_kept or report.frames_lost:
        click.echo(f"frames kept {report.frames_kept}, lost {report.frames_lost}")


def _print_tables(report: RunReport) -> None:
    from lineside.cli.table import format_table

    counts = [(name, str(count)) for name, count in report.evaluations.items() if count]
    if counts:
        click.echo("\n" + format_table(("evaluation", "verdicts"), counts, right=(1,)))
    reasons = [(name, str(count)) for name, count in report.reasons.items() if count]
    if reasons:
        click.echo("\n" + format_table(("reason", "verdicts"), reasons, right=(1,)))
    stages = [
        (name, *(f"{us / 1000:.3f}" for us in (times.p50_us, times.p99_us, times.max_us)))
        for name, times in report.latency_us.items()
        if times.count
    ]
    if stages:
        head = ("stage", "p50 ms", "p99 ms", "max ms")
        click.echo("\n" + format_table(head, stages, right=(1, 2, 3)))


def _check_drained(
    report: RunReport, settings: StationConfiguration, drain_timeout_s: float
) -> None:
    if report.waiting == 0 or report.stopped:
        return
    from lineside.errors import BrokerError

    raise BrokerError(
        f"{report.waiting} verdicts were not acknowledged within {drain_timeout_s:g} s "
        f"({report.connection}); they are safe in {settings.outbox.path} and go out at the next "
        "start"
    )
