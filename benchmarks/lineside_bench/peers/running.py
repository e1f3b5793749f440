"""A peer's process from our side: started, asked, ended; only one works at a time."""

from __future__ import annotations

import json
import os
import select
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic, perf_counter_ns, sleep
from typing import Any, Final

import msgspec
import numpy as np

from lineside.closing import Closing
from lineside.errors import LinesideError
from lineside_bench.peers.roster import RUNNERS
from lineside_bench.peers.runners.serve import Job
from lineside_bench.peers.venvs import Place, quiet_environment
from lineside_bench.turns import Micros

_START_LIMIT_S: Final = 300.0
_ANSWER_LIMIT_S: Final = 120.0
_REST_S: Final = 0.005
"""After a turn: engines let their threads spin for a while before they sleep."""


class PeerFault(LinesideError):
    """A peer could not do what was asked; its words."""


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What a runner says after its first result, durations in microseconds."""

    import_us: float
    load_us: float
    first_us: float
    ways: list[str]
    told: str


@dataclass(frozen=True, kw_only=True)
class Start:
    """From the start of the process to its first result, in milliseconds, with its parts."""

    whole_ms: float
    import_ms: float
    load_ms: float
    first_ms: float


class Runner(Closing):
    """One peer in one form with one number of threads.

    Attributes:
        start: what it took.
        ways: how it can be called.
        told: its version and arithmetic.
    """

    def __init__(self, place: Place, job: Job, folder: Path) -> None:
        """Start it and wait for its first result.

        Args:
            place: where it runs.
            job: what it opens.
            folder: its working folder, made here.

        Raises:
            PeerFault: it failed.
        """
        folder.mkdir(parents=True)
        (folder / "job.json").write_text(json.dumps(asdict(job)), "utf-8")
        self._log = (folder / "stderr.txt").open("wb")
        started_ns = perf_counter_ns()
        self._process = subprocess.Popen(
            [str(place.python), str(RUNNERS / "serve.py"), str(folder / "job.json")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=folder,
            env=quiet_environment(place, folder),
        )
        self._rest = b""
        try:
            ready = msgspec.convert(self._hear(_START_LIMIT_S), Ready)
        except PeerFault:
            self.close()
            raise
        self.start = Start(
            whole_ms=round((perf_counter_ns() - started_ns) / 1e6, 1),
            import_ms=round(ready.import_us / 1e3, 1),
            load_ms=round(ready.load_us / 1e3, 1),
            first_ms=round(ready.first_us / 1e3, 1),
        )
        self.ways, self.told = tuple(ready.ways), ready.told

    def values(self) -> dict[str, list[float]]:
        """What each way makes of each image."""
        return dict(self._ask("values")["values"])

    def turn(self, way: str, start: int, settle: int, count: int) -> Micros:
        """Durations of ``count`` calls, after ``settle`` that do not count."""
        taken = self._ask(f"turn {way} {start} {settle} {count}")["taken_us"]
        sleep(_REST_S)
        return np.asarray(taken, np.float64)

    def memory(self) -> tuple[int, int]:
        """Resident now, and the most it ever was, in bytes."""
        found = self._ask("memory")
        return int(found["resident_bytes"]), int(found["peak_bytes"])

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None, "it was asked for"
        try:
            self._process.stdin.write(line.encode("ascii") + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise PeerFault("its process ended") from error
        return self._hear(_ANSWER_LIMIT_S)

    def _hear(self, limit_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None, "it was asked for"
        until = monotonic() + limit_s
        while b"\n" not in self._rest:
            if not select.select([self._process.stdout], [], [], max(0.0, until - monotonic()))[0]:
                raise PeerFault(f"no answer within {limit_s:.0f} s")
            came = os.read(self._process.stdout.fileno(), 1 << 16)
            if not came:
                raise PeerFault(f"its process ended: {self._last_words()}")
            self._rest += came
        line, self._rest = self._rest.split(b"\n", 1)
        found: dict[str, Any] = json.loads(line)
        if "fault" in found:
            raise PeerFault(found["fault"])
        return found

    def _last_words(self) -> str:
        lines = Path(self._log.name).read_text("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else "without a word"
