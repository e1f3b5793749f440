"""Simulated flash that looks on: how large each operation is, and that none touches what judges."""

from __future__ import annotations

from typing import NamedTuple

from lineside.slots import Area, SimulatedFlash
from lineside.slots.copies import RecordCopies


class Operation(NamedTuple):
    """Of the storage: how many bytes it writes or erases; a sync none."""

    size: int
    is_erase: bool = False


class GuardedFlash(SimulatedFlash):
    """Refuses a write or an erase of the slot that is active by the record that lies there.

    Attributes:
        done: the operations since it was cleared.
    """

    def __init__(self, *, page_bytes: int = 4096, slot_bytes: int = 65536, seed: int = 0) -> None:
        super().__init__(page_bytes=page_bytes, slot_bytes=slot_bytes, seed=seed)
        self.done: list[Operation] = []
        self._guard = RecordCopies(self)

    def clone(self) -> GuardedFlash:
        """Looks on by itself."""
        other = super().clone()
        assert isinstance(other, GuardedFlash)
        other.done = []
        other._guard = RecordCopies(other)
        return other

    def write(self, area: Area, offset: int, data: bytes) -> None:
        self._look(area, Operation(len(data)))
        super().write(area, offset, data)

    def erase(self, area: Area, offset: int, size: int) -> None:
        self._look(area, Operation(size, is_erase=True))
        super().erase(area, offset, size)

    def sync(self) -> None:
        self.done.append(Operation(0))
        super().sync()

    def _look(self, area: Area, operation: Operation) -> None:
        self.done.append(operation)
        if area in (Area.SLOT_A, Area.SLOT_B):
            active = self._guard.read().active
            assert active is None or Area.of(active) is not area, f"{area.value} judges"
