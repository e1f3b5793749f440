"""Verdict to subscriber as more and more stations speak to one broker."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineside.errors import InputDataError
from lineside.resident import resident_bytes
from lineside_bench.broker import Broker
from lineside_bench.plc import Plc
from lineside_bench.scaling.hall import DONE, HallOrder

STATIONS: Final = (1, 2, 4, 8, 16, 32)
RATE_HZ: Final = 5.0
_HALLS: Final = 4
_PATIENCE_S: Final = 20.0
_MEMORY_DISK: Final = Path("/dev/shm")
_ALL: Final = "lineside/v1/bench/bench/+"


class Hall:
    """One process with some stations."""

    def __init__(self, log: Path) -> None:
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "lineside_bench.scaling.hall"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
            )

    def tell(self, order: HallOrder) -> None:
        """Does not wait."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        self._process.stdin.flush()

    def wait(self) -> None:
        """Until the order is done.

        Raises:
            InputDataError: the process ended.
        """
        assert self._process.stdout is not None
        if self._process.stdout.readline().decode().strip() != DONE:
            raise InputDataError(f"a simulated station failed: {self._log.read_text('utf-8')}")

    def close(self) -> None:
        """Let its stations say goodbye."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def measure_stations(
    counts: Sequence[int] = STATIONS, *, parts: int, rate_hz: float = RATE_HZ
) -> list[dict[str, Any]]:
    """A row for each number of stations, the smallest first.

    Args:
        counts: of stations.
        parts: of each.
        rate_hz: of each.

    Raises:
        InputDataError: there is no mosquitto here.
    """
    rows = []
    with _open_line() as (folder, broker, plc, halls):
        warm_up = _round(folder, broker, halls, counts[0], parts=3, rate_hz=rate_hz)
        _wait_for(plc, set(), warm_up)
        for count in counts:
            before = set(plc.arrived_ns)
            given = _round(folder, broker, halls, count, parts=parts, rate_hz=rate_hz)
            times_us = _wait_for(plc, before, given)
            held_bytes = resident_bytes(Path(f"/proc/{broker.pid}/statm")) or 0
            p50, p90 = np.percentile(times_us, (50, 90)).tolist()
            rows.append(
                {
                    "size": count,
                    "p50_us": round(p50, 1),
                    "p90_us": round(p90, 1),
                    "verdicts": len(times_us),
                    "lost": given - len(times_us),
                    "memory_mib": round(held_bytes / 2**20, 2),
                }
            )
    return rows


@contextlib.contextmanager
def _open_line() -> Iterator[tuple[Path, Broker, Plc, list[Hall]]]:
    with contextlib.ExitStack() as stack:
        # In a factory each station has a disk of its own; here all of them would share one.
        place = _MEMORY_DISK if os.access(_MEMORY_DISK, os.W_OK) else None
        told = stack.enter_context(tempfile.TemporaryDirectory(prefix="lineside-hall-", dir=place))
        folder = Path(told)
        broker = Broker(folder)
        stack.callback(broker.stop)
        broker.start()
        plc = Plc(broker.port, _ALL)
        stack.callback(plc.close)
        plc.connect()
        halls = [Hall(folder / f"hall-{number}.log") for number in range(_HALLS)]
        for hall in halls:
            stack.callback(hall.close)
        yield folder, broker, plc, halls


def _round(
    folder: Path, broker: Broker, halls: Sequence[Hall], count: int, *, parts: int, rate_hz: float
) -> int:
    """All connect, then all give; how many verdicts there are."""
    orders = [
        HallOrder(
            url=broker.url,
            folder=str(folder),
            stations=tuple(str(number) for number in range(place, count, len(halls))),
        )
        for place in range(len(halls))
    ]
    _tell_all(halls, orders)
    start_ns = time.monotonic_ns() + 300_000_000
    _tell_all(
        halls,
        [
            msgspec.structs.replace(order, parts=parts, rate_hz=rate_hz, start_ns=start_ns)
            for order in orders
        ],
    )
    return count * parts


def _tell_all(halls: Sequence[Hall], orders: Sequence[HallOrder]) -> None:
    for hall, order in zip(halls, orders, strict=True):
        hall.tell(order)
    for hall in halls:
        hall.wait()


def _wait_for(plc: Plc, before: set[str], count: int) -> NDArray[np.float64]:
    """Microseconds of each verdict, from its hand-over to the subscriber."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while len(plc.arrived_ns) - len(before) < count and time.monotonic() < deadline_s:
        time.sleep(0.02)
    arrived = {part: at for part, at in dict(plc.arrived_ns).items() if part not in before}
    return np.array([(at - int(part.rpartition("-")[2])) / 1e3 for part, at in arrived.items()])
