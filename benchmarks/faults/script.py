"""What the fault scripts share: arguments, a bundle, folders, a table, the recorded document."""

from __future__ import annotations

import argparse
import os
import random
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from line import Outcome
from tiny_bundle import TinyBundle, build_tiny_bundle

from lineside.cli.table import format_table

_COLUMNS = ("given", "received", "repeated", "on_history", "station_starts", "duration_s")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a script works with.

    Attributes:
        times: how often each fault is made.
        random: seeded; moments and places of faults come from it.
        bundle: a small real one.
        folder: an empty one for whatever the script needs.
    """

    times: int
    random: random.Random
    bundle: TinyBundle
    folder: Path

    def room(self, name: str) -> Path:
        """A fresh folder for one line."""
        made = self.folder / name
        made.mkdir()
        return made


Measure = Callable[[Trial], Mapping[str, Outcome]]


def prove(what: str, measure: Measure, *, full: int, quick: int) -> int:
    """Run a script: make the faults, show what they left, write it where ``--out`` says.

    Args:
        what: was done, in words, for the record.
        measure: makes the faults; outcomes by case.
        full, quick: how often, without and with ``--quick``.

    Returns:
        The exit code: 1 where anything is not as promised.
    """
    options = _arguments(what, full, quick)
    times = options.times or (quick if options.quick else full)
    load_before = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="lineside-faults-") as name:
        folder = Path(name)
        (folder / "bundle").mkdir()
        trial = Trial(
            times=times,
            random=random.Random(options.seed),
            bundle=build_tiny_bundle(folder / "bundle"),
            folder=folder,
        )
        outcomes = measure(trial)
    _show(outcomes)
    found = {
        "times": times,
        "seed": options.seed,
        "cases": {case: _plain(outcome) for case, outcome in outcomes.items()},
    }
    if options.out is not None:
        record(options.out, what, found, load_before)
    return int(any(outcome.faults for outcome in outcomes.values()))


def record(
    out: Path, what: str, found: Mapping[str, object], load_before: tuple[float, float, float]
) -> None:
    """Write a result with what made it; imports torch, so only when all is measured."""
    from lineside_bench.record import circumstances, keep

    script = Path(sys.argv[0]).name
    head = circumstances(what) | {
        "command": shlex.join(["python", f"benchmarks/faults/{script}", *sys.argv[1:]]),
        "load_average_before": [round(load, 2) for load in load_before],
    }
    keep(out, {**head, **found})


def say(words: str) -> None:
    """To whoever watches."""
    print(words, flush=True)


def _arguments(what: str, full: int, quick: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--quick", action="store_true", help=f"{quick} times, not {full}")
    parser.add_argument("--times", type=int, help="how often each fault is made")
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--out", type=Path, help="write what was found, as JSON")
    return parser.parse_args()


def _plain(outcome: Outcome) -> dict[str, object]:
    return {name: getattr(outcome, name) for name in outcome.__struct_fields__}


def _show(outcomes: Mapping[str, Outcome]) -> None:
    rows = [
        (
            case,
            *(str(getattr(outcome, name)) for name in _COLUMNS),
            "; ".join(outcome.faults) or "–",
        )
        for case, outcome in outcomes.items()
    ]
    head = ("case", *(name.replace("_", " ") for name in _COLUMNS), "not as promised")
    say(format_table(head, rows, right=tuple(range(1, len(_COLUMNS) + 1))))
