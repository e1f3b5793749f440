"""NOR flash in memory, with a power cut where a test wants it.

A page is erased as a whole, a byte is programmed once between erases. A cut within a write leaves
its beginning and one byte of which only some bits have fallen; a cut within an erase leaves a page
with any bits at all.
"""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator
from typing import NamedTuple

from lineside.errors import StorageError
from lineside.slots.codec import MAX_RECORD_BYTES
from lineside.slots.storage import Area, Storage


class PowerCut(BaseException):
    """The power is gone: what runs ends here, and nothing more is written until `restart`.

    No `Exception`, so that nothing takes it for an error and goes on.
    """


class FlashMisuseError(AssertionError):
    """Something that no real flash does: a fault of the program that uses it."""


class _Fault(NamedTuple):
    operation: int
    torn_bytes: int
    error: BaseException


class SimulatedFlash(Storage):
    """Its contents stay in the object: a reboot is `restart` and a new store over it.

    Attributes:
        operations: writes, erases and syncs so far, whole or cut.
        wear: how often each page was erased, by area.
    """

    def __init__(self, *, page_bytes: int = 4096, slot_bytes: int = 65536, seed: int = 0) -> None:
        """
        Args:
            page_bytes: what is erased at once; no less than a record has where it is to fit one.
            slot_bytes: of each slot; whole pages.
            seed: of the bits that a cut leaves.
        """
        record_bytes = -(-MAX_RECORD_BYTES // page_bytes) * page_bytes
        sizes = dict.fromkeys((Area.RECORD_0, Area.RECORD_1), record_bytes)
        sizes |= dict.fromkeys((Area.SLOT_A, Area.SLOT_B), slot_bytes)
        self.operations = 0
        self.wear = {area: [0] * (size // page_bytes) for area, size in sizes.items()}
        self._page_bytes = page_bytes
        self._bytes = {area: bytearray(b"\xff" * size) for area, size in sizes.items()}
        self._programmed = {area: bytearray(size) for area, size in sizes.items()}
        self._random = random.Random(seed)
        self._fault: _Fault | None = None
        self._is_off = False

    def __str__(self) -> str:
        return "simulated flash"

    def cut_at(self, operation: int, torn_bytes: int = 0) -> None:
        """Cut the power at an operation to come.

        Args:
            operation: its number, as `operations` counts; the next one has the number that stands
                there now.
            torn_bytes: 0: before it; up to its size: within its so-manieth byte; more: right after.
        """
        self._fault = _Fault(operation, torn_bytes, PowerCut())

    def fail_at(self, operation: int, torn_bytes: int = 0) -> None:
        """Let an operation to come fail, once, as far as it gets; see `cut_at`."""
        self._fault = _Fault(operation, torn_bytes, StorageError(f"{self}: failed"))

    def restart(self) -> None:
        """The power is back; no cut is planned any more."""
        self._fault, self._is_off = None, False

    def clone(self) -> SimulatedFlash:
        """Another flash with the same contents and chances."""
        other = copy.copy(self)
        other.wear = {area: list(pages) for area, pages in self.wear.items()}
        other._bytes = {area: bytearray(data) for area, data in self._bytes.items()}
        other._programmed = {area: bytearray(data) for area, data in self._programmed.items()}
        other._random = copy.copy(self._random)
        return other

    def damage(self, area: Area, offset: int, data: bytes) -> None:
        """Let bytes rot: they read as these, whatever was written."""
        self._bytes[area][offset : offset + len(data)] = data

    @property
    def page_bytes(self) -> int:
        return self._page_bytes

    def capacity_bytes(self, area: Area) -> int:
        return len(self._bytes[area])

    def read(self, area: Area, offset: int, size: int) -> bytes:
        self._check_power()
        self._check_range(area, offset, 0)
        return bytes(self._bytes[area][offset : offset + size])

    def write(self, area: Area, offset: int, data: bytes) -> None:
        self._check_range(area, offset, len(data))
        if any(self._programmed[area][offset : offset + len(data)]):
            raise FlashMisuseError(f"{area.value}: bytes from {offset} on are written twice")
        done = self._begin()
        if done is None or done > len(data):
            self._program(area, offset, data)
        elif done > 0:
            torn = data[done - 1] | self._random.randrange(256)
            self._program(area, offset, data[: done - 1] + bytes([torn]))
        self._end(done)

    def erase(self, area: Area, offset: int, size: int) -> None:
        page = self._page_bytes
        self._check_range(area, offset, size)
        if offset % page or size % page:
            raise FlashMisuseError(f"{area.value}: an erase of {size} at {offset}: no whole pages")
        done = self._begin()
        whole = size if done is None or done > size else max(done - 1, 0)
        for start in range(0, whole // page * page, page):
            self._set_page(area, offset + start, b"\xff" * page, is_torn=False)
        if done is not None and 0 < done <= size:
            # The page that it was at: its beginning is erased, behind that it has any bits at all.
            rest = self._random.randbytes(page - whole % page)
            start = offset + whole // page * page
            self._set_page(area, start, b"\xff" * (whole % page) + rest, is_torn=True)
        self._end(done)

    def sync(self) -> None:
        self._end(self._begin())

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """There is one program on it."""
        yield

    def _begin(self) -> int | None:
        """Count an operation; how far it gets, where something is planned for it."""
        self._check_power()
        number, self.operations = self.operations, self.operations + 1
        return self._fault.torn_bytes if self._fault and self._fault.operation == number else None

    def _end(self, done: int | None) -> None:
        if done is not None and self._fault is not None:
            fault, self._fault = self._fault, None
            self._is_off = isinstance(fault.error, PowerCut)
            raise fault.error

    def _program(self, area: Area, offset: int, data: bytes) -> None:
        self._bytes[area][offset : offset + len(data)] = data
        self._programmed[area][offset : offset + len(data)] = b"\1" * len(data)

    def _set_page(self, area: Area, start: int, data: bytes, *, is_torn: bool) -> None:
        """Whatever bits it has, a half-erased page takes no writes."""
        end = start + self._page_bytes
        self._bytes[area][start:end] = data
        self._programmed[area][start:end] = (b"\1" if is_torn else b"\0") * self._page_bytes
        self.wear[area][start // self._page_bytes] += 1

    def _check_power(self) -> None:
        if self._is_off:
            raise PowerCut("the power is off: restart()")

    def _check_range(self, area: Area, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > len(self._bytes[area]):
            raise FlashMisuseError(
                f"{area.value}: {size} bytes at {offset}, it has {len(self._bytes[area])}"
            )
