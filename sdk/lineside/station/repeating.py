"""Verdicts rebuilt from the journal, byte for byte as they were published, to be sent once more."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lineside.errors import InputDataError
from lineside.mqtt.payload import encode_verdict, message_of
from lineside.outbox import JournalEntry
from lineside.outbox.entry import decode_entry
from lineside.outbox.reading import Journal, StoredEntry, open_journal
from lineside.outbox.store import job_id_of
from lineside.verdict import Evaluation, Reason, Verdict


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """What of a range can be sent.

    Attributes:
        payloads: as they were published, in order.
        waiting: these no broker has acknowledged: they come by themselves.
        left_out: not in the journal any more, or not as they were published.
    """

    payloads: tuple[bytes, ...]
    waiting: int
    left_out: int

    def __str__(self) -> str:
        return f"{len(self.payloads)} sent, {self.waiting} wait, {self.left_out} left out"


def rebuild_range(
    outbox: Path, *, first: int, last: int, expiry_ms: int, is_waiting: Callable[[int], bool]
) -> Rebuilt:
    """Rebuild the verdicts ``first`` to ``last``.

    Args:
        outbox: the file; the station may write meanwhile.
        expiry_ms: how long after its turn began a verdict may be acted on; where that was another
            when it was given, it is left out.
        is_waiting: whether no broker has acknowledged it.

    Raises:
        StorageError: the file cannot be read.
    """
    payloads: list[bytes] = []
    waiting = sum(is_waiting(seq) for seq in range(first, last + 1))
    with open_journal(outbox) as journal:
        origin = journal.standing().origin
        for row in _rows(journal, first, last):
            payload = None if is_waiting(row.seq) else _rebuild(row, origin, expiry_ms)
            if payload is not None:
                payloads.append(payload)
    left_out = max(0, last - first + 1 - waiting - len(payloads))
    return Rebuilt(payloads=tuple(payloads), waiting=waiting, left_out=left_out)


def _rows(journal: Journal, first: int, last: int) -> Iterator[StoredEntry]:
    for row in journal.rows(after_seq=first - 1):
        if row.seq > last:
            return
        yield row


def _rebuild(row: StoredEntry, origin: str, expiry_ms: int) -> bytes | None:
    """``None``: it does not come out as it was published."""
    try:
        entry = decode_entry(row.entry, source=f"seq {row.seq}")
        payload = _payload_of(row.seq, origin, entry, expiry_ms)
    except (InputDataError, ValueError):  # of another version: words and numbers we do not know
        return None
    return payload if hashlib.sha256(payload).digest() == row.payload_sha256 else None


def _payload_of(seq: int, origin: str, entry: JournalEntry, expiry_ms: int) -> bytes:
    verdict = Verdict(
        evaluation=Evaluation(entry.evaluation),
        reason=Reason(entry.reason),
        score=entry.score,
        limit=entry.limit,
        unit=entry.unit,
        model=entry.bundle[:16],
    )
    return encode_verdict(
        message_of(
            verdict,
            seq=seq,
            job_id=job_id_of(origin, seq),
            part_id=entry.part,
            taken_unix_ns=entry.taken_unix_ns,
            expires_unix_ms=entry.taken_unix_ns // 1_000_000 + expiry_ms,
        )
    )
