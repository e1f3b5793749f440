"""What is sent next: live verdicts first, what the line has given up on beside them.

Two cursors run through the outbox. The live one begins where, at the time of connecting, the first
verdict stood behind which none had expired, and leaves out what expires while it waits. The other
one takes up everything that lies before or was left out, in order.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from lineside.errors import StorageError
from lineside.mqtt.expiry import ExpiryClock

# Rows read at once: bounds memory, and makes the query's cost small beside that of sending.
READ_AHEAD = 128
# An outbox leaves out what was acknowledged and not yet deleted, after it has counted the batch: an
# empty batch is no proof that nothing follows, so it is asked for again, this much later.
_AGAIN_S = 0.25


class WaitingRow(Protocol):
    """A verdict as the outbox keeps it."""

    @property
    def seq(self) -> int: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def expires_unix_ms(self) -> int: ...
    @property
    def findings(self) -> bytes: ...


class Spool(Protocol):
    """What the publisher needs of an outbox; it may raise ``StorageError`` and is asked again.

    ``given`` is the last durable number. ``unsent`` gives the first waiting rows beyond
    ``after_seq``, in order, those from ``before_seq`` on left out. ``live_from`` is the first
    number from which on no waiting row has expired.
    """

    @property
    def given(self) -> int: ...
    def unsent(
        self, after_seq: int, limit: int, *, before_seq: int | None = None
    ) -> Sequence[WaitingRow]: ...
    def live_from(self, now_unix_ms: int) -> int: ...
    def acknowledge(self, seqs: Sequence[int]) -> None: ...


class _Batches:
    """Rows of the outbox from a cursor on, read ahead, without those that are on their way."""

    def __init__(self, spool: Spool, is_in_flight: Callable[[int], bool]) -> None:
        self.rows: deque[WaitingRow] = deque()
        self._spool = spool
        self._is_in_flight = is_in_flight
        self.begin(0)

    def begin(self, seq: int) -> None:
        """Go on behind this number."""
        self.rows.clear()
        self._seq = seq
        self._dry_to_seq = 0
        self._again_s = 0.0

    def waits(self, to_seq: int) -> bool:
        """Whether something may be left up to this number."""
        return bool(self.rows) or max(self._seq, self._dry_to_seq) < to_seq

    def read(self, to_seq: int) -> None:
        """Read the next rows up to this number, if none are there."""
        if self.rows or self._seq >= to_seq:
            return
        if self._dry_to_seq >= to_seq and time.monotonic() < self._again_s:
            return
        found = self._spool.unsent(self._seq, READ_AHEAD, before_seq=to_seq + 1)
        # Judged now: what is on its way now may be acknowledged when its turn has come.
        self.rows.extend(row for row in found if not self._is_in_flight(row.seq))
        if found:
            self._seq = found[-1].seq
        elif self._dry_to_seq >= to_seq:
            self._seq = to_seq
        else:
            self._dry_to_seq, self._again_s = to_seq, time.monotonic() + _AGAIN_S


class Lanes:
    """The rows of one connection; `restart` begins anew with the next one.

    Args:
        spool: the outbox.
        is_in_flight: whether a row is on its way just now.

    Attributes:
        passed_over: the last look for a live row found a batch of expired ones: look again at once.
    """

    def __init__(
        self, spool: Spool, clock: ExpiryClock, *, is_in_flight: Callable[[int], bool]
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._live = _Batches(spool, is_in_flight)
        self._history = _Batches(spool, is_in_flight)
        self._history_to_seq = 0
        self._started = False
        self.passed_over = False

    def restart(self) -> None:
        """A new connection: what was not acknowledged is looked at again."""
        self._live.begin(0)
        self._history.begin(0)
        self._started = self.passed_over = False

    @property
    def history_waits(self) -> bool:
        """Whether there is something that the line has given up on."""
        return self._history.waits(self._history_to_seq)

    @property
    def live_waits(self) -> bool:
        """Whether rows lie beyond the live cursor; some of them may have expired."""
        return not self._started or self._live.waits(self._spool.given)

    def next_live(self) -> WaitingRow | None:
        """The next row for the line; ``None``: none now, or a batch of expired ones was passed.

        A row that this leaves out has expired and is history.
        """
        with contextlib.suppress(StorageError):  # the outbox knows, the next tick asks again
            self._start()
            self._live.read(self._spool.given)
        self.passed_over = bool(self._live.rows)
        while self._live.rows:
            row = self._live.rows.popleft()
            if self._clock.is_live(row.seq, row.expires_unix_ms, row.payload):
                self.passed_over = False
                return row
            self._history_to_seq = max(self._history_to_seq, row.seq)
        return None

    def next_history(self) -> WaitingRow | None:
        """The next row that the line has given up on."""
        with contextlib.suppress(StorageError):
            self._history.read(self._history_to_seq)
        return self._history.rows.popleft() if self._history.rows else None

    def _start(self) -> None:
        if not self._started:
            first = self._spool.live_from(self._clock.earliest_unix_ms())
            self._history_to_seq = max(first - 1, 0)
            self._live.begin(self._history_to_seq)
            self._started = True
