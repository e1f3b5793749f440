"""A whole line on this machine: broker, station in a process of its own, camera folder, PLC."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lineside.bench import golden_frames
from lineside.errors import LinesideError
from lineside.frame import encode_png
from lineside_bench.broker import Broker
from lineside_bench.plc import Plc
from lineside_bench.station_file import STATION, write_station
from lineside_bench.suite import Sealed, Suite
from lineside_bench.verb import verb_command

_PATIENCE_S: Final = 60.0
# The camera's software has written the picture before the PLC says that the part is there.
_AHEAD_S: Final = 0.1

_TRIGGERED: Final = """\
[trigger]
kind = "mqtt"
match = "part"
most_waiting = 256
part_timeout_ms = 10000
frame_timeout_ms = 5000
"""
_RECONNECT: Final = """\
state_interval_s = 1
reconnect_min_s = 0.1
reconnect_max_s = 0.5
"""


class LineFault(LinesideError):
    """The line on this machine does not come up, or falls silent."""


@dataclass(frozen=True, kw_only=True)
class Fed:
    """Parts of one stretch: when each one's trigger was due, by `time.perf_counter_ns`."""

    due_ns: dict[str, int] = field(default_factory=dict)


class Rig:
    """Runs from `open_rig` on.

    Attributes:
        broker: may be stopped and started.
        plc: what it heard.
    """

    def __init__(self, folder: Path, pictures: Sequence[Path], broker: Broker, plc: Plc) -> None:
        self.broker = broker
        self.plc = plc
        self._frames = folder / "frames"
        self._pictures = pictures
        self._count = 0

    def feed(self, rate_hz: float, duration_s: float, *, triggered: bool) -> Fed:
        """Present parts at an even rate, whether or not the station keeps up.

        Args:
            rate_hz: parts a second.
            duration_s: how long.
            triggered: the PLC says when a part is there; else its picture does.
        """
        fed = Fed()
        # Two hands: a picture is there a while before its trigger, at any rate.
        parts = [self._next_part() for _ in range(max(1, round(rate_hz * duration_s)))]
        start_ns = time.perf_counter_ns() + round((_AHEAD_S + 0.05) * 1e9)
        for number, part in enumerate(parts):
            fed.due_ns[part] = start_ns + round(number * 1e9 / rate_hz)
        ahead_ns = round(_AHEAD_S * 1e9) if triggered else 0
        place = threading.Thread(target=self._place_all, args=(fed, ahead_ns), daemon=True)
        place.start()
        if triggered:
            for part, due_ns in fed.due_ns.items():
                _sleep_until(due_ns)
                self.plc.trigger(part)
        place.join()
        return fed

    def wait_for(self, fed: Fed) -> int:
        """Until each part has its verdict or its trigger was refused, or nothing came for a long
        time; of how many nothing was heard."""
        parts = fed.due_ns.keys()
        heard, since_s = -1, time.monotonic()
        while (found := len(parts & (self.plc.arrived_ns.keys() | self.plc.refused))) < len(parts):
            if found != heard:
                heard, since_s = found, time.monotonic()
            if time.monotonic() - since_s > _PATIENCE_S:
                break
            time.sleep(0.02)
        self._clean()
        return len(parts) - found

    def _next_part(self) -> str:
        self._count += 1
        return f"part-{self._count:07d}"

    def _place_all(self, fed: Fed, ahead_ns: int) -> None:
        for number, (part, due_ns) in enumerate(fed.due_ns.items()):
            _sleep_until(due_ns - ahead_ns)
            # A second name for the same bytes: it appears at once, and whole.
            os.link(self._pictures[number % len(self._pictures)], self._frames / f"{part}.png")

    def _clean(self) -> None:
        for picture in self._frames.glob("part-*.png"):
            if picture.stem in self.plc.arrived_ns or picture.stem in self.plc.refused:
                picture.unlink()


def _sleep_until(due_ns: int) -> None:
    left_s = (due_ns - time.perf_counter_ns()) / 1e9
    if left_s > 0:
        time.sleep(left_s)


@contextlib.contextmanager
def open_rig(suite: Suite, one: Sealed, *, triggered: bool) -> Iterator[Rig]:
    """Broker, PLC and a station that inspects; all ended afterwards, and their files gone.

    Raises:
        LineFault: the station does not start; its words are in the message.
        InputDataError: there is no mosquitto here.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lineside-line-")))
        pictures = _write_pictures(suite, one, folder)
        broker = Broker(folder)
        stack.callback(broker.stop)
        broker.start()
        plc = Plc(broker.port, STATION)
        stack.callback(plc.close)
        plc.connect()
        write_station(
            folder,
            suite,
            one,
            broker.url,
            source="poll_ms = 10",
            trigger=_TRIGGERED if triggered else "",
            mqtt=_RECONNECT,
        )
        stack.enter_context(_station(folder, lambda: plc.state.get("st") == 1))
        yield Rig(folder, pictures, broker, plc)


def _write_pictures(suite: Suite, one: Sealed, folder: Path) -> list[Path]:
    with suite.open(one) as bundle:
        frames = golden_frames(bundle)
    pictures = [folder / f"picture-{number}.png" for number in range(len(frames))]
    for path, frame in zip(pictures, frames, strict=True):
        path.write_bytes(encode_png(frame.pixels_hwc))
    return pictures


@contextlib.contextmanager
def _station(folder: Path, ready: Callable[[], bool]) -> Iterator[None]:
    log = folder / "station.log"
    environment = {**os.environ, "LINESIDE_CACHE": str(folder / "cache")}
    command = verb_command("run", folder / "station.toml")
    with log.open("wb") as file:
        running = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
    try:
        deadline_s = time.monotonic() + _PATIENCE_S
        while not ready():
            if running.poll() is not None or time.monotonic() > deadline_s:
                words = log.read_text(encoding="utf-8", errors="replace")[-1500:]
                raise LineFault(f"the station does not come up: {words}")
            time.sleep(0.02)
        yield
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
