"""How a slot is filled: in order, page by page, so that it can go on after a cut.

The record says what is coming in, not how far it is. That is read from the slot: a page is begun
only after the one before was synced: all pages before the last one that was begun are whole.
That one may be torn, and is erased and written again.
"""

from __future__ import annotations

import hashlib
from typing import Final

from lineside.errors import RefusedError, StorageError
from lineside.slots.codec import is_blank
from lineside.slots.record import Incoming
from lineside.slots.storage import Area, Storage

_HASHED_AT_ONCE_BYTES: Final = 1024 * 1024
_GLANCE_BYTES: Final = 64  # of a page: nearly always enough to see that something is there


def erase_for(storage: Storage, area: Area, size_bytes: int, *, start: int = 0) -> None:
    """Erase what a file of this size needs, from a page on, and sync."""
    page = storage.page_bytes
    end = -(-size_bytes // page) * page
    storage.erase(area, start, end - start)
    storage.sync()


def find_whole_pages(storage: Storage, area: Area, size_bytes: int) -> int:
    """Where to go on after a cut: at the page before the first blank one, or at the last.

    The first, not the last that holds anything: a cut while the rest was erased, in rising order,
    leaves a gap and garbage behind it. A file with a blank page of its own goes on before that one.
    """
    page = storage.page_bytes
    for start in range(0, size_bytes, page):
        if _is_blank_page(storage, area, start):
            return max(0, start - page)
    return (size_bytes - 1) // page * page


def _is_blank_page(storage: Storage, area: Area, start: int) -> bool:
    if not is_blank(storage.read(area, start, _GLANCE_BYTES)):
        return False
    return is_blank(storage.read(area, start, storage.page_bytes))


def hash_file(storage: Storage, area: Area, size_bytes: int) -> bytes:
    """SHA-256 of the beginning of an area; of what is there where less is."""
    digest = hashlib.sha256()
    for start in range(0, size_bytes, _HASHED_AT_ONCE_BYTES):
        digest.update(storage.read(area, start, min(_HASHED_AT_ONCE_BYTES, size_bytes - start)))
    return digest.digest()


class Filling:
    """One file on its way into one area. Not thread-safe.

    Attributes:
        incoming: what.
        area: where.
        written: bytes that are there; the next write goes on there.
    """

    def __init__(self, storage: Storage, area: Area, incoming: Incoming, *, written: int) -> None:
        self.incoming = incoming
        self.area = area
        self.written = written
        self._storage = storage

    def check_order(self, offset: int, data: bytes) -> None:
        """Whether these bytes may be written next.

        Raises:
            RefusedError: bytes before them are missing.
            StorageError: beyond the file's size.
        """
        end = offset + len(data)
        if offset < 0 or end > self.incoming.size_bytes:
            raise StorageError(
                f"{self._storage}: {self.area.value}: bytes {offset} to {end} of a file of "
                f"{self.incoming.size_bytes}: send the file that was announced"
            )
        if offset > self.written:
            raise RefusedError(
                f"{self.area.value}: bytes {offset} to {end} before {self.written}: go on there"
            )

    def write(self, offset: int, data: bytes) -> None:
        """Go on; what is there already may be given again. To be thrown away where it raises.

        Raises:
            RefusedError: what is there are other bytes.
            StorageError: they cannot be written.
        """
        known = min(self.written - offset, len(data))
        if self._storage.read(self.area, offset, known) != data[:known]:
            raise RefusedError(
                f"{self.area.value}: bytes {offset} to {offset + known} were written before, and "
                "are others: begin again"
            )
        self._append(memoryview(data)[known:])

    def _append(self, rest: memoryview) -> None:
        """To the end of a page, synced, and on."""
        page = self._storage.page_bytes
        while rest:
            part = rest[: page - self.written % page]
            self._storage.write(self.area, self.written, bytes(part))
            self.written += len(part)
            rest = rest[len(part) :]
            if self.written % page == 0:
                self._storage.sync()
