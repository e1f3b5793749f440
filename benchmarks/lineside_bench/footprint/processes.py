"""Start a fresh process, and read what it said of itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lineside.engines.silence import silence_telemetry
from lineside.errors import LinesideError

_LIMIT_S: Final = 1800
_NEVER_COMPILED: Final = "PYTHONDONTWRITEBYTECODE"


class ProcessFault(LinesideError):
    """A process that was to be measured did not come to its end."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """One fresh process.

    Attributes:
        until_s: seconds from its start until each of its moments, by the wall's clock.
        cpu_until_s: seconds of computing until then, of all its threads.
        memory_kib: resident, proportional, anonymous and peak, at the verdict.
        memory_after_kib: the same after further frames, where there were any.
        growth: pairs of frames and KiB resident.
    """

    until_s: dict[str, float]
    cpu_until_s: dict[str, float]
    memory_kib: dict[str, int]
    memory_after_kib: dict[str, int]
    growth: list[list[int]]


def environment(cache_home: str) -> dict[str, str]:
    """What a process that is measured is started with.

    Args:
        cache_home: where Lineside remembers, and nowhere else.
    """
    # Python may keep what it compiles, as pip does on installing: where it may not, sources that
    # are run from their own folder are compiled again at each start, and wheels are not.
    kept = {name: value for name, value in os.environ.items() if name != _NEVER_COMPILED}
    return {**kept, "LINESIDE_CACHE": cache_home}


class Running:
    """A program of `lineside_bench.fresh`, under way."""

    def __init__(self, program: str, asked: Mapping[str, Any], cache_home: str) -> None:
        # Now and for all the children: what calls home would be measured as well.
        silence_telemetry()
        words = [sys.executable, "-m", f"lineside_bench.fresh.{program}", json.dumps(asked)]
        self._name = program
        self._started_ns = time.monotonic_ns()
        self._process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(cache_home),
        )

    def wait(self) -> Started:
        """Until it has ended.

        Raises:
            ProcessFault: it failed, or took half an hour.
        """
        try:
            said, complained = self._process.communicate(timeout=_LIMIT_S)
        except subprocess.TimeoutExpired as error:
            self._process.kill()
            raise ProcessFault(f"{self._name}: no end within {_LIMIT_S} s") from error
        if self._process.returncode:
            words = complained.decode(errors="replace").strip()[-2000:]
            raise ProcessFault(f"{self._name}: exit code {self._process.returncode}: {words}")
        found = json.loads(said.splitlines()[-1])
        moments = found["moments"].items()
        return Started(
            until_s={name: (wall - self._started_ns) / 1e9 for name, (wall, _) in moments},
            cpu_until_s={name: cpu / 1e9 for name, (_, cpu) in moments},
            memory_kib=found["memory"],
            memory_after_kib=found.get("memory_after", {}),
            growth=found.get("growth", []),
        )
