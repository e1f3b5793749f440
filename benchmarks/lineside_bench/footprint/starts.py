"""Process start to first verdict, and the memory held then: both sides take turns."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lineside_bench.footprint.processes import Running, Started
from lineside_bench.footprint.ways import PROGRAMS, SIDES, Pair
from lineside_bench.resampling import median_interval

START_TARGET_S: Final = 0.4
MEMORY_TARGET_MB: Final = 40.0
KIB_IN_MB: Final = 1024 / 1e6
_DRAWS: Final = 1000

Say = Callable[[str], None]
Rounds = dict[tuple[int, str], list[Started]]


def measure_starts(
    pairs: Sequence[Pair], *, rounds: int, home: Path, say: Say
) -> list[dict[str, Any]]:
    """A row for each pair.

    Args:
        pairs: what is started.
        rounds: that count; one more before them fills caches, the system's and the engine's.
        home: what Lineside remembers goes here.
        say: hears how far it is.
    """
    started: Rounds = {key: [] for key in itertools.product(range(len(pairs)), SIDES)}
    keys = list(started)
    order = np.random.default_rng(0)
    for number in range(1 + rounds):
        say(f"starts, round {number} of {rounds}")
        for place in order.permutation(len(keys)):
            position, side = keys[place]
            asked = pairs[position].asked[side]
            one = Running(PROGRAMS[side], asked, str(home)).wait()
            if number:
                started[keys[place]].append(one)
    return [
        _row(pair, {side: started[position, side] for side in SIDES})
        for position, pair in enumerate(pairs)
    ]


def _row(pair: Pair, rounds: Mapping[str, Sequence[Started]]) -> dict[str, Any]:
    until_s = {side: _each(rounds[side], "until_s") for side in SIDES}
    cpu_s = {side: _each(rounds[side], "cpu_until_s") for side in SIDES}
    resident_mb = {side: _memory(rounds[side], "rss") for side in SIDES}
    ends_s = median_interval(until_s["lineside"], until_s["bare"], np.subtract, draws=_DRAWS)
    extra_s = float(np.median(until_s["lineside"]) - np.median(until_s["bare"]))
    extra_mb = resident_mb["lineside"] - resident_mb["bare"]
    return {
        "model": pair.sealed.model,
        "form": pair.sealed.form,
        "engine": pair.engine,
        "start": pair.start,
        "rounds": len(rounds["bare"]),
        **{f"{side}_until_verdict_s": _middle(until_s[side]) for side in SIDES},
        "extra_s": round(extra_s, 3),
        "extra_s_interval": [round(end_s, 3) for end_s in ends_s],
        **{f"{side}_cpu_s": _middle(cpu_s[side]) for side in SIDES},
        "extra_cpu_s": round(float(np.median(cpu_s["lineside"]) - np.median(cpu_s["bare"])), 3),
        "start_target_met": extra_s <= START_TARGET_S,
        "stages_s": {side: _stages(rounds[side]) for side in SIDES},
        **{f"{side}_resident_mb": round(resident_mb[side], 1) for side in SIDES},
        **{f"{side}_anonymous_mb": round(_memory(rounds[side], "anonymous"), 1) for side in SIDES},
        **{f"{side}_share_mb": round(_memory(rounds[side], "pss"), 1) for side in SIDES},
        **{f"{side}_peak_mb": round(_memory(rounds[side], "peak"), 1) for side in SIDES},
        "extra_mb": round(extra_mb, 1),
        "memory_target_met": extra_mb <= MEMORY_TARGET_MB,
    }


def _each(rounds: Sequence[Started], kind: str) -> NDArray[np.float64]:
    return np.array([getattr(one, kind)["verdict"] for one in rounds])


def _memory(rounds: Sequence[Started], kind: str) -> float:
    return float(np.median([one.memory_kib[kind] for one in rounds])) * KIB_IN_MB


def _middle(values: NDArray[np.float64]) -> float:
    return round(float(np.median(values)), 3)


def _stages(rounds: Sequence[Started]) -> dict[str, float]:
    """Seconds from the moment before, the first from the process's start; medians."""
    names = list(rounds[0].until_s)
    moments = np.array([[0.0, *one.until_s.values()] for one in rounds])
    return dict(zip(names, np.median(np.diff(moments), axis=0).round(3).tolist(), strict=True))


def measure_choosing(pair: Pair, *, rounds: int, work: Path, say: Say) -> dict[str, Any]:
    """The first start of all, which measures every engine and number of threads, and the next one.

    Args:
        pair: any of the model's.
        rounds: how often.
        work: each round remembers in a new folder of it.
        say: hears how far it is.
    """
    asked = {**pair.asked["lineside"], "engine": "auto", "cache": ""}
    found: dict[str, list[Started]] = {"choosing": [], "remembered": []}
    for number in range(rounds):
        say(f"starts that choose, round {number + 1} of {rounds}")
        for started in found.values():
            started.append(Running("sealed", asked, str(work / f"{number}")).wait())
    return {
        "model": pair.sealed.model,
        "form": pair.sealed.form,
        "rounds": rounds,
        **{
            f"{name}_until_verdict_s": _middle(_each(started, "until_s"))
            for name, started in found.items()
        },
        **{
            f"{name}_peak_mb": round(_memory(started, "peak"), 1) for name, started in found.items()
        },
        **{
            f"{name}_resident_mb": round(_memory(started, "rss"), 1)
            for name, started in found.items()
        },
    }
