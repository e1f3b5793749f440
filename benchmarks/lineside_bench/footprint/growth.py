"""Memory over many frames: what is held at the end, and whether it still grows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from lineside.engines.machine import usable_cores
from lineside_bench.footprint.processes import Running, Started
from lineside_bench.footprint.starts import KIB_IN_MB, MEMORY_TARGET_MB, Say
from lineside_bench.footprint.ways import PROGRAMS, SIDES, Pair

LEAK_BYTES: Final = 500_000
"""Over the second half of the frames; an allocator's arenas move by about as much by themselves."""


def measure_growth(
    pairs: Sequence[Pair], *, frames: int, home: Path, say: Say
) -> list[dict[str, Any]]:
    """A row for each pair and side; as many at once as there are cores, since nothing is timed.

    Args:
        pairs: what is started.
        frames: through each of them, after the first.
        home: what Lineside remembers goes here.
        say: hears how far it is.
    """
    waiting = [(pair, side) for pair in pairs for side in SIDES]
    rows: list[dict[str, Any]] = []
    at_once = usable_cores()
    for begin in range(0, len(waiting), at_once):
        together = waiting[begin : begin + at_once]
        say(f"{frames} frames: " + " and ".join(f"{pair.name}, {side}" for pair, side in together))
        running = [
            Running(PROGRAMS[side], {**pair.asked[side], "frames": frames}, str(home))
            for pair, side in together
        ]
        rows += [_row(*of, one.wait(), frames) for of, one in zip(together, running, strict=True)]
    return [_beside_bare(row, rows) for row in rows]


def _row(pair: Pair, side: str, started: Started, frames: int) -> dict[str, Any]:
    per_frame_bytes = grown_bytes_a_frame(started.growth)
    return {
        "model": pair.sealed.model,
        "form": pair.sealed.form,
        "engine": pair.engine,
        "side": side,
        "frames": frames,
        "at_first_mb": round(started.memory_kib["rss"] * KIB_IN_MB, 1),
        "after_mb": round(started.memory_after_kib["rss"] * KIB_IN_MB, 1),
        "peak_mb": round(started.memory_after_kib["peak"] * KIB_IN_MB, 1),
        "growth_bytes_a_frame": round(per_frame_bytes, 2),
        "grows": per_frame_bytes * frames / 2 > LEAK_BYTES,
        "samples": started.growth,
    }


def grown_bytes_a_frame(samples: Sequence[Sequence[int]]) -> float:
    """The slope of a line through the second half of the samples; below 0 it shrinks.

    Args:
        samples: pairs of frames and KiB resident.
    """
    settled = np.array(samples[len(samples) // 2 :], np.float64)
    if len(settled) < 2:
        return 0.0
    slope, _ = np.polyfit(settled[:, 0], settled[:, 1] * 1024, 1)
    return float(slope)


def _beside_bare(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if row["side"] == "bare":
        return row
    (bare,) = (
        other
        for other in rows
        if other["side"] == "bare"
        and all(other[key] == row[key] for key in ("model", "form", "engine"))
    )
    extra_mb = round(row["after_mb"] - bare["after_mb"], 1)
    return {**row, "extra_mb": extra_mb, "memory_target_met": extra_mb <= MEMORY_TARGET_MB}
