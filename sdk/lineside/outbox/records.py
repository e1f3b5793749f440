"""What goes into the outbox and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

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
        expires_unix_ms: from then on it is history: too old for the line to act on.
        findings: stamp to the message of the findings topic; ``None`` where there is none.
        entry: what made the verdict, for the journal, as `JournalEntry` encodes; empty: none.
    """

    encode: Callable[[Stamp], bytes]
    key: FrameKey | None = None
    expires_unix_ms: int = 2**53
    findings: Callable[[Stamp], bytes] | None = None
    entry: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Late:
    """A result that came after its part's deadline: the journal keeps it, nobody hears it.

    Attributes:
        turn: of the verdict that was given in its place.
        entry: as of a `Draft`.
    """

    turn: str
    entry: bytes


@dataclass(frozen=True, kw_only=True)
class Note:
    """What the journal keeps beside verdicts: what a human said, and what the station changed.

    Attributes:
        kind: ``disposition``, ``changeover``, ``drift``, ``mended``, ``command``, ``limits``.
        body: JSON.
    """

    kind: str
    body: bytes


class Notebook(Protocol):
    """Keeps notes: the outbox, and what stands in its place."""

    def note(self, note: Note) -> bool:
        """``False``: the disk stands, and it was not taken."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A durable verdict that no broker has acknowledged yet.

    Attributes:
        expires_unix_ms, findings: as of the `Draft`; findings are empty where there are none.
    """

    seq: int
    payload: bytes
    expires_unix_ms: int = 2**53
    findings: bytes = b""
