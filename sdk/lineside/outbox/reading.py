"""An outbox as others read it, also while the station writes: nothing in it is changed.

The file must be on a disk of this machine, as for the station.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lineside.outbox.database import Database
from lineside.outbox.entry import JournalEntry, decode_entry
from lineside.outbox.ranges import Run

# Rows fetched at once, so that a reader who takes his time keeps no snapshot of the file.
_AT_ONCE: Final = 500


@dataclass(frozen=True, kw_only=True)
class StoredNote:
    """A note as the journal keeps it.

    Attributes:
        number: rises with each note.
        at_unix_ms: when it became durable, the station's clock.
        kind, body: as of a `Note`.
    """

    number: int
    at_unix_ms: int
    kind: str
    body: bytes


@dataclass(frozen=True, kw_only=True)
class StoredEntry:
    """One row of the journal, not decoded.

    Attributes:
        at_unix_ms: when it became durable, the station's clock.
        payload_sha256: of the verdict as it was published, 32 bytes.
        entry: JSON, or empty.
    """

    seq: int
    at_unix_ms: int
    payload_sha256: bytes
    entry: bytes


@dataclass(frozen=True, kw_only=True)
class StoredVerdict:
    """A verdict that waits, beside what the journal has of it.

    Attributes:
        payload: as it is published.
        payload_sha256: by the journal; ``None`` where it has no such row.
        entry: by the journal, JSON, or empty.
    """

    seq: int
    payload: bytes
    payload_sha256: bytes | None
    entry: bytes


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where the outbox stands.

    Attributes:
        origin: the first eight digits of its ids.
        given: verdicts since it was made.
        journal_from: the journal keeps what has this number and above.
        acknowledged: numbers that a broker has acknowledged, as runs (first, last).
    """

    origin: str
    given: int
    journal_from: int
    acknowledged: tuple[Run, ...]


class Journal:
    """Reads one outbox; made by `open_journal`, used by one thread.

    Raises:
        StorageError: from every method: the file is torn, or cannot be read.
    """

    def __init__(self, file: Database) -> None:
        self._file = file

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    def standing(self) -> Standing:
        """Counters and acknowledgements of this moment."""
        with self._file.mapped("read"):
            origin, given, journal_from = self._file.db.execute(
                "SELECT origin, given, journal_from FROM counter"
            ).fetchone() or ("", 0, 1)
            runs = self._file.db.execute(
                "SELECT first_seq, last_seq FROM acknowledged ORDER BY first_seq"
            ).fetchall()
        return Standing(
            origin=origin, given=given, journal_from=journal_from, acknowledged=tuple(runs)
        )

    def entries(
        self, *, after_seq: int = 0, since_unix_ms: int = 0
    ) -> Iterator[tuple[int, JournalEntry]]:
        """What made each verdict, with its number, in order; verdicts without an entry not.

        Args:
            after_seq: only higher numbers.
            since_unix_ms: only what became durable then or later.

        Raises:
            InputDataError: a row is no entry.
        """
        for row in self.rows(after_seq=after_seq):
            if row.entry and row.at_unix_ms >= since_unix_ms:
                yield row.seq, decode_entry(row.entry, source=f"{self.path}: seq {row.seq}")

    def notes(self, kind: str | None = None) -> Iterator[StoredNote]:
        """Notes in their order; ``kind``: only these."""
        for number, at_unix_ms, its_kind, body in self._walk(
            "SELECT id, at_unix_ms, kind, body FROM note WHERE id > ? ORDER BY id LIMIT ?"
        ):
            if kind is None or its_kind == kind:
                yield StoredNote(number=number, at_unix_ms=at_unix_ms, kind=its_kind, body=body)

    def late(self) -> Iterator[tuple[str, JournalEntry]]:
        """Results that came after their deadline, with the turn of the verdict in their place.

        Raises:
            InputDataError: a row is no entry.
        """
        for turn, entry in self.late_rows():
            yield turn, decode_entry(entry, source=f"{self.path}: late result of turn {turn}")

    def rows(self, *, after_seq: int = 0) -> Iterator[StoredEntry]:
        """The journal's rows in order."""
        for seq, at_unix_ms, payload_sha256, entry in self._walk(
            "SELECT seq, at_unix_ms, payload_sha256, entry FROM journal"
            " WHERE seq > ? ORDER BY seq LIMIT ?",
            after_seq,
        ):
            yield StoredEntry(
                seq=seq, at_unix_ms=at_unix_ms, payload_sha256=payload_sha256, entry=entry
            )

    def late_rows(self) -> Iterator[tuple[str, bytes]]:
        """Turn and undecoded entry of each late result."""
        for _, turn, entry in self._walk(
            "SELECT id, turn, entry FROM late WHERE id > ? ORDER BY id LIMIT ?"
        ):
            yield turn, entry

    def waiting(self) -> Iterator[StoredVerdict]:
        """What no broker has acknowledged, in order."""
        for seq, payload, payload_sha256, entry in self._walk(
            "SELECT seq, payload, payload_sha256, entry FROM waiting LEFT JOIN journal USING (seq)"
            " WHERE seq > ? ORDER BY seq LIMIT ?"
        ):
            yield StoredVerdict(
                seq=seq, payload=payload, payload_sha256=payload_sha256, entry=entry or b""
            )

    def payload_sha256(self, seq: int) -> bytes | None:
        """Of one verdict as it was published; ``None`` where the journal has it not."""
        with self._file.mapped("read"):
            row = self._file.db.execute(
                "SELECT payload_sha256 FROM journal WHERE seq = ?", (seq,)
            ).fetchone()
        return None if row is None else bytes(row[0])

    def check(self) -> None:
        """Read every page of the file.

        Raises:
            StorageError: pages are torn, or a table is gone.
        """
        self._file.check(counts=False)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that is read within is of one moment, while the station goes on writing.

        Its log grows as long; do not keep one for minutes.
        """
        with self._file.mapped("read"):
            self._file.db.execute("BEGIN")
        try:
            yield
        finally:
            with contextlib.suppress(sqlite3.Error):
                self._file.db.execute("ROLLBACK")

    def _walk(self, statement: str, after: int = 0) -> Iterator[tuple[Any, ...]]:
        """Rows whose first column rises, a few hundred at a time."""
        while True:
            with self._file.mapped("read"):
                rows = self._file.db.execute(statement, (after, _AT_ONCE)).fetchall()
            yield from rows
            if len(rows) < _AT_ONCE:
                return
            after = rows[-1][0]


@contextlib.contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """Open an outbox for reading, also while a station uses it.

    Raises:
        StorageError: there is none, it is torn, or of another format.
    """
    file = Database(path, read_only=True)
    try:
        yield Journal(file)
    finally:
        file.close()
