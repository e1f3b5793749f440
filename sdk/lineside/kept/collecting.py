"""Kept frames, the journal and the dispositions brought together. Nothing is written here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lineside.errors import FrameError, InputDataError
from lineside.kept.dispositions import NOTE_KIND, Disposition, Inspected, decode_disposition, settle
from lineside.kept.facts import NAME, KeptFacts, read_facts
from lineside.mqtt.payload import wire_part_id
from lineside.outbox.entry import JournalEntry


@dataclass(frozen=True, kw_only=True)
class JournalRow:
    """A verdict in the journal: its number, its id, and what made it."""

    seq: int
    job_id: str
    entry: JournalEntry


class Journal(Protocol):
    """What is asked of a station's journal; it may be read while the station writes.

    All of them may raise ``StorageError``.
    """

    def rows(self) -> Iterator[JournalRow]:
        """Verdicts, in order."""

    def late(self) -> Iterator[JournalEntry]:
        """Results that came after their part's deadline."""

    def notes(self, kind: str) -> Iterator[bytes]:
        """Bodies of the notes of a kind, in order."""


@dataclass(frozen=True, kw_only=True)
class CollectedFrame:
    """A kept frame with all that is known of it.

    Attributes:
        file: where it lies.
        row: the journal's; ``None`` where it has none of that turn.
        late: what the model said after the deadline; ``None`` where it said nothing.
        disposition: what a human said; ``None``: nobody did.
    """

    file: Path
    facts: KeptFacts
    row: JournalRow | None = None
    late: JournalEntry | None = None
    disposition: Disposition | None = None

    @property
    def part(self) -> str:
        """The whole part id, ``""`` where unknown."""
        return self.facts.part if self.row is None else self.row.entry.part


@dataclass(frozen=True, kw_only=True)
class Collection:
    """What lies in a ring, chosen.

    Attributes:
        frames: in order of time.
        damaged: files of ours that cannot be read, or whose facts do not hold.
        dispositions: how many the journal holds in all.
        unused: of them, those about parts of which no frame lies in the ring.
        strange: notes in their place that cannot be read.
        passed_over: frames that ``only`` or ``since`` left out.
    """

    frames: tuple[CollectedFrame, ...]
    damaged: tuple[Path, ...] = ()
    dispositions: int = 0
    unused: int = 0
    strange: int = 0
    passed_over: int = 0

    @property
    def without_row(self) -> int:
        """Frames that the journal does not know: a crash between both, or a row that was let go."""
        return sum(frame.row is None for frame in self.frames)

    @property
    def reviewed(self) -> int:
        """Frames of which a human spoke."""
        return sum(frame.disposition is not None for frame in self.frames)


def collect(
    ring: Path, journal: Journal, *, since_unix_ns: int = 0, only: Sequence[str] = ()
) -> Collection:
    """Join the frames of a ring with the journal, by turn.

    Memory grows with the number of kept frames and of inspections of their parts, not with the
    journal.

    Args:
        ring: the folder.
        journal: of the same station.
        since_unix_ns: frames that were taken earlier are left out.
        only: kinds of `KeptFacts`, and ``reviewed``: a frame stays that is one of them; all
            without.

    Raises:
        InputDataError: the folder cannot be read.
        StorageError: the journal cannot.
    """
    kept, damaged = _read_ring(ring)
    rows, inspected = _read_rows(journal, kept)
    late = {entry.turn: entry for entry in journal.late() if entry.turn in kept}
    dispositions, strange = _read_dispositions(journal)
    inspected += [_inspected(facts) for turn, (_, facts) in kept.items() if turn not in rows]
    holding = settle(inspected, dispositions)
    joined = [
        CollectedFrame(
            file=file,
            facts=facts,
            row=rows.get(turn),
            late=late.get(turn),
            disposition=holding.get(turn),
        )
        for turn, (file, facts) in kept.items()
    ]
    chosen = tuple(
        frame
        for frame in joined
        if frame.facts.taken_unix_ns >= since_unix_ns and _wanted(frame, only)
    )
    return Collection(
        frames=chosen,
        damaged=damaged,
        dispositions=len(dispositions),
        unused=_count_unused(dispositions, joined),
        strange=strange,
        passed_over=len(joined) - len(chosen),
    )


def _read_dispositions(journal: Journal) -> tuple[list[Disposition], int]:
    found, strange = [], 0
    for body in journal.notes(NOTE_KIND):
        try:
            found.append(decode_disposition(body))
        except InputDataError:
            strange += 1
    return found, strange


def _count_unused(dispositions: Sequence[Disposition], joined: Sequence[CollectedFrame]) -> int:
    ids = {frame.row.job_id for frame in joined if frame.row is not None}
    parts = {spelt for frame in joined for spelt in (frame.part, wire_part_id(frame.part)) if spelt}
    return sum(said.verdict not in ids and said.part not in parts for said in dispositions)


def _wanted(frame: CollectedFrame, only: Sequence[str]) -> bool:
    found = {*frame.facts.why, *(["reviewed"] if frame.disposition is not None else [])}
    return not only or not found.isdisjoint(only)


def _read_ring(ring: Path) -> tuple[dict[str, tuple[Path, KeptFacts]], tuple[Path, ...]]:
    try:
        names = sorted(path.name for path in ring.iterdir())
    except OSError as error:
        raise InputDataError(f"{ring}: {error.strerror}") from error
    kept: dict[str, tuple[Path, KeptFacts]] = {}
    damaged = []
    for file in (ring / name for name in names if NAME.fullmatch(name)):
        try:
            facts = read_facts(file)
        except FrameError:
            if file.exists():
                damaged.append(file)
            continue  # else the ring let it go a moment ago
        if facts is None:
            damaged.append(file)
        else:
            kept[facts.turn] = (file, facts)
    return kept, tuple(damaged)


def _read_rows(
    journal: Journal, kept: dict[str, tuple[Path, KeptFacts]]
) -> tuple[dict[str, JournalRow], list[Inspected]]:
    parts = {facts.part for _, facts in kept.values() if facts.part}
    rows: dict[str, JournalRow] = {}
    inspected = []
    for row in journal.rows():
        entry = row.entry
        if entry.turn in kept:
            rows[entry.turn] = row
        if entry.turn in kept or entry.part in parts:
            inspected.append(
                Inspected(
                    turn=entry.turn,
                    job_id=row.job_id,
                    part=entry.part,
                    taken_unix_ns=entry.taken_unix_ns,
                )
            )
    return rows, inspected


def _inspected(facts: KeptFacts) -> Inspected:
    return Inspected(turn=facts.turn, job_id="", part=facts.part, taken_unix_ns=facts.taken_unix_ns)
