"""How many verdicts a second go through the durable outbox to mosquitto, and what that costs.

    python benchmarks/faults/load.py --out benchmarks/results/faults_load.json
    python benchmarks/faults/load.py --quick

Outbox and publisher run in this process, mosquitto beside. A verdict counts when mosquitto has
acknowledged it. Beside: what the disk does by itself (4 KiB written and `fdatasync`, one after the
other), how long a verdict waits until it is durable, and the process's memory over many verdicts.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

sys.path.extend(str(Path(__file__).parents[2] / room) for room in ("benchmarks", "tests/plugins"))

from mosquitto_broker import Mosquitto
from pipeline import Pipeline, open_pipeline
from script import record, say

from lineside.cli.table import format_table
from lineside.latency import LatencyHistogram
from lineside.station import SWITCH_S

GOAL_PER_S: Final = 2000
GOAL_FSYNCS: Final = 3
GOAL_GROWTH_MIB: Final = 10
RATES_HZ: Final = (100, 1000, GOAL_PER_S)
# Durable and not yet acknowledged: the generator waits here, so that what is measured is the whole
# way and not a growing file.
_AHEAD: Final = 4096
_PATIENCE_S: Final = 120.0
_ROUNDS: Final = 8
_LOOK_S: Final = 1.0
_WARM_UP: Final = 20_000
_SAMPLE_EVERY: Final = 5_000


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """4 KiB written into a plain file and `fdatasync`, one after the other."""

    per_s: float
    p50_ms: float
    p99_ms: float


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """One speed.

    Attributes:
        asked_hz: 0 is as fast as it goes.
        acknowledged_per_s: from the first verdict of a round to its last acknowledgement.
        disk: the plain file's, taken in turns with the rounds.
        cpu_share: of one core, this process's.
    """

    asked_hz: int
    acknowledged_per_s: float
    handover_p50_ms: float
    handover_p99_ms: float
    disk: Disk
    cpu_share: float

    @property
    def fsyncs(self) -> float:
        """Hand-over p99 in units of one median fsync."""
        return self.handover_p99_ms / self.disk.p50_ms

    @property
    def fsyncs_p99(self) -> float:
        """Hand-over p99 in units of the fsync's own p99: like with like on a noisy disk."""
        return self.handover_p99_ms / self.disk.p99_ms


class PlainFile:
    """What the disk does alone, in the same folder; gathers over several looks."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "plain.bin"
        self._times = LatencyHistogram()
        self._wall_s = 0.0

    def look(self, seconds: float) -> None:
        """Write and sync for so long."""
        block = os.urandom(4096)
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
        started_s = time.monotonic()
        try:
            for place in itertools.cycle(range(256)):
                before_ns = time.monotonic_ns()
                if before_ns / 1e9 - started_s > seconds:
                    break
                os.pwrite(descriptor, block, place * 4096)
                os.fdatasync(descriptor)
                self._times.add((time.monotonic_ns() - before_ns) / 1000)
        finally:
            os.close(descriptor)
            self._wall_s += time.monotonic() - started_s

    def found(self) -> Disk:
        """So far."""
        times = self._times.percentiles()
        return Disk(
            per_s=times.count / self._wall_s,
            p50_ms=times.p50_us / 1000,
            p99_ms=times.p99_us / 1000,
        )


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Resident memory after warm-up, MiB."""

    verdicts: int
    first_mib: float
    highest_mib: float
    last_mib: float

    @property
    def growth_mib(self) -> float:
        """Of the highest over the first."""
        return self.highest_mib - self.first_mib


def measure_rate(folder: Path, url: str, rate_hz: int, seconds: float) -> Rate:
    """Give verdicts and look at the disk in turns, so that a busy disk is busy for both."""
    disk = PlainFile(folder)
    given, wall_s, cpu_s = 0, 0.0, 0.0
    with open_pipeline(folder, url) as pipeline:
        pipeline.wait_for(lambda: pipeline.publisher.connection.word == "online", _PATIENCE_S)
        for _ in range(_ROUNDS):
            disk.look(_LOOK_S)
            cpu_before_s, started_s = time.process_time(), time.monotonic()
            given = _give_for(pipeline, given, rate_hz, seconds / _ROUNDS)
            _await_acknowledged(pipeline, given)
            wall_s += time.monotonic() - started_s
            cpu_s += time.process_time() - cpu_before_s
        handover = pipeline.outbox.handover.percentiles()
    _forget(folder)
    return Rate(
        asked_hz=rate_hz,
        acknowledged_per_s=given / wall_s,
        handover_p50_ms=handover.p50_us / 1000,
        handover_p99_ms=handover.p99_us / 1000,
        disk=disk.found(),
        cpu_share=cpu_s / wall_s,
    )


def measure_memory(folder: Path, url: str, verdicts: int) -> Memory:
    """As fast as it goes; resident memory every 5,000 after the first 20,000."""
    sampled: list[float] = []
    with open_pipeline(folder, url) as pipeline:
        for number in range(_WARM_UP + verdicts):
            _hold_back(pipeline, number)
            pipeline.give(number)
            if number >= _WARM_UP and number % _SAMPLE_EVERY == 0:
                sampled.append(resident_mib())
        _await_acknowledged(pipeline, _WARM_UP + verdicts)
        sampled.append(resident_mib())
    _forget(folder)
    return Memory(
        verdicts=verdicts,
        first_mib=sampled[0],
        highest_mib=max(sampled),
        last_mib=sampled[-1],
    )


def resident_mib() -> float:
    """Of this process, now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def _give_for(pipeline: Pipeline, first: int, rate_hz: int, seconds: float) -> int:
    """Number by number for so long; the next number."""
    started_s = time.monotonic()
    number = first
    while time.monotonic() - started_s < seconds:
        if rate_hz:
            time.sleep(max(started_s + (number - first) / rate_hz - time.monotonic(), 0))
        _hold_back(pipeline, number)
        pipeline.give(number)
        number += 1
    return number


def _await_acknowledged(pipeline: Pipeline, given: int) -> None:
    everything = pipeline.wait_for(lambda: pipeline.outbox.acknowledged == given, _PATIENCE_S)
    assert everything, f"{pipeline.outbox.acknowledged} of {given} were acknowledged"


def _hold_back(pipeline: Pipeline, number: int) -> None:
    if number - pipeline.outbox.acknowledged > _AHEAD:
        pipeline.wait_for(lambda: number - pipeline.outbox.acknowledged < _AHEAD // 2, _PATIENCE_S)


def _forget(folder: Path) -> None:
    for file in folder.glob("outbox.sqlite*"):
        file.unlink()


def measure(folder: Path, *, seconds: float, verdicts: int) -> Mapping[str, object]:
    """Everything, in the folder's file system."""
    broker = Mosquitto(folder, "max_inflight_messages 0", log_type="error")
    broker.start()
    try:
        rates = [measure_rate(folder, broker.url, hz, seconds) for hz in (*RATES_HZ, 0)]
        _show_rates(rates)
        memory = measure_memory(folder, broker.url, verdicts)
        say(
            f"memory over {verdicts} verdicts: {memory.first_mib:.1f} MiB, highest "
            f"{memory.highest_mib:.1f}, last {memory.last_mib:.1f} (growth {memory.growth_mib:.1f})"
        )
    finally:
        broker.kill()
    return {
        "rates": [_with_ratios(rate) for rate in rates],
        "memory": msgspec.to_builtins(memory),
        "goals_missed": _missed(rates, memory),
    }


def _with_ratios(rate: Rate) -> dict[str, object]:
    ratios = {"handover_fsyncs": rate.fsyncs, "handover_fsync_p99s": rate.fsyncs_p99}
    return {**msgspec.to_builtins(rate), **ratios}


def _missed(rates: list[Rate], memory: Memory) -> list[str]:
    fastest = max(rate.acknowledged_per_s for rate in rates)
    missed = []
    if fastest < GOAL_PER_S:
        missed.append(f"{fastest:.0f} verdicts/s, {GOAL_PER_S} wanted")
    # At full speed the generator itself waits for room: that is back-pressure, not hand-over.
    missed += [
        f"hand-over p99 at {rate.asked_hz}/s: {rate.fsyncs:.1f} fsyncs, {GOAL_FSYNCS} wanted"
        for rate in rates
        if rate.asked_hz and rate.fsyncs > GOAL_FSYNCS
    ]
    if memory.growth_mib >= GOAL_GROWTH_MIB:
        missed.append(f"memory grew by {memory.growth_mib:.1f} MiB, {GOAL_GROWTH_MIB} wanted")
    return missed


def _show_rates(rates: list[Rate]) -> None:
    columns: dict[str, Callable[[Rate], str]] = {
        "asked/s": lambda rate: str(rate.asked_hz or "full"),
        "acknowledged/s": lambda rate: f"{rate.acknowledged_per_s:.0f}",
        "hand-over p50 ms": lambda rate: f"{rate.handover_p50_ms:.2f}",
        "p99 ms": lambda rate: f"{rate.handover_p99_ms:.2f}",
        "fsyncs/s": lambda rate: f"{rate.disk.per_s:.0f}",
        "fsync p50 ms": lambda rate: f"{rate.disk.p50_ms:.2f}",
        "fsync p99 ms": lambda rate: f"{rate.disk.p99_ms:.2f}",
        "p99/p50": lambda rate: f"{rate.fsyncs:.2f}",
        "p99/p99": lambda rate: f"{rate.fsyncs_p99:.2f}",
        "cores": lambda rate: f"{rate.cpu_share:.2f}",
    }
    rows = [[shown(rate) for shown in columns.values()] for rate in rates]
    say(format_table(tuple(columns), rows, right=tuple(range(len(columns)))))


def main() -> int:
    """The script; 1 where a goal was missed."""
    sys.setswitchinterval(SWITCH_S)  # as `lineside run` does
    parser = argparse.ArgumentParser(description="load on outbox and publisher")
    parser.add_argument("--quick", action="store_true", help="5 s a speed, 30,000 verdicts")
    parser.add_argument("--seconds", type=float, help="each speed so long; else 60")
    parser.add_argument("--times", type=int, help="verdicts for the memory; else 1,000,000")
    parser.add_argument("--folder", type=Path, help="where the outbox lies; else a temporary one")
    parser.add_argument("--out", type=Path, help="write what was found, as JSON")
    options = parser.parse_args()
    load_before = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="lineside-load-", dir=options.folder) as name:
        found = measure(
            Path(name),
            seconds=options.seconds or (5.0 if options.quick else 60.0),
            verdicts=options.times or (30_000 if options.quick else 1_000_000),
        )
    missed = found["goals_missed"]
    say(f"goals missed: {missed or 'none'}")
    if options.out is not None:
        record(options.out, "verdicts/s through outbox and publisher", found, load_before)
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
