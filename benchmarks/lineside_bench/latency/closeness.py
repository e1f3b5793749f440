"""How close an inspection comes to the bare engine's call on the same tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lineside_bench.latency.ways import Runtime, Way
from lineside_bench.resampling import median_interval
from lineside_bench.turns import Micros

LIMIT_SHARE: Final = 0.10
LIMIT_US: Final = 250.0


@dataclass(frozen=True, kw_only=True)
class Closeness:
    """One way of ours beside the bare one, round by round.

    Attributes:
        above_us: our median less the bare one's.
        low_us, high_us: 2.5 % and 97.5 % of it, over draws of turns with replacement.
        quiet_us: the same of the 10th percentiles: what is left of it where a busy machine let both
            be; the target does not go by it.
        limit_us: what it may be: a tenth of the bare median or 0.25 ms, whichever is larger.
    """

    way: Way
    beside: Runtime
    ours_us: float
    bare_us: float
    above_us: float
    low_us: float
    high_us: float
    quiet_us: float
    limit_us: float

    @property
    def is_met(self) -> bool:
        """The target."""
        return self.above_us <= self.limit_us

    def told(self) -> str:
        """In a word or two; a miss that the scatter of the rounds explains says so."""
        if self.is_met:
            return "met"
        return "missed, within noise" if self.low_us <= self.limit_us else "missed"

    def row(self) -> dict[str, Any]:
        """As it is recorded."""
        way = self.way
        return {
            "model": way.model,
            "form": way.form,
            "engine": way.engine,
            "threads": way.threads,
            "against": self.beside,
            "inspect_p50_us": round(self.ours_us, 1),
            "bare_p50_us": round(self.bare_us, 1),
            "ratio": round(self.ours_us / self.bare_us, 3),
            # Below the row, because a row is known by its words when results are compared.
            "target": {
                "above": round(self.above_us, 1),
                "above_low": round(self.low_us, 1),
                "above_high": round(self.high_us, 1),
                "above_at_p10": round(self.quiet_us, 1),
                "limit": round(self.limit_us, 1),
                "unit": "us",
                "outcome": self.told(),
            },
        }


def compare(
    taken: Mapping[Way, Micros], beside: Runtime, *, calls_a_turn: int = 1
) -> list[Closeness]:
    """Ours against the bare ones of the same form, engine and threads.

    Args:
        taken: durations of all in turns.
        beside: which bare ones.
        calls_a_turn: one after the other; they share the machine's mood, and are drawn together.
    """
    bare = {_place(way): values for way, values in taken.items() if way.runtime == beside}
    return [
        _compare(way, beside, values, bare[_place(way)], calls_a_turn)
        for way, values in taken.items()
        if way.runtime == "lineside" and _place(way) in bare
    ]


def _place(way: Way) -> tuple[str, str, int, int]:
    return way.form, way.engine, way.threads, way.batch


def _compare(way: Way, beside: Runtime, ours: Micros, bare: Micros, calls_a_turn: int) -> Closeness:
    low_us, high_us = median_interval(ours, bare, np.subtract, calls_a_turn=calls_a_turn)
    ours_us, bare_us = float(np.median(ours)), float(np.median(bare))
    return Closeness(
        way=way,
        beside=beside,
        ours_us=ours_us,
        bare_us=bare_us,
        above_us=ours_us - bare_us,
        low_us=low_us,
        high_us=high_us,
        quiet_us=float(np.percentile(ours, 10) - np.percentile(bare, 10)),
        limit_us=max(LIMIT_SHARE * bare_us, LIMIT_US),
    )
