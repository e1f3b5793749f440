"""The power by which something grows: the slope of logarithms, with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

# Student's t, 97.5 %, by degrees of freedom from 1 on.
_T975: Final = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def fit_exponent(sizes: Sequence[float], values: Sequence[float]) -> dict[str, Any]:
    """Least squares through log(value) over log(size).

    Args:
        sizes: at least two different ones, above 0.
        values: above 0, one a size.

    Returns:
        ``exponent``; ``low`` and ``high``: its 95 % interval, which also holds how far the points
        are from any one power (``None`` with two points); ``large_end``: the slope between the two
        largest sizes, where what does not grow counts least.
    """
    order = np.argsort(sizes)
    x = np.log(np.array(sizes, float)[order])
    y = np.log(np.array(values, float)[order])
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
    rest = y - y.mean() - slope * (x - x.mean())
    degrees = len(x) - 2
    half = None
    if degrees > 0:
        error = math.sqrt(float((rest**2).sum()) / degrees / spread)
        half = error * _T975[min(degrees, len(_T975)) - 1]
    return {
        "exponent": round(slope, 3),
        "low": None if half is None else round(slope - half, 3),
        "high": None if half is None else round(slope + half, 3),
        "large_end": round(float((y[-1] - y[-2]) / (x[-1] - x[-2])), 3),
    }


def tell_fit(fit: dict[str, Any] | None) -> str:
    """For people."""
    if fit is None:
        return ""
    told = f"{fit['exponent']:.2f}"
    return told if fit["low"] is None else f"{told} ({fit['low']:.2f} to {fit['high']:.2f})"
