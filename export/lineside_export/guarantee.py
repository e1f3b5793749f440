"""A limit with a guarantee: which OK limits are proven to let few enough bad parts pass. Pure.

Learn-then-Test (Angelopoulos, Bates, Candès, Jordan & Lei 2021, *Learn then Test: Calibrating
Predictive Algorithms to Achieve Risk Control*, arXiv:2110.01052): the limits to try are fixed
before the assurance parts are looked at. To each belongs the hypothesis that more than the wished
share of bad parts is judged ``OK`` by it; the exact binomial tail of the escapes counted is its
p-value. Limits whose hypothesis is rejected are proven, and the chance that any of them breaks the
promise is at most 1 - confidence.

**Correction.** The limits are tested in an order that is fixed beforehand, from the safest (fewest
parts ``OK``) to the loosest, each at the full level, up to the first that fails: fixed-sequence
testing, one of the corrections of that paper. The first true hypothesis in the order is rejected
with a probability of at most 1 - confidence, and none behind it is reached without that; so nothing
is divided by the number of limits, as Bonferroni would, and a finer grid costs no parts. No shape
is asked of the scores: ties, gaps, and models whose score says nothing at all are covered.

**Several forms.** int8 of two engines are two classifiers. At every limit the form with most
escapes counts: "some form lets too many pass" is rejected where each form's own hypothesis is, at
the full level (intersection-union test, Berger 1982). So it holds for all sealed forms at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lineside.metrics.binomial import binomial_tail, binomial_tails
from lineside_export.partscores import FloatArray, PartScores

GRID_STEPS: Final = 1000
"""Even steps beside the validation scores; more of them cost no parts, only microseconds."""

_ROUNDING: Final = 1e-9
"""Share of the level that a tail may lie above it: with up to 5,000 parts it is off by 4e-11 of
itself at most, and where both are equal (one part, 50 % at 50 %) the CPU shall not decide."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What testing a grid of limits gave. Limits are as `PartScores`: higher is looser.

    Attributes:
        limits: (M,) ascending: the grid.
        escaped: (M,) bad parts judged ``OK``, of the form with most of them.
        bad: how many bad parts there were.
        proven: how many limits, from the first on, hold; 0: not even the safest.
    """

    limits: FloatArray
    escaped: NDArray[np.int64]
    bad: int
    proven: int

    @property
    def loosest(self) -> float:
        """The loosest proven limit; only where `proven` is not 0."""
        return float(self.limits[self.proven - 1])


def escapes_allowed(bad: int, *, max_escape: float, confidence: float) -> int:
    """How many of so many bad parts may pass for the promise to be proven; -1: too few parts.

    Args:
        bad: bad parts that were counted.
        max_escape: above 0 and below 1.
        confidence: likewise.
    """
    # All of them passing proves nothing, whatever rounding makes of the last tail.
    tails = binomial_tails(max(bad - 1, 0), bad, max_escape) if bad else np.ones(1)
    return int(np.searchsorted(tails, _level(confidence), side="right")) - 1


def parts_needed(escaped: int, *, max_escape: float, confidence: float) -> int:
    """The fewest bad parts that prove the promise when so many of them pass."""
    level = _level(confidence)
    few, many = escaped, escaped + 1
    while binomial_tail(escaped, many, max_escape) > level:
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        if binomial_tail(escaped, middle, max_escape) > level:
            few = middle
        else:
            many = middle
    return many


def _level(confidence: float) -> float:
    return (1.0 - confidence) * (1.0 + _ROUNDING)


def limit_grid(scored: Sequence[PartScores], loosest: float) -> FloatArray:
    """The limits to try, from the safest on: fixed before any assurance part is looked at.

    Every validation score, where parts are, and even steps, where good and bad ones are apart. The
    safest is the best validation part's score: below it the line would stand still.

    Args:
        scored: the validation parts, by each form.
        loosest: the limit that was wished for without a guarantee; the last of the grid.

    Returns:
        (M,) float64 ascending, all different.
    """
    scores = np.concatenate([part for found in scored for part in (found.good, found.bad)])
    lowest = float(scores.min(initial=loosest))
    even = np.linspace(lowest, loosest, GRID_STEPS + 1)
    grid = np.unique(np.concatenate([scores, even]))
    return np.append(grid[grid < loosest], loosest)


def prove(
    limits: FloatArray, scored: Sequence[PartScores], *, max_escape: float, confidence: float
) -> Proof:
    """Test the limits in their order.

    Args:
        limits: (M,) as `limit_grid` gives them.
        scored: the assurance parts, by each form; all of the same parts.
        max_escape: bad parts judged ``OK`` / bad parts that may not be exceeded, within 0..1.
        confidence: within 0..1.
    """
    bad = len(scored[0].bad)
    escaped = np.max(
        [np.searchsorted(np.sort(found.bad), limits, side="right") for found in scored], axis=0
    )
    allowed = escapes_allowed(bad, max_escape=max_escape, confidence=confidence)
    holds = escaped <= allowed
    proven = len(holds) if holds.all() else int(np.argmin(holds))
    return Proof(limits=limits, escaped=escaped.astype(np.int64), bad=bad, proven=proven)
