"""One thing looked at, and what to do about it."""

from __future__ import annotations

from enum import Enum

import msgspec


class State(str, Enum):
    """``missing`` alone makes `lineside doctor` fail."""

    OK = "ok"
    WARNING = "warning"
    MISSING = "missing"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What was found.

    Attributes:
        topic: what it is about, e.g. ``clock``.
        state: works, works less well, or is needed and absent.
        found: in words, with figures.
        remedy: what to do; empty where nothing is to be done.
    """

    topic: str
    state: State
    found: str
    remedy: str = ""
