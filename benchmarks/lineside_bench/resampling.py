"""How far a comparison of two ways would have come out otherwise, had the rounds been others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Compared = Callable[[Values, Values], Values]

_ENDS: Final = (2.5, 97.5)


def median_interval(
    first: Values,
    second: Values,
    compared: Compared,
    *,
    draws: int = 200,
    calls_a_turn: int = 1,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile bootstrap of what two medians differ by; both are drawn alike, so that what
    the whole machine did in a round cancels out.

    Args:
        first, second: (N,) of ways that took turns, turn after turn, in the same order.
        compared: ``np.subtract`` or ``np.divide``, of the medians.
        draws: of turns with replacement.
        calls_a_turn: one after the other; they share the machine's mood, and are drawn together.
        seed: of the draws.

    Returns:
        2.5 % and 97.5 % of it.
    """
    turns = len(first) // calls_a_turn
    drawn = np.random.default_rng(seed).integers(0, turns, (draws, turns))
    found = compared(_medians(first, drawn), _medians(second, drawn))
    low, high = np.percentile(found, _ENDS).tolist()
    return low, high


def _medians(values: Values, drawn: NDArray[np.int64]) -> Values:
    """Of each draw of turns."""
    by_turn = values.reshape(drawn.shape[1], -1)
    medians: Values = np.median(by_turn[drawn].reshape(len(drawn), -1), axis=1)
    return medians
