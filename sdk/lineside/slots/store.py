"""The store: rules over a storage, so that whatever happens a verified bundle is active."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from lineside.errors import RefusedError, StorageError
from lineside.slots import rules
from lineside.slots.copies import RecordCopies
from lineside.slots.filling import Filling, erase_for, find_whole_pages, hash_file
from lineside.slots.record import Incoming, Record, SlotCard
from lineside.slots.storage import Area, SlotName, Storage


class Store:
    """Two slots and the record that says which one counts. Thread-safe.

    Each change reads the record again while nobody else may change it, and is durable when the call
    returns. One that raises has left what judges as it was.

    Every method raises `StorageError` where the storage fails, and `StoreBusyError` where another
    process changes the store all the while.
    """

    def __init__(self, storage: Storage) -> None:
        """Open it, and write a copy of the record anew that is damaged or behind.

        Raises:
            StorageError: both copies are damaged, one is of a newer version, or unreadable.
        """
        self._storage = storage
        self._lock = threading.RLock()
        self._copies = RecordCopies(storage)
        # Of its own for those who only look: a station asks for each frame, and may not wait while
        # another thread hashes a bundle.
        self._seen_lock = threading.Lock()
        self._seen = RecordCopies(storage)
        self._filling: Filling | None = None
        self.record  # noqa: B018  (raises where nothing counts)
        # On a disk that has become read-only the record still counts; `damage` tells.
        with contextlib.suppress(StorageError):
            if self._copies.needs_healing():
                with self._exclusive():
                    self._copies.heal()

    @property
    def record(self) -> Record:
        """Of this moment, read again where another process changed it."""
        with contextlib.suppress(StorageError), self._seen_lock:
            record = self._seen.read()
            if record.sequence or not self._copies.is_used:
                return record
        # Both copies may have been on their way, one after the other, while they were read.
        with self._exclusive():
            return self._copies.read()

    @property
    def damage(self) -> str:
        """What is wrong with one of the record's two copies, for people; empty: nothing.

        Raises:
            StorageError: as `record`.
        """
        with self._seen_lock:
            self._seen.read()
            return self._seen.damage

    @property
    def storage(self) -> Storage:
        """What it lies on."""
        return self._storage

    def check_counter(self, card: SlotCard) -> None:
        """Whether a bundle may be confirmed here.

        Raises:
            DowngradeError: its security counter is below what was confirmed of its key.
            RefusedError: there is no room for the counter of one more key.
        """
        rules.check_counter(self.record, card)

    def free(self) -> SlotName:
        """Where the next bundle will be written.

        Raises:
            RefusedError: a bundle is pending or on trial.
        """
        return rules.free_slot(self.record)

    def begin(self, incoming: Incoming) -> int:
        """Make the free slot ready for a file; go on where the same file was begun before.

        Returns:
            The offset to go on at: all bytes before it are durable. After a restart it may be less
            than what was given before: begin anew gives a whole page back, 1 MiB of a folder.

        Raises:
            RefusedError: a bundle is pending or on trial.
            StorageError: the file does not fit.
        """
        with self._exclusive():
            record = self._copies.read()
            area = Area.of(rules.free_slot(record))
            filling, self._filling = self._filling, None
            self._check_room(area, incoming)
            if rules.incoming_of(record) != incoming:
                filling = self._start(area, incoming)
            elif filling is None or filling.incoming != incoming:
                filling = self._resume(area, incoming)
            self._storage.sync()
            self._filling = filling
            return filling.written

    def write(self, offset: int, data: bytes) -> None:
        """Bytes of the file that was begun: in order, or again.

        They are durable with the page that they end, and all of them once `finish` has returned.

        Raises:
            RefusedError: nothing was begun by this object, bytes before these are missing, or those
                that are there are others.
            StorageError: beyond the file's size, or the disk is full; `begin` again to go on.
        """
        with self._exclusive():
            filling = self._current_filling()
            filling.check_order(offset, data)
            # Thrown away where it fails: nobody knows then what was written of it.
            self._filling = None
            filling.write(offset, data)
            self._filling = filling

    @property
    def written(self) -> int:
        """Where the next `write` goes on.

        Raises:
            RefusedError: nothing was begun by this object.
        """
        with self._lock:
            return self._current_filling().written

    def discard(self) -> None:
        """Forget what was coming in; nothing happens where nothing was."""
        with self._exclusive():
            self._filling = None
            record = self._copies.read()
            if rules.incoming_slot(record) is not None:
                self._copies.write(rules.forget_incoming(record))

    def read_incoming(self, offset: int, size: int) -> bytes:
        """Bytes of what is coming in; fewer at the file's end, or where they were not written.

        Raises:
            RefusedError: nothing is coming in.
        """
        record = self.record
        area, incoming = _incoming_of(record)
        return _read_within(self._storage, area, offset, size, incoming.size_bytes)

    def finish(self, card: SlotCard) -> SlotName:
        """What came in was verified by the caller: it is pending; confirmed where nothing is.

        Raises:
            StorageError: it is not the file that was announced, and is forgotten: send it again.
            DowngradeError, RefusedError: see `check_counter`; `discard` it.
        """
        with self._exclusive():
            record = self._copies.read()
            area, incoming = _incoming_of(record)
            accepted = rules.accept(record, card)
            self._filling = None
            self._storage.sync()
            found = hash_file(self._storage, area, incoming.size_bytes)
            if found != incoming.sha256 or card.size_bytes != incoming.size_bytes:
                self.discard()
                raise StorageError(
                    f"{self._storage}: {area.value}: SHA-256 {found.hex()}, announced was "
                    f"{incoming.sha256.hex()}: cut short or changed on its way: send it again"
                )
            self._copies.write(accepted)
            return SlotName.A if area is Area.SLOT_A else SlotName.B

    def start_trial(self) -> SlotName:
        """The pending bundle judges from now on.

        Raises:
            RefusedError: none is pending.
        """
        return _active(self._change(rules.start_trial))

    def count_start(self) -> int:
        """The program starts once more with a bundle on trial.

        Returns:
            How often it has, this start included.

        Raises:
            RefusedError: none is on trial.
        """
        return self._change(rules.count_start).starts

    def confirm(self) -> SlotName:
        """The bundle on trial is confirmed; that before it can be taken back by `revert`.

        Raises:
            RefusedError: none is on trial.
        """
        return _active(self._change(rules.confirm))

    def revert(self, reason: str) -> SlotName | None:
        """Leave the bundle on trial, cancel the pending one, or go back to that before.

        Args:
            reason: a word, at most 24 ASCII letters.

        Returns:
            The slot that judges from now on.

        Raises:
            RefusedError: there is nothing to go back to.
            DowngradeError: that before is below what was confirmed since.
        """
        return self._change(lambda record: rules.revert(record, reason)).active

    def read(self, slot: SlotName, offset: int, size: int) -> bytes:
        """Bytes of the bundle in a slot; fewer at its end.

        Raises:
            RefusedError: no bundle lies there.
        """
        card = self.record.slots[slot].card
        if card is None:
            raise RefusedError(f"slot {slot.value}: holds no bundle")
        return _read_within(self._storage, Area.of(slot), offset, size, card.size_bytes)

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        # The storage first: who binds several changes together holds it before the first of them,
        # and the other order would have the two wait for each other for ever.
        with self._storage.exclusive(), self._lock:
            yield

    def _change(self, rule: Callable[[Record], Record]) -> Record:
        with self._exclusive():
            changed = rule(self._copies.read())
            self._copies.write(changed)
            return changed

    def _start(self, area: Area, incoming: Incoming) -> Filling:
        """In this order: a slot that the record says is being filled was erased whole; and before
        the first record of all no slot is touched.
        """
        record = self._copies.read()
        vacated = rules.vacate(record)
        if not record.sequence or vacated != record:
            self._copies.write(vacated)
        erase_for(self._storage, area, incoming.size_bytes)
        self._copies.write(rules.expect(vacated, incoming))
        return Filling(self._storage, area, incoming, written=0)

    def _resume(self, area: Area, incoming: Incoming) -> Filling:
        written = find_whole_pages(self._storage, area, incoming.size_bytes)
        erase_for(self._storage, area, incoming.size_bytes, start=written)
        return Filling(self._storage, area, incoming, written=written)

    def _check_room(self, area: Area, incoming: Incoming) -> None:
        room = self._storage.capacity_bytes(area)
        if not 0 < incoming.size_bytes <= room:
            raise StorageError(
                f"{self._storage}: {area.value}: {incoming.size_bytes:,} bytes do not fit, there "
                f"is room for {room:,}"
            )

    def _current_filling(self) -> Filling:
        """What this object began, where no other has begun something else since."""
        filling = self._filling
        if filling is None or rules.incoming_of(self._copies.read()) != filling.incoming:
            raise RefusedError("nothing is coming in here: begin first")
        return filling


def _incoming_of(record: Record) -> tuple[Area, Incoming]:
    slot = rules.incoming_slot(record)
    incoming = rules.incoming_of(record)
    if slot is None or incoming is None:
        raise RefusedError("nothing is coming in: begin first")
    return Area.of(slot), incoming


def _read_within(storage: Storage, area: Area, offset: int, size: int, end: int) -> bytes:
    return storage.read(area, offset, max(0, min(size, end - offset)))


def _active(record: Record) -> SlotName:
    active = record.active
    assert active is not None
    return active
