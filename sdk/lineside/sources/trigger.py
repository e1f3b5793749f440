"""A trigger: a part stands before the camera, says somebody."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """One part's turn begins.

    Attributes:
        part_id: the physical part, ``""`` where the one who triggers does not know it.
        product: which bundle judges it; ``""``: the one that is in use.
        at_unix_ns: when the station heard it, wall clock.
        at_ns: the same moment on the monotonic clock.
    """

    part_id: str
    at_unix_ns: int
    at_ns: int
    product: str = ""
