"""The sequential test: evidence that a stream lies off its reference, false alarms bounded.

An e-detector of Shiryaev and Roberts' form (Shin, Ramdas & Rinaldo 2022, arXiv:2203.03532): each
block of parts gives a bet ``e`` that is worth 1 on average, at most, while nothing has drifted;
``M = (M + 1) * e`` then reaches a level A after A blocks on average, at the earliest, whatever the
distributions are. No table, no fitted threshold.

What is bet on are four means of a block, each in 0..1: how far its values lie up among the
reference's, how far down, and which share lies above all of them, or below. Under the null each has
an expectation of at most its bound (`Bounds`), whatever the values of a block have to do with each
other: parts of one lot may be alike. Bets on bounded means: Waudby-Smith & Ramdas 2024
(arXiv:2010.09686).

The reference is finite, and a fixed difference between it and the truth would be found in the end:
so the bounds leave room for it. Let G be production's distribution function, ties counted half,
and x the reference's n values, drawn from the same. The expected rank is 1 - mean G(x). G(x) has
mean 1/2 and is the conditional mean of a uniform variable, which is sub-Gaussian with its variance,
1/12 (Arbel, Marchal & Nguyen 2020, arXiv:1901.09188), so by Jensen G(x) is too, and a mean of n
lies off by more than sqrt(ln(1/risk) / (6 n)) with probability ``risk`` at most. A value lies above
all n with a probability of more than 1 - risk^(1/n) with probability ``risk`` at most. To that is
added a tolerance: what is too small to matter, and the share of bad parts that no line is without.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

Value = TypeVar("Value", float, NDArray[np.float64])

SIDES: Final = ("up", "down", "above", "below")
"""What is bet on: a block's ranks among the reference's values, and shares beyond all of them."""

# Of the largest bet that no block can ruin. Measured (benchmarks/drift_alarms.py): larger ones find
# a shift sooner, and take parts that are alike over several blocks for a drift.
STAKES: Final = (0.7, 0.7, 0.5, 0.5)

# How likely the reference is drawn so badly that the promise does not hold, over all bounds.
REFERENCE_RISK: Final = 0.01
# Evidence beyond the alarm's is not counted, so that it can go again in a bounded time.
_CAP: Final = 1000.0


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The largest expectations that are no drift, 0..1.

    Attributes:
        rank: of the mean rank, towards either side.
        beyond: of the share above all of the reference, and of that below.
    """

    rank: float
    beyond: float

    @property
    def by_side(self) -> tuple[float, float, float, float]:
        """In the order of `SIDES`."""
        return (self.rank, self.rank, self.beyond, self.beyond)


def make_bounds(parts: float, *, tolerance: float, watched: int, rank_error: float = 0.0) -> Bounds:
    """What is no drift from a reference of so many parts.

    Args:
        parts: that the reference was measured on, independent of each other.
        tolerance: by so much an expected rank or share may differ without being drift, 0..0.4.
        watched: how many statistics there are; they share `REFERENCE_RISK`.
        rank_error: of a reference that keeps fewer values than were measured.
    """
    risk = REFERENCE_RISK / (len(SIDES) * watched)
    chance = math.sqrt(math.log(1.0 / risk) / (6.0 * parts))
    unseen = -math.expm1(math.log(risk) / parts)
    return Bounds(
        rank=min(0.5 + chance + rank_error + tolerance, 1.0),
        beyond=min(unseen + tolerance, 1.0),
    )


def bet(mean: Value, bound: float, stake: float) -> Value:
    """What a bet of 1 against the null is worth after a block.

    Args:
        mean: of the block, 0..1.
        bound: of its expectation under the null, above 0.
        stake: 0..1, below 1: which share is at risk.

    Returns:
        Above 0; 1 on average where the mean's expectation is the bound, less where it is smaller.
    """
    return 1.0 + stake * (mean / bound - 1.0)


def grow(evidence: Value, worth: Value) -> Value:
    """The e-detector's step."""
    return (evidence + 1.0) * worth


def follow(gain: float, worth: float) -> float:
    """What bets have gained since they last stood at their lowest; it ends below 1 (Page 1954).

    The first block after that is the likeliest beginning of a drift.
    """
    return max(gain, 1.0) * worth


def alarm_level(parts_per_false_alarm: float, *, block: int, watched: int) -> float:
    """How much evidence of one statistic is an alarm.

    The mean of all statistics' evidence is an e-detector too. It is at least that of one of them
    over their number, so the first alarm of any comes no sooner, on average, than promised.
    """
    return max(parts_per_false_alarm / block * watched, 1.0)


def most_kept(level: float) -> float:
    """More evidence than this is not kept; `level` is the alarm's."""
    return _CAP * level
