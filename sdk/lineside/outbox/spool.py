"""The outbox as the station sees it: hand over quickly, durable in groups, never lose.

One thread of its own writes; while one group is on its way to the disk the next one gathers, so a
verdict waits for at most two commits and nothing is delayed on purpose.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lineside.backoff import Backoff
from lineside.errors import InputDataError, StorageError
from lineside.framekey import FrameKey
from lineside.latency import LatencyHistogram
from lineside.outbox.folding import LogFolder
from lineside.outbox.lock import FileLock
from lineside.outbox.pending import Group, Pending
from lineside.outbox.ranges import Ranges
from lineside.outbox.records import Draft, Late, Note, Row, Stamp
from lineside.outbox.retention import Keeper
from lineside.outbox.settings import OutboxSettings
from lineside.outbox.shelf import Shelf
from lineside.outbox.store import Counters, Store
from lineside.outbox.times import CommitTimes
from lineside.worker import Worker

NOTE_LIMIT_BYTES = 16_384
_LOOK_EVERY_S = 1.0
_PAYLOAD_BYTES = 512
_RETRY_FIRST_S = 0.1
_RETRY_LAST_S = 5.0
# A station that ends still hands over what waits, unless the disk has taken nothing for so long.
_STANDSTILL_S = 2.0


class Outbox:
    """Thread-safe. ``put`` from the inspection's thread, ``unsent`` from the publisher's.

    Attributes:
        handover: from ``put`` to durable, microseconds.
        delivery: from durable to acknowledged, microseconds; only verdicts of this process.

    Raises:
        StorageError: at opening: the file is torn, read-only, not an outbox, or in use.
    """

    def __init__(self, settings: OutboxSettings) -> None:
        self.handover = LatencyHistogram()
        self.delivery = LatencyHistogram()
        self._settings = settings
        self._lock_file = FileLock(settings.path)
        with contextlib.ExitStack() as undo:
            undo.callback(self._lock_file.release)
            self._writer = self._open_store(undo)
            self._writer.check()
            counters = self._writer.counters()
            self._shelf = Shelf(self._open_store(undo))
            folding = self._open_store(undo)
            undo.pop_all()
        self._start_from(counters)
        self._changed = threading.Condition()
        self._pending = Pending()
        self._times = CommitTimes()
        self._keeper = Keeper(settings, self._writer.upkeep, counters.journal_bytes)
        self._on_commit: Callable[[], None] = lambda: None
        self._fault: StorageError | None = None
        self._closing = False
        self._moved_s = 0.0
        self._stop_seen_s: float | None = None
        self._folder = LogFolder(folding, on_fault=lambda: self._on_commit())
        self._worker = Worker(self._write_forever, name="lineside-outbox")
        self._worker.start()

    @property
    def path(self) -> Path:
        """The SQLite file."""
        return self._settings.path

    @property
    def given(self) -> int:
        """Verdicts that were ever made durable here; also the last sequence number."""
        return self._given

    @property
    def waiting(self) -> int:
        """Durable verdicts that no broker has acknowledged."""
        # Together: a commit and its acknowledgement between two reads would make it less than 0.
        with self._changed:
            return self._given - self._acknowledged.total

    @property
    def acknowledged(self) -> int:
        """Verdicts that a broker has acknowledged, ever."""
        return self._acknowledged.total

    @property
    def fault(self) -> StorageError | None:
        """Why nothing can be written or read just now; ``None`` when all is well."""
        return self._fault or self._shelf.fault or self._folder.fault

    @property
    def pressure(self) -> str:
        """``disk`` while room runs out: the line is to hear it before anything is dropped."""
        return self._keeper.pressure

    def when_committed(self, call: Callable[[], None]) -> None:
        """Have ``call`` called after each commit, on each new fault, and when ``pressure`` changes.

        In a thread of the outbox; it must return at once.
        """
        self._on_commit = call

    def when_pressed(self, call: Callable[[], None]) -> None:
        """Have ``call`` called in the outbox's thread once a second while there is pressure.

        It is to free what is worth less than the journal, elsewhere (it must return at once); rows
        of the journal go only after `room.TELL_S` seconds of pressure.
        """
        self._keeper.on_pressed = call

    def put(
        self,
        draft: Draft,
        *,
        stopping: threading.Event,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> bool:
        """Hand over; waits while too many are not yet durable (a slow or full disk).

        Args:
            draft: what to store.
            stopping: ends the wait once the disk has a fault, or stood for two seconds since.
            meanwhile: called a few times a second while it waits; must return at once, and not
                come back here.

        Returns:
            ``False`` when that ended the wait: the verdict was not taken.
        """
        since_ns = time.monotonic_ns()
        with self._changed:
            while not self._pending.offer_draft(draft, since_ns):
                self._worker.check()
                if stopping.is_set() and self._stands_still():
                    return False
                meanwhile()
                self._changed.wait(0.2)
            self._changed.notify_all()
        return True

    def _stands_still(self) -> bool:
        now_s = time.monotonic()
        if self._stop_seen_s is None:
            self._stop_seen_s = now_s
        moved_s = max(self._moved_s, self._stop_seen_s)
        return self._fault is not None or now_s - moved_s > _STANDSTILL_S

    def put_late(self, late: Late) -> bool:
        """Hand over a result that nobody will hear, after the verdict in its place; never waits.

        Returns:
            ``False`` when too many are not yet durable (the disk stands): it was not taken.
        """
        with self._changed:
            taken = self._pending.offer_late(late)
            self._changed.notify_all()
        return taken

    def note(self, note: Note) -> bool:
        """Hand over a note; never waits. ``flush`` tells when it is durable.

        Returns:
            ``False`` when too many are not yet durable (the disk stands): it was not taken.

        Raises:
            InputDataError: longer than `NOTE_LIMIT_BYTES`.
        """
        if len(note.body) > NOTE_LIMIT_BYTES:
            raise InputDataError(
                f"a note of {len(note.body)} bytes; the journal takes {NOTE_LIMIT_BYTES}"
            )
        with self._changed:
            taken = self._pending.offer_note(note)
            self._changed.notify_all()
        return taken

    def keep(self, note: Note, timeout_s: float) -> bool:
        """As `note`, and wait until it is durable, whatever else is handed over meanwhile.

        Returns:
            ``False``: it was not taken, or is not durable after ``timeout_s`` and still waits.
        """
        with self._changed:
            if not self.note(note):
                return False
            number, deadline_s = self._pending.notes_taken, time.monotonic() + timeout_s
            while self._pending.notes_kept < number:
                self._worker.check()
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    return False
                self._changed.wait(min(left_s, 0.2))
        return True

    def is_waiting(self, seq: int) -> bool:
        """Whether it is durable, and no broker has acknowledged it."""
        return self._is_shown(seq)

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was handed over is durable; ``False`` after ``timeout_s``."""
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while self._pending.is_busy:
                self._worker.check()
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    return False
                self._changed.wait(min(left_s, 0.2))
        return True

    def unsent(self, after_seq: int, limit: int, *, before_seq: int | None = None) -> list[Row]:
        """The first durable rows beyond ``after_seq`` (and below ``before_seq``), in order.

        A row shows here only once the commit has been counted: the file shows it a moment earlier,
        and a broker on the same machine acknowledged it within that moment, before it had a time
        to be measured from.

        Raises:
            StorageError: the file cannot be read.
        """
        return self._shelf.unsent(after_seq, limit, before_seq=before_seq, is_shown=self._is_shown)

    def _is_shown(self, seq: int) -> bool:
        # Acknowledged rows stay in the file until they share a commit.
        with self._changed:
            return seq <= self._given and seq not in self._acknowledged

    def live_from(self, now_unix_ms: int) -> int:
        """The first number from which on all that waits expires after ``now_unix_ms``.

        1 where nothing that waits has expired, ``given + 1`` where the newest has. What waits below
        is history.

        Raises:
            StorageError: the file cannot be read.
        """
        return self._shelf.live_from(now_unix_ms, given=self._given)

    def acknowledge(self, seqs: Sequence[int]) -> None:
        """The broker has them: forget them, soon. An acknowledgement that is lost is harmless."""
        now_ns = time.monotonic_ns()
        with self._changed:
            for seq in seqs:
                if not 0 < seq <= self._given or not self._acknowledged.add(seq, seq):
                    continue
                self._pending.acknowledge(seq)
                since_ns = self._times.of(seq)
                if since_ns is not None:
                    self.delivery.add((now_ns - since_ns) / 1000)
            self._changed.notify_all()

    def recall(self, source: str, name: bytes) -> FrameKey | None:
        """The frame of that name that was inspected last, as far as durable."""
        return self._shelf.recall(source, name)

    def forget(
        self,
        source: str,
        is_gone: Callable[[bytes], bool],
        older_than_s: float,
        stopping: threading.Event | None = None,
    ) -> int:
        """Drop marks older than that whose frames are gone; returns how many.

        ``is_gone`` may take long: nobody waits for it but the caller.
        """
        before_unix_s = int(time.time() - older_than_s)
        return self._shelf.forget(source, is_gone, before_unix_s, stopping or threading.Event())

    def check(self) -> None:
        """Raise what ended one of the outbox's threads, if something did."""
        self._worker.check()
        self._folder.check()

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what is left, if the disk lets us; what is not durable was never given."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._worker.join(timeout_s) and self._folder.close(timeout_s):
            self._shelf.close()
            self._writer.close()
        self._lock_file.release()

    def _open_store(self, undo: contextlib.ExitStack) -> Store:
        store = Store(self._settings.path, max_mib=self._settings.max_mib)
        undo.callback(store.close)
        return store

    def _start_from(self, counters: Counters) -> None:
        self._given = counters.given
        self._acknowledged = Ranges(counters.acknowledged)

    def _write_forever(self) -> None:
        backoff = Backoff(_RETRY_FIRST_S, _RETRY_LAST_S)
        while True:
            group = self._take()
            if self._attempt(group):
                backoff.succeeded()
                with self._changed:
                    if self._closing and self._pending.is_empty:
                        return
                continue
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closing or self._pending.makes_room, timeout=backoff.pause_s()
                )
                if self._closing:
                    return

    def _take(self) -> Group:
        with self._changed:
            self._changed.wait_for(
                lambda: self._closing or self._pending.is_urgent, timeout=_LOOK_EVERY_S
            )
            group = self._pending.take(everything=self._closing)
            self._changed.notify_all()
        return group

    def _attempt(self, group: Group) -> bool:
        """Write the group and look after the file; ``False`` when it is no use to go on at once."""
        was, fault, made_room = (self._fault, self.pressure), None, False
        try:
            if group:
                self._commit(group)
        except StorageError as error:
            if len(group.drafts) > 1:
                return True  # a smaller group may fit
            fault = error
        try:
            made_room = self._keeper.tend(
                time.monotonic(), len(group.drafts) if fault is None else 0
            )
        except StorageError as error:
            fault = fault or error
        with self._changed:
            self._fault = fault
            self._changed.notify_all()
        if group or was != (fault, self.pressure):
            self._on_commit()
        return fault is None or made_room

    def _commit(self, group: Group) -> None:
        try:
            stamps = self._writer.commit(
                group.drafts, group.acknowledged, lates=group.lates, notes=group.notes
            )
        except BaseException as error:
            acknowledged = isinstance(error, StorageError) and self._acknowledge_alone(group)
            with self._changed:
                self._pending.put_back(group, acknowledged=acknowledged)
                self._changed.notify_all()
            raise
        self._count(group, stamps)
        self._folder.wrote(sum(map(_size_of, group.drafts)), self._writer)

    def _acknowledge_alone(self, group: Group) -> bool:
        # Deleting needs no room of its own and makes some: without it a full outbox stays full.
        try:
            self._writer.commit([], group.acknowledged)
        except StorageError:
            return False
        return True

    def _count(self, group: Group, stamps: Sequence[Stamp]) -> None:
        now_ns = time.monotonic_ns()
        self._shelf.learn(
            (stamp.seq, draft.expires_unix_ms)
            for stamp, draft in zip(stamps, group.drafts, strict=True)
        )
        for since_ns in group.since_ns:
            self.handover.add((now_ns - since_ns) / 1000)
        with self._changed:
            self._times.keep(stamps, now_ns)
            self._given += len(stamps)
            self._moved_s = time.monotonic()
            self._pending.done()
            self._changed.notify_all()


def _size_of(draft: Draft) -> int:
    # Once in the log with the payload; what findings add shows in the next round.
    return len(draft.entry) + _PAYLOAD_BYTES
