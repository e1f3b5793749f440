"""A sensor loses power while a bundle comes in over the wire, and the wire lies.

    python benchmarks/faults/sensor.py --out benchmarks/results/faults_sensor.json
    python benchmarks/faults/sensor.py --quick

Power: a host brings a bundle in over the wire, has it tried, confirms it or goes back, on each road
of `tests/plugins/sensor_cuts.py`; the power is cut at every flash operation, and within each record
at every byte (a large bundle: at a sample of them). Whatever boots then must be the old or the new
bundle with all checks held, no counter may have fallen, and the host must be able to go on.

Noise: bits are turned over, pieces lost and doubled, both ways, with a seed each. At bit error
rates up to 1e-5 every upload must finish; above it may fail, cleanly; nothing that was not sent may
ever count.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

sys.path.extend(str(Path(__file__).parents[2] / room) for room in ("benchmarks", "tests/plugins"))

from sensor_bundles import Family, seal_family
from sensor_cuts import ROADS, Cut
from sensor_cuts import Tally as CutTally
from sensor_noise import Tally as NoiseTally
from sensor_noise import upload
from tiny_bundle import build_tiny_bundle

from lineside.cli.table import format_table
from lineside_bridge.framing import Framing
from lineside_bridge.sensor import NoiseSettings

LARGE_BYTES: Final = 5_000_000
LARGE_BUFFER_BYTES: Final = 16_384
QUIET_RATES: Final = (0.0, 1e-7, 1e-6, 1e-5)
LOUD_RATES: Final = (1e-4, 1e-3, 1e-2)
# Of 64 bytes: a bad cable, an adapter that gives up now and then.
PIECES: Final = ((0.0, 0.0), (0.01, 0.01))
_WHOLE: Final = ("confirm", "first")
_CUT_KEYS: Final = (
    *("road", "bundle_bytes", "flash_operations", "cuts"),
    *("booted_old", "booted_new"),
)
_NOISE_KEYS: Final = ("framing", "bit_error_rate", "drop", "runs", "ends")
_SHARE: Final = 200  # cuts that a process takes at once


@dataclass(frozen=True, kw_only=True)
class Task:
    """Cuts of one road over one family of bundles."""

    road: str
    is_large: bool
    cuts: tuple[Cut, ...]


@dataclass(kw_only=True)
class Families:
    """Sealed once in each process."""

    held: dict[bool, Family] = field(default_factory=dict)

    def find(self, *, is_large: bool) -> Family:
        """Of the small bundles, or the large ones."""
        if is_large not in self.held:
            with tempfile.TemporaryDirectory(prefix="lineside-faults-") as folder:
                tiny = build_tiny_bundle(Path(folder))
                padding_bytes = LARGE_BYTES if is_large else 0
                self.held[is_large] = seal_family(tiny, Path(folder), padding_bytes=padding_bytes)
        return self.held[is_large]


_FAMILIES: Final = Families()


def main() -> int:
    """Cut, garble, print, and record where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a hundredth of it")
    parser.add_argument("--large", type=int, default=120, help="cuts with 5 MB")
    parser.add_argument("--runs", type=int, default=10_000, help="uploads over a line with noise")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", choices=("power", "noise", "both"), default="both")
    parser.add_argument("--out", type=Path, help="write what was found; the other part is kept")
    options = parser.parse_args()
    share = 100 if options.quick else 1
    load_before = os.getloadavg()
    cuts: list[dict[str, Any]] = []
    noise: list[dict[str, Any]] = []
    with ProcessPoolExecutor(options.jobs) as pool:
        if options.part != "noise":
            cuts = _cut_all(pool, options.large // share, options.seed, share)
        if options.part != "power":
            noise = _garble_all(pool, options.runs // share, options.seed)
    bad = sum(len(row["bad_states"]) for row in cuts) + sum(len(row["wrong"]) for row in noise)
    _show(cuts, noise, bad)
    if options.out is not None:
        _record(options.out, {"power": cuts, "noise": noise}, load_before)
    return 1 if bad else 0


def _record(
    out: Path, found: dict[str, list[dict[str, Any]]], load_before: tuple[float, float, float]
) -> None:
    """Each part with what made it; imports torch, so only when all is measured."""
    from lineside_bench.record import circumstances, keep

    document = json.loads(out.read_text("utf-8")) if out.exists() else {}
    what = "power cuts and noise while a sensor takes a bundle over the wire"
    for part, rows in found.items():
        if rows:
            words = ["python", "benchmarks/faults/sensor.py", *sys.argv[1:]]
            head = circumstances(what) | {
                "command": shlex.join(words),
                "load_average_before": [round(load, 2) for load in load_before],
            }
            document[part] = {**head, "rows": rows}
    keep(out, document)


def _cut_all(pool: ProcessPoolExecutor, large: int, seed: int, share: int) -> list[dict[str, Any]]:
    rows = []
    for is_large in (False, True):
        for road in [name for name in ROADS if name != "fail" or not is_large]:
            started_s = time.monotonic()
            family = _FAMILIES.find(is_large=is_large)
            trial = family.trial(road, buffer_bytes=_buffer_bytes(is_large=is_large))
            cuts = trial.sample(large // len(ROADS) + 1, random.Random(seed)) if is_large else None
            # How a road begins is cut once, on the first of them.
            start = 0 if road in _WHOLE else trial.fork()
            every = cuts if cuts is not None else list(trial.cuts(start))[::share]
            tasks = [Task(road=road, is_large=is_large, cuts=part) for part in _parts(every)]
            tally = CutTally()
            for found in pool.map(cut, tasks):
                _add(tally, found)
            rows.append(
                {
                    "road": road,
                    "bundle_bytes": len(family.new.data),
                    "flash_operations": len(trial.operations),
                    "from_operation": 0 if is_large else start,
                    "sampled": is_large or share > 1,
                    "cuts": tally.cuts,
                    "boots": tally.boots,
                    "booted_old": tally.old,
                    "booted_new": tally.new,
                    "bad_states": tally.bad,
                    "took_s": round(time.monotonic() - started_s, 1),
                }
            )
            _tell(rows[-1])
    return rows


def cut(task: Task) -> CutTally:
    """In a process of its own."""
    family = _FAMILIES.find(is_large=task.is_large)
    trial = family.trial(task.road, buffer_bytes=_buffer_bytes(is_large=task.is_large))
    tally = CutTally()
    for each in task.cuts:
        trial.go(each, tally)
    return tally


def _buffer_bytes(*, is_large: bool) -> int:
    return LARGE_BUFFER_BYTES if is_large else 2048


def _parts(cuts: list[Cut]) -> Iterator[tuple[Cut, ...]]:
    size = max(1, min(_SHARE, len(cuts) // 8))
    for start in range(0, len(cuts), size):
        yield tuple(cuts[start : start + size])


def _add(tally: CutTally, found: CutTally) -> None:
    tally.cuts += found.cuts
    tally.boots += found.boots
    tally.old += found.old
    tally.new += found.new
    tally.bad += found.bad


def _garble_all(pool: ProcessPoolExecutor, runs: int, seed: int) -> list[dict[str, Any]]:
    cases = [
        (framing, rate, pieces)
        for framing in Framing
        for rate in (*QUIET_RATES, *LOUD_RATES)
        for pieces in PIECES
    ]
    each = -(-runs // len(cases))
    return list(pool.map(partial(garble, runs=each, seed=seed), cases))


def garble(
    case: tuple[Framing, float, tuple[float, float]], *, runs: int, seed: int
) -> dict[str, Any]:
    """One kind of line, in a process of its own."""
    framing, rate, (drop, duplicate) = case
    family = _FAMILIES.find(is_large=False)
    rig = family.rig()
    delivered = rig.flash
    tally = NoiseTally()
    for number in range(runs):
        rig.flash = delivered.clone()
        noise = NoiseSettings(
            bit_error_rate=rate, drop=drop, duplicate=duplicate, seed=seed * runs + number
        )
        upload(rig, family.new, framing, noise, tally)
    unfinished = tally.runs - tally.ends["finished"]
    if rate in QUIET_RATES and not drop and unfinished:
        tally.wrong.append(f"{framing.value}, {rate}: {unfinished} uploads did not finish")
    row = {
        "framing": framing.value,
        "bit_error_rate": rate,
        "drop": drop,
        "duplicate": duplicate,
        "runs": tally.runs,
        "ends": dict(sorted(tally.ends.items())),
        "wrong": tally.wrong,
    }
    _tell(row)
    return row


def _tell(row: dict[str, Any]) -> None:
    print(" ".join(f"{key}={value}" for key, value in row.items()), file=sys.stderr, flush=True)


def _show(cuts: list[dict[str, Any]], noise: list[dict[str, Any]], bad: int) -> None:
    print(format_table((*_CUT_KEYS, "bad"), [_row(row, _CUT_KEYS, "bad_states") for row in cuts]))
    print()
    print(format_table((*_NOISE_KEYS, "wrong"), [_row(row, _NOISE_KEYS, "wrong") for row in noise]))
    print(
        f"\n{sum(row['cuts'] for row in cuts):,} cuts, {sum(row['runs'] for row in noise):,} "
        f"uploads over noise, {bad} bad"
    )


def _row(row: dict[str, Any], keys: tuple[str, ...], bad: str) -> list[str]:
    return [str(row[key]) for key in keys] + [str(len(row[bad]))]


if __name__ == "__main__":
    sys.exit(main())
