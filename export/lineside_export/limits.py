"""Limits chosen on validation parts: best F1, a recall, the least cost, a wished overkill. Pure.

None of them promises anything about bad parts; `guarantee` does. Limits and scores are as in
`PartScores`: higher is worse. Several forms count as so many times the parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lineside.metrics.binomial import rate_bound
from lineside_export.partscores import FloatArray, PartScores

ANY: Final = (-np.inf, np.inf)


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a part costs that is judged so, in any one currency; none is negative.

    Attributes:
        escape: a bad part judged ``OK``.
        overkill: a good part judged ``NOT_OK``.
        review: any part judged ``NOT_DECIDABLE``.
    """

    escape: float
    overkill: float
    review: float


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What limits would do: candidates, and how many parts are no worse than each.

    Attributes:
        limits: (M,) ascending.
        bad_below, good_below: (M,) float64: parts up to the limit.
        bad, good: all of them.
    """

    limits: FloatArray
    bad_below: FloatArray
    good_below: FloatArray
    bad: int
    good: int


def tally(scored: Sequence[PartScores], bounds: tuple[float, float] = ANY) -> Tally:
    """Every limit that can make a difference: midway between neighbouring scores, and both ends.

    Args:
        scored: at least one part.
        bounds: the lowest and highest limit that the head's score allows.
    """
    bad = np.sort(np.concatenate([found.bad for found in scored]))
    good = np.sort(np.concatenate([found.good for found in scored]))
    scores = np.unique(np.concatenate([bad, good]))
    midway = scores[:-1] / 2.0 + scores[1:] / 2.0
    ends = [np.nextafter(scores[0], -np.inf), scores[-1]]
    limits = np.unique(np.clip(np.concatenate([[ends[0]], midway, [ends[1]]]), *bounds))
    return Tally(
        limits=limits,
        bad_below=np.searchsorted(bad, limits, side="right").astype(np.float64),
        good_below=np.searchsorted(good, limits, side="right").astype(np.float64),
        bad=len(bad),
        good=len(good),
    )


def best_f1(found: Tally) -> float:
    """The limit beyond which bad parts are found with the best F1; of equal ones the safest.

    Args:
        found: with at least one bad part.
    """
    hits, false_calls = found.bad - found.bad_below, found.good - found.good_below
    return float(found.limits[np.argmax(2.0 * hits / (hits + false_calls + found.bad))])


def at_least_recall(found: Tally, min_recall: float) -> float | None:
    """The loosest limit beyond which at least this share of the bad parts lies.

    Args:
        found: with at least one bad part.
        min_recall: bad parts beyond the limit / bad parts, 0..1.

    Returns:
        The limit; ``None`` where none that is allowed finds so many.
    """
    # Counted and not divided: 0.9 of 10 parts is 9, whatever 0.9 is in binary.
    enough = found.bad - found.bad_below >= np.round(min_recall * found.bad, 9)
    return float(found.limits[enough][-1]) if enough.any() else None


def least_cost(found: Tally, costs: Costs) -> tuple[float, float]:
    """The two limits with the least cost of all parts together; of equal ones the safest.

    The cost falls into a term of each limit: a part up to the OK limit saves its review, one beyond
    the NOT_OK limit as well. So the best OK limit below each NOT_OK limit is a running minimum.

    Returns:
        OK limit and NOT_OK limit, the first not beyond the second.
    """
    below = found.bad_below + found.good_below
    of_ok = costs.escape * found.bad_below - costs.review * below
    of_not_ok = costs.overkill * (found.good - found.good_below) + costs.review * below
    not_ok = int(np.argmin(np.minimum.accumulate(of_ok) + of_not_ok))
    ok = int(np.argmin(of_ok[: not_ok + 1]))
    return float(found.limits[ok]), float(found.limits[not_ok])


def overkill_allowed(max_overkill: float, good: int) -> int:
    """How many of so many good parts may be ``NOT_OK``: counted and not divided."""
    return int(np.floor(np.round(max_overkill * good, 9)))


def overkill_limit(
    scored: Sequence[PartScores], max_overkill: float, bounds: tuple[float, float] = ANY
) -> float | None:
    """The tightest limit beyond which at most this share of the good parts lies, by every form.

    It lies midway between the last good part that is let through and the next worse part, and
    where none is worse on the last one itself: never beyond what was seen.

    Args:
        scored: the validation parts, by each form, with at least one good part.
        max_overkill: good parts judged ``NOT_OK`` / good parts, 0..1.
        bounds: as for `tally`.

    Returns:
        The limit; ``None`` where none that is allowed rejects so few.
    """
    limits = [within_overkill(tally([found], bounds), max_overkill) for found in scored]
    known = [limit for limit in limits if limit is not None]
    return max(known) if len(known) == len(limits) else None


def overkill_bound(max_overkill: float, good: int, *, confidence: float) -> float:
    """Upper end of the exact one-sided interval of the overkill rate at `overkill_limit`.

    The limit is no tighter than the order statistic of the good parts that so many lie beyond, and
    what lies beyond an order statistic follows a beta distribution whatever the scores' own is
    (Wilks 1941): Clopper and Pearson's bound of the allowed count, though the limit was chosen on
    the same parts.

    Args:
        max_overkill: that the limit was chosen for.
        good: parts that it was chosen on.
        confidence: of the bound.

    Returns:
        0..1.
    """
    return rate_bound(overkill_allowed(max_overkill, good), good, confidence=confidence)


def within_overkill(found: Tally, max_overkill: float) -> float | None:
    """The tightest NOT_OK limit that rejects at most this share of the good parts.

    Args:
        found: of the validation parts.
        max_overkill: good parts judged ``NOT_OK`` / good parts, 0..1.

    Returns:
        The limit; ``None`` where none that is allowed rejects so few.
    """
    few = found.good - found.good_below <= overkill_allowed(max_overkill, found.good)
    return float(found.limits[few][0]) if few.any() else None
