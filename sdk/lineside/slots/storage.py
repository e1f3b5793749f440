"""What a store lies on: four areas that are read, written, erased and synced.

A folder of a Linux disk is one and the NOR flash of a sensor another: the same rules run over both.
"""

from __future__ import annotations

import contextlib
from enum import Enum
from typing import Protocol


class SlotName(str, Enum):
    """Where a bundle may lie."""

    A = "a"
    B = "b"

    @property
    def other(self) -> SlotName:
        """The one beside it."""
        return SlotName.B if self is SlotName.A else SlotName.A


class Area(str, Enum):
    """A stretch of its own: one of two copies of the record, or a slot."""

    RECORD_0 = "record.0"
    RECORD_1 = "record.1"
    SLOT_A = "slot.a"
    SLOT_B = "slot.b"

    @classmethod
    def of(cls, slot: SlotName) -> Area:
        """Where a slot's bundle lies."""
        return cls.SLOT_A if slot is SlotName.A else cls.SLOT_B


class Storage(Protocol):
    """Bytes that outlast a power cut, once `sync` has returned.

    Everything may be cut or torn before that: any part of a write or an erase may have happened.

    Attributes:
        page_bytes: erases begin and end on its multiples; a write may begin and end anywhere, on
            bytes that were erased and not written since.

    Raises:
        StorageError: from every method: full, worn out, gone, not permitted.
    """

    @property
    def page_bytes(self) -> int: ...

    def capacity_bytes(self, area: Area) -> int:
        """How much fits; of a record's area at least 1,024."""

    def read(self, area: Area, offset: int, size: int) -> bytes:
        """Bytes ``[offset, offset + size)``; what was never written since its erase reads 0xFF.

        A folder's area may read shorter at its end: nothing lies there.
        """

    def write(self, area: Area, offset: int, data: bytes) -> None:
        """Put bytes where all was erased."""

    def erase(self, area: Area, offset: int, size: int) -> None:
        """Make whole pages read 0xFF, in rising order: a cut leaves no erased page behind one
        that was not."""

    def sync(self) -> None:
        """What was written and erased before is durable after."""

    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        """Nobody else changes anything meanwhile; may be entered again by the same thread.

        Raises:
            StoreBusyError: another process does.
        """
