"""``lineside command install``: sends a bundle, shows how far it is, and waits for its trial."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from lineside.bundle.layout import HEADER_BYTES, unpack_header
from lineside.cli.command_calls import CommandReport, is_terminal, report_of, say, tell
from lineside.errors import BrokerError, CommandRefusedError, ConfigurationError
from lineside.mqtt import StateMessage, StationTopics
from lineside.remote.bundlefile import BundleFile
from lineside.remote.call import Call, Order
from lineside.remote.caller import Caller
from lineside.remote.following import Following, Stage, Standing
from lineside.remote.window import Stretch

_TICK_S: Final = 0.2
_MB: Final = 1e6
_WORDS: Final = {
    Stage.PENDING: "installed; the station tries it next",
    Stage.TRIAL: "on trial",
    Stage.CONFIRMED: "confirmed",
}


@dataclass(frozen=True, kw_only=True)
class Installing:
    """What the options say.

    Attributes:
        file: what is sent, or what lies at ``url``; ``None``: ``sha256`` says which.
        url: the name below the station's ``commands.url``; ``""``: the file is sent.
        wait_timeout_s: ``None``: for ever.
    """

    file: Path | None
    url: str
    sha256: str
    product: str
    wait: bool
    wait_timeout_s: float | None


class InstallReport(CommandReport, frozen=True, kw_only=True):
    """As ``--json`` prints it.

    Attributes:
        bundle: the first 16 digits of its hash.
        sha256: of the whole file.
        sent_bytes: that went to the station, or that it fetched, this time.
        duration_s: from the first asking to the answer.
        stage: with ``--wait``: what became of it.
    """

    bundle: str
    sha256: str
    sent_bytes: int
    duration_s: float
    stage: str | None = None


def install_bundle(
    caller: Caller, station: StationTopics, told: Installing, *, as_json: bool
) -> None:
    """Do all of it.

    Raises:
        CommandRefusedError: the station said no, or the bundle was reverted.
        BrokerError: no answer in time, no broker, or not confirmed within the time.
        BundleFormatError: the file is no bundle.
    """
    caller.watch([station])
    with _open_file(told.file) as file:
        show = Show()
        call = caller.submit(_order(caller, station, told, file, show))
        show.follow(call)
        before = caller.state(station)
        report = report_of(call, as_json=as_json)
    found = re.search(r"\b[0-9a-f]{16}$", report.detail)
    bundle = found[0] if found else ""
    stage = None
    if told.wait:
        if not bundle or report.t is None:
            words = f"{station}: install: its answer names no bundle: {report.detail!r}"
            raise BrokerError(f"{words}; nothing can be waited for")
        following = Following(bundle, installed_ms=report.t, before=before)
        stage = _wait(caller, station, following, told.wait_timeout_s).stage.value
    done = InstallReport(
        station=report.station,
        verb=report.verb,
        ok=report.ok,
        detail=report.detail,
        t=report.t,
        bundle=bundle,
        sha256=str(call.order.args["sha256"]),
        sent_bytes=show.passed_bytes,
        duration_s=round(show.passed_s, 3),
        stage=stage,
    )
    tell(done, as_json=as_json)


@contextlib.contextmanager
def _open_file(path: Path | None) -> Iterator[BundleFile | None]:
    if path is None:
        yield None
        return
    with BundleFile(path) as file:
        size_bytes = min(HEADER_BYTES, file.size_bytes)
        unpack_header(file.read(Stretch(offset=0, size_bytes=size_bytes)), source=str(path))
        yield file


def _order(
    caller: Caller,
    station: StationTopics,
    told: Installing,
    file: BundleFile | None,
    show: Show,
) -> Order:
    if file is not None and not told.url:
        return caller.order_install(station, file, show.progress, product=told.product)
    if file is None and not re.fullmatch(r"[0-9a-f]{64}", told.sha256):
        raise ConfigurationError("--sha256: 64 small hex digits", path="sha256")
    return caller.order_download(
        station,
        told.url,
        show.progress,
        sha256=bytes.fromhex(told.sha256) if file is None else file.sha256,
        size_bytes=0 if file is None else file.size_bytes,
        product=told.product,
    )


class Show:
    """How far it is: a line that is written anew on a terminal, else only what is remarkable.

    Attributes:
        passed_bytes: that the station got this time.
        passed_s: since the beginning.
    """

    def __init__(self) -> None:
        self.passed_bytes = 0
        self.passed_s = 0.0
        self._began_s = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._done_bytes = 0
        self._size_bytes = 0

    def progress(self, done_bytes: int, size_bytes: int) -> None:
        """Called in the caller's thread: only noted."""
        if self._first is None:
            self._first = (time.monotonic(), done_bytes)
        self._done_bytes, self._size_bytes = done_bytes, size_bytes
        self.passed_bytes = max(0, done_bytes - self._first[1])

    def follow(self, call: Call) -> None:
        """Until it is over."""
        watched, written = is_terminal(), 0
        while not call.wait(_TICK_S):
            if watched and self._first is not None:
                line = self._line()
                click.echo("\r" + line.ljust(written), err=True, nl=False)
                written = len(line)
        self.passed_s = time.monotonic() - self._began_s
        if written:
            click.echo("\r" + " " * written + "\r", err=True, nl=False)
        if self.passed_bytes:
            rate = f"{self._rate() / _MB:.1f} MB/s"
            say(f"{self.passed_bytes / _MB:.1f} MB in {self.passed_s:.1f} s, {rate}")

    def _rate(self) -> float:
        """Bytes per second, since the first were there."""
        began_s = self._began_s if self._first is None else self._first[0]
        return self.passed_bytes / max(time.monotonic() - began_s, 0.001)

    def _line(self) -> str:
        done, size, rate = self._done_bytes, self._size_bytes, self._rate()
        if not size:
            return f"{done / _MB:.1f} MB  {rate / _MB:.1f} MB/s"
        if done >= size:
            return f"{size / _MB:.1f} MB are there; the station verifies and proves them"
        left = f"{(size - done) / rate:.0f} s left" if rate else ""
        return (
            f"{100 * done // size:3d} %  {done / _MB:.1f} of {size / _MB:.1f} MB  "
            f"{rate / _MB:.1f} MB/s  {left}"
        )


def _wait(
    caller: Caller, station: StationTopics, following: Following, timeout_s: float | None
) -> Standing:
    """Until it is confirmed.

    Raises:
        CommandRefusedError: it was reverted.
        BrokerError: the time is over.
    """
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    said = Standing()
    for state in _states(caller, station, deadline_s):
        standing = following.hear(state)
        if standing != said:
            _say_standing(station, standing, state)
            said = standing
        if standing.stage is Stage.REVERTED:
            words = f"{station}: install: reverted by the station: {standing.reason}"
            raise CommandRefusedError(words, reason=standing.reason or "reverted")
        if standing.stage is Stage.CONFIRMED:
            return standing
    raise BrokerError(
        f"{station}: install: {following.standing.stage.value} after {timeout_s or 0:g} s, not "
        "confirmed: the trial goes on; follow it with lineside listen --topic state"
    )


def _states(
    caller: Caller, station: StationTopics, deadline_s: float | None
) -> Iterator[StateMessage]:
    """Each new one."""
    seen, last = 0, None
    while deadline_s is None or time.monotonic() < deadline_s:
        state = caller.state(station)
        if state is not None and state != last:
            last = state
            yield state
        seen = caller.wait_for_news(seen, _TICK_S)


def _say_standing(station: StationTopics, standing: Standing, state: StateMessage) -> None:
    words = _WORDS.get(standing.stage, standing.stage.value)
    if not standing.is_online:
        words = f"offline ({state.reason}); waiting for it"
    say(f"{station}: {words}")
