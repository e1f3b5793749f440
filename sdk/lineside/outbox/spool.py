"""The outbox as the station sees it: hand over quickly, durable in groups, never lose.

One thread of its own writes; while one group is on its way to the disk the next one gathers, so a
verdict waits for at most two commits and nothing is delayed on purpose.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lineside.errors import StorageError
from lineside.framekey import FrameKey
from lineside.latency import LatencyHistogram
from lineside.outbox.lock import FileLock
from lineside.outbox.records import Draft, Late, Row
from lineside.outbox.settings import OutboxSettings
from lineside.outbox.store import Store
from lineside.worker import Worker

# Verdicts handed over and not yet durable; then `put` waits. At 256 bytes each, 16 KiB.
PENDING_LIMIT = 64
# Acknowledgements may wait this long for company: a row that comes back after a crash is only sent
# again, and every commit wears the flash.
ACKNOWLEDGE_DELAY_S = 0.05
_RETRY_FIRST_S = 0.1
_RETRY_LAST_S = 5.0
_COMMIT_TIMES_KEPT = 4096


@dataclass(frozen=True, kw_only=True)
class _Pending:
    draft: Draft
    since_ns: int


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
            self._writer = self._open_store()
            undo.callback(self._writer.close)
            self._writer.check()
            self._given, self._acknowledged = self._writer.counters()
            self._reader = self._open_store()
            undo.pop_all()
        self._reader_lock = threading.Lock()
        self._changed = threading.Condition()
        self._pending: deque[_Pending] = deque()
        # Acknowledged and not yet deleted: an ordered set.
        self._acks: dict[int, None] = {}
        self._committed_ns: dict[int, int] = {}
        self._on_commit: Callable[[], None] = lambda: None
        self._fault: StorageError | None = None
        self._read_fault: StorageError | None = None
        self._writing = False
        self._closing = False
        self._worker = Worker(self._write_forever, name="lineside-outbox")
        self._worker.start()

    @property
    def given(self) -> int:
        """Verdicts that were ever made durable here; also the last sequence number."""
        return self._given

    @property
    def waiting(self) -> int:
        """Durable verdicts that no broker has acknowledged."""
        # Together: a commit and its acknowledgement between two reads would make it less than 0.
        with self._changed:
            return self._given - self._acknowledged

    @property
    def acknowledged(self) -> int:
        """Verdicts that a broker has acknowledged, ever."""
        return self._acknowledged

    @property
    def fault(self) -> StorageError | None:
        """Why nothing can be written or read just now; ``None`` when all is well."""
        return self._fault or self._read_fault

    def when_committed(self, call: Callable[[], None]) -> None:
        """Have ``call`` called in the outbox's thread after each commit and on each new fault."""
        self._on_commit = call

    def put(self, draft: Draft, *, stopping: threading.Event) -> bool:
        """Hand over; waits while too many are not yet durable (a slow or full disk).

        Returns:
            ``False`` when ``stopping`` was set before there was room: the verdict was not taken.
        """
        pending = _Pending(draft=draft, since_ns=time.monotonic_ns())
        with self._changed:
            while len(self._pending) >= PENDING_LIMIT:
                self._worker.check()
                if stopping.is_set():
                    return False
                self._changed.wait(0.2)
            self._pending.append(pending)
            self._changed.notify_all()
        return True

    def put_late(self, late: Late) -> None:
        """A result after its deadline: its place in the file comes with the journal."""

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was handed over is durable; ``False`` after ``timeout_s``."""
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while self._pending or self._writing:
                self._worker.check()
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    return False
                self._changed.wait(min(left_s, 0.2))
        return True

    def unsent(self, after_seq: int, limit: int) -> list[Row]:
        """The first durable rows beyond ``after_seq``, in order.

        A row shows here only once the commit has been counted: the file shows it a moment earlier,
        and a broker on the same machine acknowledged it within that moment, before it had a time
        to be measured from.

        Raises:
            StorageError: the file cannot be read.
        """
        try:
            with self._reader_lock:
                rows = self._reader.unsent(after_seq, limit)
        except StorageError as fault:
            self._read_fault = fault
            raise
        self._read_fault = None
        with self._changed:
            return [row for row in rows if row.seq <= self._given and row.seq not in self._acks]

    def acknowledge(self, seqs: Sequence[int]) -> None:
        """The broker has them: forget them, soon. An acknowledgement that is lost is harmless."""
        now_ns = time.monotonic_ns()
        with self._changed:
            for seq in seqs:
                since_ns = self._committed_ns.pop(seq, None)
                if since_ns is not None:
                    self.delivery.add((now_ns - since_ns) / 1000)
            before = len(self._acks)
            self._acks.update(dict.fromkeys(seqs))
            self._acknowledged += len(self._acks) - before
            self._changed.notify_all()

    def recall(self, source: str, name: bytes) -> FrameKey | None:
        """The frame of that name that was inspected last, as far as durable."""
        with self._reader_lock:
            return self._reader.recall(source, name)

    def forget(self, source: str, is_gone: Callable[[bytes], bool], older_than_s: float) -> int:
        """Drop marks older than that whose frames are gone; returns how many."""
        with self._reader_lock:
            return self._reader.forget(source, is_gone, int(time.time() - older_than_s))

    def check(self) -> None:
        """Raise what ended the writing thread, if something did."""
        self._worker.check()

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what is left, if the disk lets us; what is not durable was never given."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._worker.join(timeout_s):
            self._reader.close()
            self._writer.close()
        self._lock_file.release()

    def _open_store(self) -> Store:
        return Store(self._settings.path, max_mib=self._settings.max_mib)

    def _write_forever(self) -> None:
        retry_s = _RETRY_FIRST_S
        while True:
            group, acks = self._take()
            if group or acks:
                try:
                    self._commit(group, acks)
                    retry_s = _RETRY_FIRST_S
                except StorageError as fault:
                    if not self._put_back(group, fault, retry_s):
                        return
                    retry_s = min(retry_s * 2, _RETRY_LAST_S)
            elif self._closing:
                return

    def _take(self) -> tuple[list[_Pending], list[int]]:
        with self._changed:
            while not (self._pending or self._acks or self._closing):
                self._changed.wait()
            if not self._pending and not self._closing:
                self._changed.wait(ACKNOWLEDGE_DELAY_S)
            group, acks = list(self._pending), list(self._acks)
            self._pending.clear()
            self._writing = bool(group)
            self._changed.notify_all()
        return group, acks

    def _commit(self, group: list[_Pending], acks: list[int]) -> None:
        try:
            stamps = self._writer.commit([pending.draft for pending in group], acks)
        except StorageError:
            # Deleting needs no room of its own and makes some: without it a full outbox stays full.
            if acks:
                self._writer.commit([], acks)
                self._deleted(acks)
            raise
        self._deleted(acks)
        now_ns = time.monotonic_ns()
        with self._changed:
            for pending, stamp in zip(group, stamps, strict=True):
                self.handover.add((now_ns - pending.since_ns) / 1000)
                self._committed_ns[stamp.seq] = now_ns
            while len(self._committed_ns) > _COMMIT_TIMES_KEPT:
                del self._committed_ns[next(iter(self._committed_ns))]
            self._given += len(stamps)
            self._writing = False
            self._fault = None
            self._changed.notify_all()
        self._on_commit()

    def _deleted(self, acks: list[int]) -> None:
        with self._changed:
            for seq in acks:
                self._acks.pop(seq, None)

    def _put_back(self, group: list[_Pending], fault: StorageError, retry_s: float) -> bool:
        """Keep what could not be written for the next attempt; ``False`` when we are closing."""
        with self._changed:
            self._pending.extendleft(reversed(group))
            self._writing = False
            self._fault = fault
            self._changed.notify_all()
        self._on_commit()
        with self._changed:
            if not self._closing:
                self._changed.wait_for(lambda: self._closing, timeout=retry_s)
            return not self._closing
