"""The memory of one point, in a process of its own: ``python -m lineside_bench.scaling.held``."""

from __future__ import annotations

import subprocess
import sys

import msgspec

from lineside.errors import InputDataError
from lineside.resident import resident_mib
from lineside_bench.scaling.points import Opened, Point

_ROUNDS = 5


def measure_held(point: Point) -> float:
    """MiB that a fresh process holds after a few inspections.

    Raises:
        InputDataError: it ended without an answer.
    """
    done = subprocess.run(
        [sys.executable, "-m", "lineside_bench.scaling.held"],
        input=msgspec.json.encode(point),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace")[-500:]
        raise InputDataError(f"{point.name}: its own process ended: {words}")
    return round(float(done.stdout), 1)


def main() -> None:
    """Read a point, inspect, answer."""
    point = msgspec.json.decode(sys.stdin.buffer.read(), type=Point)
    with Opened() as opened:
        way = opened.way(point)
        for number in range(_ROUNDS):
            way(number)
        print(resident_mib())


if __name__ == "__main__":
    main()
