"""A station's journal as `collect` asks it, read beside the running station."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from lineside.kept.collecting import Journal, JournalRow
from lineside.outbox.entry import JournalEntry
from lineside.outbox.reading import Journal as StoredJournal
from lineside.outbox.reading import open_journal
from lineside.outbox.store import job_id_of


class StationJournal:
    """See `Journal`."""

    def __init__(self, stored: StoredJournal) -> None:
        self._stored = stored
        self._origin = stored.standing().origin

    def rows(self) -> Iterator[JournalRow]:
        """Verdicts, in order."""
        for seq, entry in self._stored.entries():
            yield JournalRow(seq=seq, job_id=job_id_of(self._origin, seq), entry=entry)

    def late(self) -> Iterator[JournalEntry]:
        """Results that came after their part's deadline."""
        for _, entry in self._stored.late():
            yield entry

    def notes(self, kind: str) -> Iterator[bytes]:
        """Bodies of the notes of a kind, in order."""
        for note in self._stored.notes(kind):
            yield note.body


@contextlib.contextmanager
def open_station_journal(outbox: Path) -> Iterator[Journal]:
    """Open the journal in a station's outbox; nothing in it is changed.

    Raises:
        StorageError: there is none, it is torn, or of another format.
    """
    with open_journal(outbox) as stored:
        yield StationJournal(stored)
