"""A figure as `result.json` holds it."""

from __future__ import annotations

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A figure with its interval.

    Attributes:
        value: on all samples.
        low: lower end; None where one sample gives no interval.
        high: upper end; likewise.
        confidence: e.g. 0.95.
        drawn_by: "part", or "image" where there are too few parts.
        drawn: how many of them.
    """

    value: float
    low: float | None
    high: float | None
    confidence: float
    drawn_by: str
    drawn: int
