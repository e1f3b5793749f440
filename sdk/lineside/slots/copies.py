"""Two copies of the record in two areas: one of them is whole at every moment.

A change goes to the older copy, then to the other, each synced before the next is touched.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import Final

from lineside.errors import StorageError
from lineside.slots.codec import (
    MAX_RECORD_BYTES,
    MAX_SEQUENCE,
    RECORD_BYTES,
    NewerFormatError,
    decode_record,
    encode_record,
    is_blank,
)
from lineside.slots.record import Record
from lineside.slots.rules import check_record
from lineside.slots.storage import Area, Storage

_AREAS: Final = (Area.RECORD_0, Area.RECORD_1)
_BLANK: Final = Record()
_LOOKED_AT_BYTES: Final = 4096  # of a slot, to see whether anything was ever written there


@dataclass(frozen=True, kw_only=True, eq=False)
class _Copy:
    """What one area holds.

    Attributes:
        area: which.
        data: its bytes; empty where they cannot be read.
        record: what they say.
        fault: why they say nothing.
    """

    area: Area
    data: bytes = b""
    record: Record | None = None
    fault: Exception | None = None

    @property
    def sequence(self) -> int:
        """-1 of a copy that does not count."""
        return -1 if self.record is None else self.record.sequence

    @property
    def is_blank(self) -> bool:
        return is_blank(self.data) and not isinstance(self.fault, StorageError)

    def is_of(self, data: bytes) -> bool:
        """Whether these bytes were decoded to it."""
        return self.data == data and not isinstance(self.fault, StorageError)


class RecordCopies:
    """The record as it lies there. Not thread-safe.

    Attributes:
        damage: what is wrong with one of the copies, for people; empty where both are sound.
    """

    def __init__(self, storage: Storage) -> None:
        self.damage = ""
        self._storage = storage
        self._seen: list[_Copy] = []
        self._record = _BLANK

    def read(self) -> Record:
        """The record that counts; one with the sequence 0 of a store that was never written.

        Raises:
            StorageError: both copies are damaged or unreadable, or one is of a newer version.
        """
        seen, copies = self._seen, self._copies()
        if copies != seen:
            self._seen = []
            self._record = self._choose(copies)
            self.damage = self._describe_damage(copies)
            # That a store is empty depends on its slots as well, so it is looked at each time.
            self._seen = copies if self._record.sequence else []
        return self._record

    @property
    def is_used(self) -> bool:
        """Whether a record was read here before: then the store is not empty, whatever is left."""
        return self._record.sequence > 0

    def needs_healing(self) -> bool:
        """Whether a copy is damaged or behind."""
        record = self.read()
        return record.sequence > 0 and any(copy.record != record for copy in self._copies())

    def heal(self) -> None:
        """Write a copy that is damaged or behind anew.

        Raises:
            StorageError: it cannot be written, or nothing can be read.
        """
        record = self.read()
        for copy in self._copies():
            if record.sequence and copy.record != record:
                self._put(copy.area, encode_record(record))
        self.read()

    def write(self, record: Record) -> None:
        """Make a record the one that counts, with the next sequence. Durable once this returns.

        Raises:
            StorageError: it does not count; the one before still does.
        """
        before = self.read()
        if before.sequence >= MAX_SEQUENCE:
            raise StorageError(f"{self._storage}: the sequence is at its end: begin a new store")
        record = replace(record, sequence=before.sequence + 1)
        check_record(record)
        encoded = encode_record(record)
        older, newer = sorted(self._copies(), key=lambda copy: copy.sequence)
        try:
            self._put(older.area, encoded)
        except StorageError:
            self._put_back(older.area, before)
            raise
        # Done: one copy is durable and counts. The next change begins with the other, and says
        # what is wrong with it if it still cannot be written.
        with contextlib.suppress(StorageError):
            self._put(newer.area, encoded)

    def _put_back(self, area: Area, before: Record) -> None:
        """A write that failed may be readable all the same; what was told not to count must not."""
        with contextlib.suppress(StorageError):
            if before.sequence:
                self._put(area, encode_record(before))
            else:
                self._erase(area)

    def _put(self, area: Area, encoded: bytes) -> None:
        self._erase(area)
        self._storage.write(area, 0, encoded)
        self._storage.sync()

    def _erase(self, area: Area) -> None:
        page = self._storage.page_bytes
        self._storage.erase(area, 0, -(-RECORD_BYTES // page) * page)

    def _copies(self) -> list[_Copy]:
        return [self._look(area, index) for index, area in enumerate(_AREAS)]

    def _look(self, area: Area, index: int) -> _Copy:
        """Decoded only when changed: who asks for each frame pays for two short reads."""
        try:
            data = self._storage.read(area, 0, MAX_RECORD_BYTES)
        except StorageError as error:
            return _Copy(area=area, fault=error)
        if self._seen and self._seen[index].is_of(data):
            return self._seen[index]
        try:
            record = decode_record(data)
            check_record(record)
        except ValueError as error:
            return _Copy(area=area, data=data, fault=error)
        return _Copy(area=area, data=data, record=record)

    def _choose(self, copies: list[_Copy]) -> Record:
        for copy in copies:
            if isinstance(copy.fault, NewerFormatError):
                raise StorageError(
                    f"{self._storage}: {copy.area.value}: {copy.fault}: the store is of a newer "
                    "Lineside: update this one, or begin a new store"
                )
        best = max(copies, key=lambda copy: copy.sequence)
        if best.record is not None:
            return best.record
        for copy in copies:
            if isinstance(copy.fault, StorageError):
                raise copy.fault
        if not self.is_used and self._was_never_used(copies):
            return _BLANK
        words = " and ".join(f"{copy.area.value} {_say_fault(copy)}" for copy in copies)
        raise StorageError(
            f"{self._storage}: {words}: which slot counts, and the security counters, are not "
            "known any more: put both back from a copy, or begin a new store in an empty place"
        )

    def _was_never_used(self, copies: list[_Copy]) -> bool:
        """Whether no slot was ever written, so that no record can have been lost.

        The very first record of a store may be torn while the other copy is still blank. Before
        anything is written to a slot, both copies are whole.
        """
        return any(copy.is_blank for copy in copies) and all(
            is_blank(self._storage.read(area, 0, _LOOKED_AT_BYTES))
            for area in (Area.SLOT_A, Area.SLOT_B)
        )

    def _describe_damage(self, copies: list[_Copy]) -> str:
        if not self._record.sequence:
            return ""
        hurt = [f"{copy.area.value} {_say_fault(copy)}" for copy in copies if copy.record is None]
        return f"{self._storage}: {'; '.join(hurt)}" if hurt else ""


def _say_fault(copy: _Copy) -> str:
    return "is missing or blank" if copy.is_blank else f"is damaged ({copy.fault})"
