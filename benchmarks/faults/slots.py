"""Whatever happens to a store of slots, the old or the new bundle is active and whole.

    nice -n 5 python benchmarks/faults/slots.py --out benchmarks/results/faults_slots.json
    python benchmarks/faults/slots.py --cuts 2000 --kills 20 --fills 4

First over simulated NOR flash: small sealed bundles are installed, switched to, confirmed and
reverted, with the power cut before, within each byte of, and after every operation of the storage;
in the middle of each the reboot that follows and heals is cut as well (`slot_cuts.py`). Then
over a real folder: a process that does the same all the time is killed at random moments
(`slot_kills.py`). After each cut and each kill every bundle that the record tells of is checked
with its signature, no security counter may have fallen, and a later install must work. Last, the
disk becomes full within installs and trials (`slot_full.py`), in a mount name space of its own.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

sys.path.extend(str(Path(__file__).parents[2] / room) for room in ("benchmarks", "tests/plugins"))

from disk_full import enter_mounts
from script import record, say
from slot_cuts import Place, Road, Tally
from slot_full import fill_often
from slot_kills import kill_often
from small_bundles import Factory

from lineside.cli.table import format_table

PAGE_BYTES: Final = 1024
_SHOWN: Final = 20
_COLUMNS: Final = ("operations", "cuts", "old", "new", "again")


def cut_everywhere(most_cuts: int | None) -> dict[str, Tally]:
    """The power cut at every place, or evenly at so many of them; what was left, by step."""
    factory = Factory()
    versions = (("1", 1), ("2", 2), ("3", 2), ("4", 3))
    files = [factory.seal(version, counter=counter) for version, counter in versions]
    road = Road(files, factory.check, PAGE_BYTES)
    every = 1 if most_cuts is None else max(1, road.count_places() // most_cuts)
    numbers = itertools.count()

    def choose(_name: str, _place: Place) -> bool:
        return next(numbers) % every == 0

    found = {}
    for name, tally in road.cut(choose):
        say(
            f"{name}: {tally.cuts} cuts, {tally.again} while it healed, {len(tally.bad)} bad states"
        )
        found[name] = tally
    return found


def main() -> int:
    """1 where there was a bad state."""
    options = _arguments()
    load_before = os.getloadavg()
    started_s = time.monotonic()
    tallies = cut_everywhere(options.cuts)
    cuts_s = time.monotonic() - started_s
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="lineside-faults-") as name:
        kills = kill_often(Path(name) / "store", options.kills, chance)
        fills = fill_often(Path(name), options.fills, chance)
    _show(tallies)
    within = ", ".join(f"{name} {count}" for name, count in kills.within.items())
    say(f"{kills.kills} kills within {within}: {len(kills.bad)} bad states")
    say(f"{fills.times} times a full disk: {len(fills.bad)} bad states")
    bad = [words for tally in tallies.values() for words in tally.bad] + kills.bad + fills.bad
    for words in bad[:_SHOWN]:
        say(words)
    found = {
        "bad_states": len(bad),
        "power_cut": _plain_cuts(tallies, cuts_s),
        "killed": asdict(kills),
        "disk_full": asdict(fills),
        "seed": options.seed,
    }
    if options.out is not None:
        record(options.out, "power cut, kill -9 and a full disk under slots", found, load_before)
    return int(bool(bad))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cuts", type=int, help="evenly so many, not every one")
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--fills", type=int, default=20, help="how often the disk becomes full")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, help="write what was found, as JSON")
    return parser.parse_args()


def _plain_cuts(tallies: dict[str, Tally], duration_s: float) -> dict[str, Any]:
    return {
        "cuts": sum(tally.cuts for tally in tallies.values()),
        "cut_again_while_healing": sum(tally.again for tally in tallies.values()),
        "page_bytes": PAGE_BYTES,
        "steps": {
            name: asdict(tally) | {"bad": tally.bad[:_SHOWN]} for name, tally in tallies.items()
        },
        "duration_s": round(duration_s, 1),
    }


def _show(tallies: dict[str, Tally]) -> None:
    rows = [
        (name, *(str(getattr(tally, column)) for column in _COLUMNS), str(len(tally.bad)))
        for name, tally in tallies.items()
    ]
    say(format_table(("step", *_COLUMNS, "bad"), rows, right=tuple(range(1, len(_COLUMNS) + 2))))
    cuts = sum(tally.cuts for tally in tallies.values())
    say(f"{cuts} cuts of the power: {sum(len(tally.bad) for tally in tallies.values())} bad states")


if __name__ == "__main__":
    enter_mounts()
    sys.exit(main())
