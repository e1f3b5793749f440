"""Proves of an outbox that sequence, journal and acknowledgements match, and lists what does not.

Three witnesses are held against each other: the counter of verdicts given, the rows that wait
together with the ranges that were acknowledged, and the journal. They lie in different pages and
are written in one transaction, so that what one of them lost the others still know.
"""

from __future__ import annotations

import hashlib
from array import array
from typing import Final, Literal

import msgspec
import numpy as np

from lineside.errors import InputDataError
from lineside.outbox.entry import JournalEntry, decode_entry
from lineside.outbox.ranges import Ranges
from lineside.outbox.reading import Journal, Standing, StoredVerdict
from lineside.outbox.store import job_id_of
from lineside.verdict import Reason

GapKind = Literal[
    "lost", "twice", "beyond", "unjournalled", "payload", "id", "entry", "turn", "late"
]
# Listed; what comes beyond is only counted.
GAPS_LISTED: Final = 1000


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that does not match.

    Attributes:
        kind: ``lost`` given, and neither waiting nor acknowledged; ``twice`` waiting and
            acknowledged; ``beyond`` the last number given; ``unjournalled`` no row in the journal;
            ``payload`` not what the journal has the hash of; ``id`` the payload names another
            number or id; ``entry`` not readable, or another evaluation than the payload's;
            ``turn`` two verdicts of one turn; ``late`` a late result without a verdict of reason
            ``deadline``.
        first, last: numbers; 0 where it has none.
    """

    kind: GapKind
    first: int = 0
    last: int = 0
    detail: str = ""


class AuditReport(msgspec.Struct, kw_only=True):
    """What an audit found; ``gap_count`` 0 means that all matches.

    Attributes:
        origin: the first eight digits of the outbox's ids.
        given: verdicts since it was made.
        waiting, acknowledged: of these.
        journal_from: the journal keeps this number and above; below it nothing is claimed.
        journalled: rows of the journal that were looked at.
        late, notes: rows beside the verdicts.
        since_seq: what was looked at: this number and above.
        gaps: the first `GAPS_LISTED`.
    """

    path: str
    origin: str
    given: int
    journal_from: int
    since_seq: int = 1
    waiting: int = 0
    acknowledged: int = 0
    journalled: int = 0
    late: int = 0
    notes: int = 0
    gap_count: int = 0
    gaps: list[Gap] = []

    def add(self, gap: Gap) -> None:
        """Note what does not match, unless it lies before ``since_seq``."""
        if 0 < gap.last < self.since_seq:
            return
        self.gap_count += 1
        if len(self.gaps) < GAPS_LISTED:
            self.gaps.append(gap)

    def add_one(self, kind: GapKind, seq: int, detail: str = "") -> None:
        """Note what does not match of one number."""
        self.add(Gap(kind=kind, first=seq, last=seq, detail=detail))


class _Payload(msgspec.Struct):
    """What an audit reads of a verdict as it is published."""

    seq: int
    id: str
    ev: int


def audit(journal: Journal, *, since_seq: int = 1) -> AuditReport:
    """Look at the whole file, as it is at one moment.

    Args:
        since_seq: say nothing of what lies before this number.

    Raises:
        StorageError: pages are torn.
    """
    with journal.snapshot():
        journal.check()
        standing = journal.standing()
        report = AuditReport(
            path=str(journal.path),
            origin=standing.origin,
            given=standing.given,
            journal_from=standing.journal_from,
            since_seq=since_seq,
        )
        if not standing.origin:
            report.add(Gap(kind="lost", detail="the row of the counters is gone"))
        _match_sequence(journal, standing, report)
        _match_late(journal, _match_journal(journal, standing, report), report)
        report.notes = sum(1 for _ in journal.notes())
    return report


def first_seq_since(journal: Journal, since_unix_ms: int) -> int:
    """The first number that became durable then or later; one past the last where none did."""
    for row in journal.rows():
        if row.at_unix_ms >= since_unix_ms:
            return row.seq
    return journal.standing().given + 1


def _match_sequence(journal: Journal, standing: Standing, report: AuditReport) -> None:
    """Waiting and acknowledged together are 1 to given, each number once."""
    known = Ranges(standing.acknowledged)
    report.acknowledged = known.total
    for verdict in journal.waiting():
        report.waiting += 1
        if not known.add(verdict.seq, verdict.seq):
            report.add_one("twice", verdict.seq)
        _match_payload(standing, verdict, report)
    for first, last in known.gaps(1, standing.given):
        report.add(Gap(kind="lost", first=first, last=last))
    for first, last in known:
        if last > standing.given:
            report.add(Gap(kind="beyond", first=max(first, standing.given + 1), last=last))


def _match_payload(standing: Standing, verdict: StoredVerdict, report: AuditReport) -> None:
    """What is to be sent is what the journal says, under its own number and id."""
    held = verdict.payload_sha256
    if held is not None and hashlib.sha256(verdict.payload).digest() != held:
        report.add_one("payload", verdict.seq, "the journal has another one's hash")
        return
    try:
        said = msgspec.json.decode(verdict.payload, type=_Payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        report.add_one("payload", verdict.seq, f"no verdict: {error}")
        return
    if (said.seq, said.id) != (verdict.seq, job_id_of(standing.origin, verdict.seq)):
        report.add_one("id", verdict.seq, f"the payload says seq {said.seq}, id {said.id}")
    entry = _decode(verdict.entry)
    if entry is not None and entry.evaluation != said.ev:
        report.add_one(
            "entry", verdict.seq, f"evaluation {entry.evaluation}, the payload says {said.ev}"
        )


class _Turns:
    """Every turn of the journal, in 16 bytes each."""

    def __init__(self) -> None:
        self.past_deadline: set[int] = set()
        self._turns = array("Q")
        self._seqs = array("Q")

    def add(self, turn: int, seq: int, *, past_deadline: bool) -> None:
        self._turns.append(turn)
        self._seqs.append(seq)
        if past_deadline:
            self.past_deadline.add(turn)

    def repeated(self) -> list[tuple[int, int]]:
        """(seq, turn) of each verdict whose turn had one before."""
        turns, seqs = np.asarray(self._turns), np.asarray(self._seqs)
        order = np.argsort(turns, kind="stable")
        again = np.flatnonzero(turns[order][1:] == turns[order][:-1]) + 1
        return sorted((int(seqs[order[at]]), int(turns[order[at]])) for at in again)


def _match_journal(journal: Journal, standing: Standing, report: AuditReport) -> _Turns:
    """From its stated beginning on, each number has a readable row, each turn one verdict."""
    known, turns = Ranges(), _Turns()
    for row in journal.rows():
        report.journalled += 1
        known.add(row.seq, row.seq)
        if row.entry:
            entry = _decode(row.entry)
            turn = None if entry is None else _turn_number(entry.turn)
            if entry is None or turn is None:
                report.add_one("entry", row.seq, "cannot be read")
            else:
                past_deadline = entry.reason == Reason.DEADLINE.value
                turns.add(turn, row.seq, past_deadline=past_deadline)
    for first, last in known.gaps(standing.journal_from, standing.given):
        report.add(Gap(kind="unjournalled", first=first, last=last))
    for first, last in known:
        if last > standing.given:
            report.add(Gap(kind="beyond", first=max(first, standing.given + 1), last=last))
    for seq, number in turns.repeated():
        report.add_one("turn", seq, f"turn {number:016x} has a verdict already")
    return turns


def _match_late(journal: Journal, turns: _Turns, report: AuditReport) -> None:
    """Nobody heard a late result: its part heard ``deadline``."""
    for turn, data in journal.late_rows():
        report.late += 1
        entry = _decode(data)
        if entry is None or entry.turn != turn:
            report.add(Gap(kind="entry", detail=f"late result of turn {turn} cannot be read"))
        elif _turn_number(turn) not in turns.past_deadline:
            detail = f"turn {turn} has no verdict of reason {Reason.DEADLINE.value}"
            report.add(Gap(kind="late", detail=detail))


def _decode(data: bytes) -> JournalEntry | None:
    try:
        return decode_entry(data, source="") if data else None
    except InputDataError:
        return None


def _turn_number(turn: str) -> int | None:
    try:
        return int(turn, 16) if len(turn) == 16 else None
    except ValueError:
        return None
