"""The station's wall clock jumps, while it runs and while it is down, and parts keep coming.

    python benchmarks/faults/clock_jump.py --out benchmarks/results/faults_clock_jump.json
    python benchmarks/faults/clock_jump.py --quick

The clock of the station's process alone is moved, by a small library that is loaded before the C
library (`clock_shim.c`, made with `cc`); time name spaces of Linux cannot shift the wall clock.
Beside the account of every script: after each jump new parts must come on the live topic again.
"""

from __future__ import annotations

import mmap
import random
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

sys.path.extend(str(Path(__file__).parents[2] / room) for room in ("benchmarks", "tests/plugins"))

from feeder import part_of
from line import Line, Outcome, open_line
from script import Trial, prove, say

from lineside.mqtt import decode_verdict

HOUR_S: Final = 3600
# A machine without a battery for its clock wakes up in 1970, and NTP comes later.
JUMPS_S: Final[Mapping[str, float]] = {
    "an hour ahead": HOUR_S,
    "an hour back": -HOUR_S,
    "ten years ahead": 87_660 * HOUR_S,
    "two hours back": -2 * HOUR_S,
}


class ShiftedClock:
    """A wall clock for one process, that can be moved while it runs."""

    def __init__(self, folder: Path) -> None:
        library, shift = folder / "clock_shim.so", folder / "clock_shift"
        source = Path(__file__).with_name("clock_shim.c")
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
        shift.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "LINESIDE_CLOCK_SHIFT": str(shift)}
        self._file = shift.open("r+b")
        self._page = mmap.mmap(self._file.fileno(), 8)

    def move(self, to_s: float) -> None:
        """So many seconds ahead of the machine's clock from now on; negative is behind."""
        self._page[:] = struct.pack("=q", round(to_s * 1e9))

    def close(self) -> None:
        """Let go of the file; the process keeps its last shift."""
        self._page.close()
        self._file.close()


def jump_often(line: Line, clock: ShiftedClock, times: int, chance: random.Random) -> Outcome:
    """All jumps in turn, each while the station runs and each while it is down; then settle."""
    line.feeder.start()
    line.start_station()
    for number in range(times):
        for shift_s in (*JUMPS_S.values(), -time.time() + 1):
            line.wait_for_verdicts(1)
            time.sleep(chance.uniform(0, 0.3))
            is_down = number % 2 == 1
            if is_down:
                line.kill_station()
            clock.move(shift_s)
            if is_down:
                line.start_station()
            line.wait_for_live_verdicts(3)
            _check_moved(line, shift_s)
            clock.move(0)
            line.wait_for_live_verdicts(3)
    return line.settle()


def _check_moved(line: Line, shift_s: float) -> None:
    """A library that was not loaded, or a clock that was read elsewhere, would prove nothing."""
    # Not the last that came: what waited over the jump comes as history, later than new ones.
    newest = max(line.witness.deliveries, key=part_of)
    taken_ms = decode_verdict(newest.payload, source="witness").t
    away_s = taken_ms / 1000 - time.time() - shift_s
    assert abs(away_s) < HOUR_S / 4, f"the station's clock is {away_s:g} s off what was set"


def measure(trial: Trial) -> Mapping[str, Outcome]:
    """The one case."""
    room = trial.room("clock")
    clock = ShiftedClock(room)
    try:
        with open_line(room, trial.bundle, environment=clock.environment) as line:
            outcome = jump_often(line, clock, trial.times, trial.random)
    finally:
        clock.close()
    say(f"{trial.times} times {len(JUMPS_S) + 1} jumps and back, by LD_PRELOAD")
    return {"clock jump": outcome}


if __name__ == "__main__":
    sys.exit(prove("jumps of the station's wall clock while parts come", measure, full=20, quick=2))
