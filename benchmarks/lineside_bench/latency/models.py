"""One model after the other: all its ways in turns, idle and with busy cores beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from lineside.engines.machine import usable_cores
from lineside_bench.latency.blocks import CALLS, take_blocks
from lineside_bench.latency.busy import busy_cores
from lineside_bench.latency.closeness import Closeness, compare
from lineside_bench.latency.ways import BATCH, Way, open_ways
from lineside_bench.suite import Suite
from lineside_bench.turns import WARM_UP_ROUNDS, Micros, clock_overhead_us, spread, take_turns

IDLE: Final = "idle"
BUSY: Final = "busy"
_FEWEST: Final = 12  # calls; a batch is fewer rounds
_MOST: Final = 3000


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long each thing may take.

    Attributes:
        models: so many of the suite's; ``None``: all.
        idle_s, idle_batch_s, busy_s, busy_batch_s, spinning_s: a model's groups of ways, each.
        journey_idle_s, journey_busy_s: parts on their way to the PLC.
        frame_rounds: each kind of frame decoded and preprocessed so often.
    """

    models: int | None = None
    idle_s: float = 10.0
    idle_batch_s: float = 3.0
    busy_s: float = 5.0
    busy_batch_s: float = 3.0
    spinning_s: float = 2.5
    journey_idle_s: float = 10.0
    journey_busy_s: float = 6.0
    frame_rounds: int = 60


QUICK: Final = Plan(
    models=2,
    idle_s=3.0,
    idle_batch_s=0.5,
    busy_s=1.5,
    busy_batch_s=0.5,
    spinning_s=0.5,
    journey_idle_s=2.0,
    journey_busy_s=1.0,
    frame_rounds=10,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """What came of it.

    Attributes:
        rows: one a way, and idle or busy.
        closeness: of ours to the bare engine.
        taken: durations that counted, by (way's name, idle or busy), for the histograms.
        warm_up: the first calls of all, by way's name.
        refused: ways that cannot run here, with the reason.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    closeness: list[Closeness] = field(default_factory=list)
    taken: dict[tuple[Way, str], Micros] = field(default_factory=dict)
    warm_up: dict[Way, Micros] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


def measure_model(suite: Suite, model: str, plan: Plan, found: Measured) -> None:
    """Add one model's figures to what was found."""
    with ExitStack() as stack:
        ways, refused = open_ways(suite, model, sorted({1, usable_cores()}), stack)
        found.refused.extend(refused)
        alone = [way for way in ways if way.batch == 1 and way.runtime != "bare, spinning"]
        ours = [way for way in alone if way.runtime == "lineside"]
        together = [way for way in ways if way.batch == BATCH]
        idle = _group(found, alone, IDLE, plan.idle_s, warm_up=WARM_UP_ROUNDS)
        found.closeness.extend(compare(idle, "bare"))
        found.closeness.extend(compare(idle, "bare, unpinned"))
        _group(found, together, IDLE, plan.idle_batch_s, warm_up=3)
        found.closeness.extend(_beside_spinning(ways, plan.spinning_s))
        with busy_cores():
            _group(found, ours, BUSY, plan.busy_s, warm_up=5)
            _group(found, together, BUSY, plan.busy_batch_s, warm_up=2)


def _beside_spinning(ways: Sequence[Way], budget_s: float) -> list[Closeness]:
    """Ours against bare ones that spin, in blocks with a pause before each.

    In single turns what spins would take the cores from whoever comes next: ours took five times as
    long as alone.
    """
    places = {(way.form, way.threads) for way in ways if way.runtime == "bare, spinning"}
    blocks = {
        way.name: way
        for way in ways
        if way.engine == "onnxruntime"
        and way.batch == 1
        and way.runtime != "bare"
        and (way.form, way.threads) in places
    }
    taken = take_blocks({name: way.call for name, way in blocks.items()}, budget_s=budget_s)
    by_way = {blocks[name]: values for name, values in taken.items()}
    return compare(by_way, "bare, spinning", calls_a_turn=CALLS)


def _group(
    found: Measured, ways: Sequence[Way], beside: str, budget_s: float, *, warm_up: int
) -> dict[Way, Micros]:
    """All of these in turns; rows are added, durations that count returned."""
    by_name = {way.name: way for way in ways}
    calls = {name: way.call for name, way in by_name.items()}
    _, first = take_turns(calls, rounds=1, warm_up=warm_up)
    round_s = sum(float(np.median(taken[-3:])) for taken in first.values()) / 1e6
    for way in ways:
        way.timings.clear()
    fewest = _FEWEST if ways[0].batch == 1 else _FEWEST // 4
    rounds = int(np.clip(budget_s / max(round_s, 1e-6), fewest, _MOST))
    taken, _ = take_turns(calls, rounds=rounds, warm_up=0)
    durations = {by_name[name]: values for name, values in taken.items()}
    for name, way in by_name.items():
        if way not in found.warm_up:
            found.warm_up[way] = first[name]
        found.rows.append(_row(way, durations[way], beside, found.warm_up[way]))
        found.taken[way, beside] = durations[way]
    return durations


def _row(way: Way, durations_us: Micros, beside: str, first: Micros) -> dict[str, Any]:
    return {
        "model": way.model,
        "form": way.form,
        "engine": way.engine,
        "threads": way.threads,
        "batch": way.batch,
        "runtime": way.runtime,
        "beside": beside,
        "rounds": len(durations_us),
        "first_call_us": round(float(first[0]), 1),
        "stages": _stages(way, durations_us),
    }


def _stages(way: Way, durations_us: Micros) -> Mapping[str, Any]:
    """Percentiles of one image by stage; of a batch the engine and the whole, by its images."""
    stages = {"whole": durations_us / way.batch}
    if way.timings:
        cost_us = clock_overhead_us()  # a stage is between two readings of the same clock
        times = {
            name: np.array([getattr(taken, f"{name}_us") for taken in way.timings]) - cost_us
            for name in ("preprocess", "infer", "decide")
        }
        if way.batch == 1:
            stages |= times
        else:
            stages["infer"] = times["infer"] / way.batch
    return {name: _figures(values) for name, values in stages.items()}


def _figures(values: Micros) -> dict[str, float]:
    told = asdict(spread(values))
    del told["rounds"]
    return told
