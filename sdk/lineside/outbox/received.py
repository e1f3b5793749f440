"""What a receiver heard against what was given: all of it, in order, nothing twice and different.

The receiver's lines come from elsewhere (``lineside listen --json``); this knows no wire format.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from lineside.outbox.ranges import Ranges
from lineside.outbox.reading import Journal
from lineside.outbox.store import job_id_of

DifferenceKind = Literal["missing", "changed", "order", "stranger"]
_LISTED: Final = 1000


@dataclass(frozen=True, kw_only=True)
class Heard:
    """One verdict as a receiver got it.

    Attributes:
        topic: where; order counts within one.
        payload: byte for byte.
    """

    topic: str
    seq: int
    job_id: str
    payload: bytes


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a receiver heard otherwise than it was given.

    Attributes:
        kind: ``missing`` acknowledged by the broker and never received; ``changed`` another
            content than was given, or than at the first time; ``order`` after a higher number of
            its topic; ``stranger`` an id of this outbox that it never gave.
    """

    kind: DifferenceKind
    first: int
    last: int
    detail: str = ""


class ReceivedReport(msgspec.Struct, kw_only=True):
    """How what was received compares; ``difference_count`` 0 means that nothing was lost.

    Attributes:
        lines: verdicts in the receiver's file.
        received: of this outbox, each id once.
        repeated: of this outbox, deliveries after the first.
        of_others: of other outboxes; not compared.
        still_waiting: given, not received, and not acknowledged either: they will come.
        unproven: received, and older than the journal: content compared among themselves only.
        differences: the first thousand.
    """

    lines: int = 0
    received: int = 0
    repeated: int = 0
    of_others: int = 0
    still_waiting: int = 0
    unproven: int = 0
    difference_count: int = 0
    differences: list[Difference] = []

    def add(self, kind: DifferenceKind, first: int, last: int, detail: str = "") -> None:
        """Note a difference."""
        self.difference_count += 1
        if len(self.differences) < _LISTED:
            self.differences.append(Difference(kind=kind, first=first, last=last, detail=detail))


def compare_received(
    journal: Journal, heard: Iterable[Heard], *, since_seq: int = 1
) -> ReceivedReport:
    """Hold a receiver's verdicts against the outbox that gave them.

    Args:
        since_seq: lower numbers are not missed.

    Raises:
        StorageError: the file cannot be read.
    """
    report, floor = ReceivedReport(), _Floor()
    with journal.snapshot():
        standing = journal.standing()
        for one in heard:
            report.lines += 1
            if one.job_id[:8] != standing.origin:
                report.of_others += 1
            elif one.job_id != job_id_of(standing.origin, one.seq) or one.seq > standing.given:
                report.add("stranger", one.seq, one.seq, f"id {one.job_id}")
            else:
                floor.take(one, journal, report)
        report.received = floor.received.total
        acknowledged = Ranges(standing.acknowledged)
        for first, last in floor.received.gaps(since_seq, standing.given):
            lost = list(_shared(acknowledged, first, last))
            report.still_waiting += last - first + 1 - sum(end - at + 1 for at, end in lost)
            for lost_first, lost_last in lost:
                report.add("missing", lost_first, lost_last)
    return report


def _shared(ranges: Ranges, first: int, last: int) -> Iterable[tuple[int, int]]:
    for held_first, held_last in ranges:
        if held_first <= last and held_last >= first:
            yield max(first, held_first), min(last, held_last)


class _Floor:
    """Remembers eight bytes of each content, and the last number of each topic."""

    def __init__(self) -> None:
        self.received = Ranges()
        self._contents: dict[int, bytes] = {}
        self._last: dict[str, int] = {}

    def take(self, one: Heard, journal: Journal, report: ReceivedReport) -> None:
        digest = hashlib.sha256(one.payload).digest()
        if not self.received.add(one.seq, one.seq):
            report.repeated += 1
            if self._contents[one.seq] != digest[:8]:
                report.add("changed", one.seq, one.seq, "than at the first time")
            return
        self._contents[one.seq] = digest[:8]
        given = journal.payload_sha256(one.seq)
        if given is None:
            report.unproven += 1
        elif given != digest:
            report.add("changed", one.seq, one.seq, "than the journal has the hash of")
        before = self._last.get(one.topic, 0)
        if one.seq < before:
            report.add("order", one.seq, one.seq, f"after {before} on {one.topic}")
        self._last[one.topic] = max(before, one.seq)
