"""Verdicts that go out once more, on history, because somebody asked for them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RepeatedRow:
    """A `WaitingRow` that no outbox keeps.

    Attributes:
        seq: below zero, so that its acknowledgement is never taken for one of a verdict.
    """

    seq: int
    payload: bytes
    expires_unix_ms: int = 0
    findings: bytes = b""


@dataclass(frozen=True, kw_only=True)
class _Request:
    rows: tuple[RepeatedRow, ...]
    then: Callable[[], None]


class Repeats:
    """One request at a time; it outlives connections. `offer` from any thread, the rest from one.

    What a broker has not acknowledged when its connection breaks is sent again on the next one, as
    all verdicts are.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._request: _Request | None = None
        self._left: deque[RepeatedRow] = deque()
        self._owed: set[int] = set()

    @property
    def waits(self) -> bool:
        """Whether some are to be sent."""
        return bool(self._left)

    @property
    def is_busy(self) -> bool:
        """Whether some are to be sent, or not yet acknowledged."""
        return self._request is not None

    def offer(self, payloads: Sequence[bytes], then: Callable[[], None]) -> bool:
        """Have them sent; ``False``: another request is under way.

        Args:
            payloads: at least one.
            then: called in the publisher's thread once the broker has all of them.
        """
        rows = tuple(
            RepeatedRow(seq=-number, payload=payload) for number, payload in enumerate(payloads, 1)
        )
        with self._lock:
            if self._request is not None:
                return False
            self._request = _Request(rows=rows, then=then)
            self._owed = {row.seq for row in rows}
            self._left = deque(rows)
        return True

    def restart(self) -> None:
        """A new connection: what was not acknowledged is sent again."""
        with self._lock:
            rows = () if self._request is None else self._request.rows
            self._left = deque(row for row in rows if row.seq in self._owed)

    def next(self) -> RepeatedRow | None:
        """The next one."""
        with self._lock:
            return self._left.popleft() if self._left else None

    def settle(self, seqs: Sequence[int]) -> None:
        """The broker has these; numbers of verdicts among them are passed over."""
        with self._lock:
            self._owed.difference_update(seqs)
            if self._request is None or self._owed:
                return
            request, self._request = self._request, None
        request.then()
