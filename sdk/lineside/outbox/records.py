"""What goes into the outbox and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lineside.framekey import FrameKey


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """What the outbox adds to a verdict when it becomes durable.

    Attributes:
        seq: 1, 2, 3, …; no gaps, also across restarts.
        job_id: 18 hex digits, unique for ever: eight drawn when the outbox was made, ten of seq.
    """

    seq: int
    job_id: str


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A verdict on its way to the disk.

    Attributes:
        encode: stamp to payload; called in the outbox's own thread, must be quick and pure.
        key: remembered in the same transaction; ``None`` where frames cannot come again.
    """

    encode: Callable[[Stamp], bytes]
    key: FrameKey | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A durable verdict that no broker has acknowledged yet."""

    seq: int
    payload: bytes
