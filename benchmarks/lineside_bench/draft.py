"""A verdict as a station hands it to its outbox, without a camera and a model."""

from __future__ import annotations

import time
from typing import Final

from lineside.mqtt import encode_verdict, message_of
from lineside.outbox import Draft, JournalEntry, Stamp, encode_entry
from lineside.verdict import Verdict

_BUNDLE: Final = "0123456789abcdef" * 4  # whose model a verdict names by its first 16
_FRAME: Final = "fedcba9876543210" * 4


def draft_of(verdict: Verdict, *, turn: int, live_ms: int) -> Draft:
    """The message that goes out, and the journal's entry.

    Args:
        verdict: with its part's name, and limits of 0.5 and 0.6.
        turn: its number in the journal.
        live_ms: it expires so long after now.
    """
    now_ns = time.time_ns()
    expires_unix_ms = now_ns // 1_000_000 + live_ms

    def encode(stamp: Stamp) -> bytes:
        message = message_of(
            verdict,
            seq=stamp.seq,
            job_id=stamp.job_id,
            part_id=verdict.part_id,
            taken_unix_ns=now_ns,
            expires_unix_ms=expires_unix_ms,
        )
        return encode_verdict(message)

    entry = encode_entry(_entry_of(verdict, turn=turn, taken_unix_ns=now_ns))
    return Draft(encode=encode, expires_unix_ms=expires_unix_ms, entry=entry)


def _entry_of(verdict: Verdict, *, turn: int, taken_unix_ns: int) -> JournalEntry:
    return JournalEntry(
        turn=f"{turn:016x}",
        part=verdict.part_id,
        evaluation=int(verdict.evaluation),
        reason=verdict.reason.value,
        score=verdict.score,
        limit=verdict.limit,
        unit=verdict.unit,
        product=verdict.product,
        bundle=_BUNDLE,
        engine=verdict.engine,
        rule="sealed",
        ok_limit=0.5,
        not_ok_limit=0.6,
        taken_unix_ns=taken_unix_ns,
        latency_us=4180.0,
        frame_source="frames",
        frame_sha256=_FRAME,
    )
