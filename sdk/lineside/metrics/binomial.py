"""Exact binomial tails, bounds and tests: of counts of parts, in place of approximations.

scipy has them too, and no device has scipy.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_BISECTIONS: Final = 60


def binomial_tails(most: int, trials: int, rate: float) -> FloatArray:
    """P(X <= k) of a binomial X for k from 0 to `most`, exact but for rounding.

    Args:
        most: 0 to `trials`.
        trials: not negative.
        rate: of a success, above 0 and below 1.

    Returns:
        (most + 1,) float64, never falling, in 0..1.
    """
    counts = np.arange(most, dtype=np.float64)
    odds = math.log(rate) - math.log1p(-rate)
    steps = np.log(trials - counts) - np.log(counts + 1.0) + odds
    logs = trials * math.log1p(-rate) + np.concatenate([[0.0], np.cumsum(steps)])
    tails: FloatArray = np.minimum(np.cumsum(np.exp(logs)), 1.0)
    return tails


def binomial_tail(successes: int, trials: int, rate: float) -> float:
    """P(X <= successes) alone; arguments as for `binomial_tails`."""
    if successes >= trials:
        return 1.0
    return float(binomial_tails(successes, trials, rate)[-1])


def rate_bound(count: int, trials: int, *, confidence: float) -> float:
    """Upper end of the exact one-sided interval of a rate (Clopper & Pearson 1934).

    Returns:
        0..1; 1 where nothing was tried.
    """
    if count >= trials:
        return 1.0
    low, high = count / trials, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        if binomial_tail(count, trials, middle) > 1.0 - confidence:
            low = middle
        else:
            high = middle
    return high


def rate_interval(count: int, trials: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided interval of a rate (Clopper & Pearson 1934).

    Returns:
        Lower and upper end, 0..1; (0, 1) where nothing was tried.
    """
    one_sided = (1.0 + confidence) / 2.0
    if not trials:
        return 0.0, 1.0
    low = 1.0 - rate_bound(trials - count, trials, confidence=one_sided)
    return low, rate_bound(count, trials, confidence=one_sided)


def sign_test(one: int, other: int) -> float:
    """How likely so uneven a split is where both sides are as likely: McNemar's exact test.

    Of two that judged the same parts, each side counts the parts that only this one got wrong
    (McNemar 1947; the exact form is the binomial's, two-sided).

    Returns:
        0..1; 1 where nothing differs.
    """
    return min(1.0, 2.0 * binomial_tail(min(one, other), one + other, 0.5)) if one + other else 1.0
