"""When the last verdicts became durable, in memory that does not grow."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

from lineside.outbox.records import Stamp

# The broker's answer to a verdict comes while fewer than this are given after it, or its delivery
# is not measured.
_KEPT: Final = 8192


class CommitTimes:
    """A ring by sequence number."""

    def __init__(self) -> None:
        self._seqs = array("q", bytes(8 * _KEPT))
        self._at_ns = array("q", bytes(8 * _KEPT))

    def keep(self, stamps: Sequence[Stamp], at_ns: int) -> None:
        """Note one commit's time, of a monotonic clock."""
        for stamp in stamps:
            place = stamp.seq % _KEPT
            self._seqs[place] = stamp.seq
            self._at_ns[place] = at_ns

    def of(self, seq: int) -> int | None:
        """When it became durable; ``None`` where that is not known any more."""
        place = seq % _KEPT
        return self._at_ns[place] if self._seqs[place] == seq else None
