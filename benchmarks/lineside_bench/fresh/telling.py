"""What a fresh process says of itself: when it came where, and what memory it held there.

The standard library only, and of that what the interpreter has loaded anyway, or nearly so.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_SAMPLES: Final = 60


def told_to_do() -> dict[str, Any]:
    """The argument."""
    asked: dict[str, Any] = json.loads(sys.argv[1])
    return asked


def memory_kib(process: str = "self") -> dict[str, int]:
    """Of a process: resident, its share of what others map as well, anonymous, and the peak."""
    fields = dict(
        line.split(":", 1)
        for file in ("smaps_rollup", "status")
        for line in Path(f"/proc/{process}/{file}").read_text("utf-8").splitlines()
        if ":" in line
    )
    wanted = {"rss": "Rss", "pss": "Pss", "anonymous": "Anonymous", "peak": "VmHWM"}
    return {name: int(fields[field].split()[0]) for name, field in wanted.items()}


class Diary:
    """Moments by the clock that all processes of a machine share, and the CPU time until then."""

    def __init__(self) -> None:
        self._moments: dict[str, list[int]] = {}
        self.mark("interpreter")

    def mark(self, name: str) -> None:
        """Now."""
        self._moments[name] = [time.monotonic_ns(), time.process_time_ns()]

    def close(self, call: Callable[[], object], frames: int) -> None:
        """Mark the verdict, call on where more frames were asked for, and print all of it."""
        self.mark("verdict")
        found: dict[str, Any] = {"moments": self._moments, "memory": memory_kib()}
        if frames:
            found["growth"] = _go_on(call, frames)
            found["memory_after"] = memory_kib()
        print(json.dumps(found), flush=True)


def _go_on(call: Callable[[], object], frames: int) -> list[list[int]]:
    """Pairs of frames called so far and KiB resident."""
    every = max(1, frames // _SAMPLES)
    samples = []
    for number in range(1, frames + 1):
        call()
        if number % every == 0:
            samples.append([number, memory_kib()["rss"]])
    return samples
