"""What importing costs, each in fresh processes that take turns."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from lineside.engines import available_engines
from lineside_bench.footprint.processes import Running, Started
from lineside_bench.footprint.starts import KIB_IN_MB, Say

_LINESIDE: Final = {
    "lineside": ("lineside", ""),
    "lineside.load": ("lineside", "load"),
    "lineside.read_frame": ("lineside", "read_frame"),
}
_DEPENDENCIES: Final = ("numpy", "cv2", "msgspec", "cryptography.hazmat.primitives.serialization")


def measure_imports(*, rounds: int, home: Path, say: Say) -> list[dict[str, Any]]:
    """A row for each: seconds and MB beyond an interpreter that imports nothing.

    Args:
        rounds: that count; one more before them.
        home: an empty folder.
        say: hears how far it is.
    """
    named = {name: (name, "") for name in (*_DEPENDENCIES, *available_engines())}
    ways = {"nothing": ("sys", ""), **_LINESIDE, **named}
    started: dict[str, list[Started]] = {name: [] for name in ways}
    order = np.random.default_rng(0)
    for number in range(1 + rounds):
        say(f"imports, round {number} of {rounds}")
        for place in order.permutation(len(ways)):
            name = list(ways)[place]
            module, attribute = ways[name]
            one = Running("imports", {"module": module, "name": attribute}, str(home)).wait()
            if number:
                started[name].append(one)
    return [_row(name, rounds_of, started["nothing"]) for name, rounds_of in started.items()]


def _row(name: str, rounds: list[Started], nothing: list[Started]) -> dict[str, Any]:
    taken_s = np.median([_import_s(one.until_s) for one in rounds])
    cpu_s = np.median([_import_s(one.cpu_until_s) for one in rounds])
    held_kib, empty_kib = (
        np.median([one.memory_kib["rss"] for one in of]) for of in (rounds, nothing)
    )
    return {
        "import": name,
        "import_s": round(float(taken_s), 4),
        "cpu_s": round(float(cpu_s), 4),
        "resident_mb": round(float(held_kib - empty_kib) * KIB_IN_MB, 1),
    }


def _import_s(until_s: dict[str, float]) -> float:
    return until_s["import"] - until_s["interpreter"]
