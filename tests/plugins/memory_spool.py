"""An outbox in memory, for tests of the publisher alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from lineside.errors import StorageError
from lineside.mqtt import encode_verdict, message_of
from lineside.outbox import Row
from lineside.verdict import Evaluation, Reason, Verdict

NEVER = 2**53


_VERDICT = Verdict(
    evaluation=Evaluation.OK,
    reason=Reason.WITHIN_LIMIT,
    score=0.5,
    limit=1.0,
    unit="1",
    model="0123456789abcdef",
)


def verdict_payload(seq: int, *, taken_unix_ms: int = 0, expires_unix_ms: int = NEVER) -> bytes:
    """A verdict as it stands in an outbox."""
    message = message_of(
        _VERDICT,
        seq=seq,
        job_id=f"{'ab' * 4}{seq:010x}",
        part_id=f"part-{seq}",
        taken_unix_ns=taken_unix_ms * 1_000_000,
        expires_unix_ms=expires_unix_ms,
    )
    return encode_verdict(message)


class MemorySpool:
    """Thread-safe.

    Attributes:
        acknowledged: numbers in the order in which they were.
        reads: how often rows were asked for.
        broken: reading raises, as of a damaged disk.
    """

    def __init__(self) -> None:
        self.given = 0
        self.acknowledged: list[int] = []
        self.reads = 0
        self.broken = False
        self._lock = threading.Lock()
        self._rows: dict[int, Row] = {}

    def give(
        self, count: int, *, expires_unix_ms: int = NEVER, findings: bytes = b"", taken: int = 0
    ) -> None:
        """Make verdicts durable."""
        with self._lock:
            for seq in range(self.given + 1, self.given + count + 1):
                self._rows[seq] = Row(
                    seq=seq,
                    payload=verdict_payload(seq, taken_unix_ms=taken),
                    expires_unix_ms=expires_unix_ms,
                    findings=findings,
                )
            self.given += count

    @property
    def waiting(self) -> list[int]:
        """Numbers without acknowledgement."""
        with self._lock:
            return sorted(self._rows)

    def unsent(self, after_seq: int, limit: int, *, before_seq: int | None = None) -> Sequence[Row]:
        with self._lock:
            self.reads += 1
            if self.broken:
                raise StorageError("torn")
            end = self.given + 1 if before_seq is None else before_seq
            seqs = [seq for seq in sorted(self._rows) if after_seq < seq < end]
            return [self._rows[seq] for seq in seqs[:limit]]

    def live_from(self, now_unix_ms: int) -> int:
        with self._lock:
            if self.broken:
                raise StorageError("torn")
            expired = [seq for seq, row in self._rows.items() if row.expires_unix_ms <= now_unix_ms]
            return max(expired, default=0) + 1

    def acknowledge(self, seqs: Sequence[int]) -> None:
        with self._lock:
            for seq in seqs:
                del self._rows[seq]
            self.acknowledged.extend(seqs)
