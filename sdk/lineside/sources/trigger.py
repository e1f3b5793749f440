"""A trigger: a part stands before the camera, says somebody."""

from __future__ import annotations

import time
from collections.abc import Callable
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


Offer = Callable[[Trigger], bool]
"""Takes a trigger, from any thread and at once; ``False``: it is refused and gets no verdict."""


def trigger_now(part_id: str, product: str = "") -> Trigger:
    """A trigger that was heard this moment."""
    return Trigger(
        part_id=part_id, product=product, at_unix_ns=time.time_ns(), at_ns=time.monotonic_ns()
    )
