"""``kill -9`` of the station at random moments, again and again, while parts keep coming.

    python benchmarks/faults/station_killed.py --out benchmarks/results/faults_station_killed.json
    python benchmarks/faults/station_killed.py --quick

Two of three kills come up to 0.4 s after the station has begun to publish again, one of three at
any moment of the first second, also while it opens its outbox.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path

sys.path.extend(str(Path(__file__).parents[2] / room) for room in ("benchmarks", "tests/plugins"))

from line import Line, Outcome, open_line
from script import Trial, prove, say


def kill_often(line: Line, times: int, moments: random.Random) -> Outcome:
    """Kill so often, start again each time, then settle."""
    line.feeder.start()
    for number in range(times):
        line.start_station()
        if number % 3:
            line.wait_for_verdicts(1)
            time.sleep(moments.uniform(0, 0.4))
        else:
            time.sleep(moments.uniform(0, 1))
        line.kill_station()
        if number % 20 == 19:
            say(f"{number + 1} kills, {len(line.witness.deliveries)} deliveries")
    line.start_station()
    return line.settle()


def measure(trial: Trial) -> Mapping[str, Outcome]:
    """The one case."""
    with open_line(trial.room("killed"), trial.bundle) as line:
        return {"kill -9": kill_often(line, trial.times, trial.random)}


if __name__ == "__main__":
    sys.exit(prove("kill -9 of the station at random moments", measure, full=200, quick=10))
