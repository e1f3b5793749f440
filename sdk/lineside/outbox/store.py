"""What is written to the outbox's file, and what the publisher and the sources read from it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lineside.errors import StorageError
from lineside.framekey import FrameKey
from lineside.outbox.database import BUSY_MS, Database, log_bytes, mark_crc32
from lineside.outbox.ranges import Run
from lineside.outbox.records import Draft, Late, Note, Row, Stamp
from lineside.outbox.upkeep import Upkeep, row_bytes

# Ten hex digits of job_id and twelve decimal ones of the payload hold this many verdicts:
# at 1,000 a second, 31 years.
MAX_SEQ: Final = 10**12 - 1
_FORGET_AT_ONCE: Final = 500
_RESTART_MS: Final = 20


@dataclass(frozen=True, kw_only=True)
class Counters:
    """Where an outbox stands.

    Attributes:
        given: verdicts since the file began; also the last sequence number.
        acknowledged: of these, by a broker, as runs (first, last).
        journal_bytes: what the journal takes, nearly.
    """

    given: int
    acknowledged: tuple[Run, ...]
    journal_bytes: int


class Store:
    """One connection to the file; used by one thread at a time.

    Attributes:
        upkeep: what goes over the same connection to make room.

    Raises:
        StorageError: from every method: full, read-only, torn, not ours, newer than this version.
    """

    def __init__(self, path: Path, *, max_mib: int) -> None:
        self._file = Database(path, max_mib=max_mib)
        self._db = self._file.db
        self.upkeep = Upkeep(self._file)

    def close(self) -> None:
        """Close the connection; SQLite folds the log into the file when it is the last one."""
        self._file.close()

    def check(self) -> None:
        """Read the whole file for torn pages, and see that nothing of ours was taken out."""
        self._file.check()

    def counters(self) -> Counters:
        """Where the file stands."""
        with self._file.mapped("read"):
            given, journal_bytes = self._db.execute(
                "SELECT given, journal_bytes FROM counter"
            ).fetchone()
            runs = self._db.execute("SELECT first_seq, last_seq FROM acknowledged").fetchall()
        return Counters(given=given, acknowledged=tuple(runs), journal_bytes=journal_bytes)

    def commit(
        self,
        drafts: Sequence[Draft],
        acknowledged: Iterable[Run] = (),
        *,
        lates: Sequence[Late] = (),
        notes: Sequence[Note] = (),
    ) -> list[Stamp]:
        """Stamp and store, forget acknowledged rows: one transaction, on disk at return."""
        at_unix_ms = time.time_ns() // 1_000_000
        self._file.place.check()
        with self._file.mapped("write"), self._file.transaction():
            for first, last in acknowledged:
                self._acknowledge(first, last)
            stamps = self._insert(drafts, at_unix_ms) if drafts else []
            if lates:
                self._insert_late(lates, at_unix_ms)
            self._db.executemany(
                "INSERT INTO note (at_unix_ms, kind, body) VALUES (?, ?, ?)",
                [(at_unix_ms, note.kind, note.body) for note in notes],
            )
        return stamps

    def unsent(self, after_seq: int, limit: int, *, before_seq: int = MAX_SEQ + 1) -> list[Row]:
        """The first rows beyond ``after_seq`` and below ``before_seq``, in order."""
        with self._file.mapped("read"):
            rows = self._db.execute(
                "SELECT seq, payload, expires_unix_ms, findings FROM waiting"
                " WHERE seq > ? AND seq < ? ORDER BY seq LIMIT ?",
                (after_seq, before_seq, limit),
            ).fetchall()
        return [
            Row(seq=seq, payload=payload, expires_unix_ms=expires, findings=findings)
            for seq, payload, expires, findings in rows
        ]

    def first_waiting(self) -> int | None:
        """The lowest number that waits."""
        with self._file.mapped("read"):
            found: int | None = self._db.execute("SELECT min(seq) FROM waiting").fetchone()[0]
        return found

    def soonest_expiry(self, first: int, last: int) -> int | None:
        """The smallest ``expires_unix_ms`` of what waits between two numbers."""
        with self._file.mapped("read"):
            found: int | None = self._db.execute(
                "SELECT min(expires_unix_ms) FROM waiting WHERE seq BETWEEN ? AND ?", (first, last)
            ).fetchone()[0]
        return found

    def newest_expired(self, first: int, last: int, now_unix_ms: int) -> int | None:
        """The highest number between two that waits and has expired."""
        with self._file.mapped("read"):
            row = self._db.execute(
                "SELECT seq FROM waiting WHERE seq BETWEEN ? AND ? AND expires_unix_ms <= ?"
                " ORDER BY seq DESC LIMIT 1",
                (first, last, now_unix_ms),
            ).fetchone()
        return None if row is None else int(row[0])

    def recall(self, source: str, name: bytes) -> FrameKey | None:
        """The frame of that name that was inspected last."""
        with self._file.mapped("read"):
            row = self._db.execute(
                "SELECT size_bytes, mtime_ns FROM inspected WHERE source = ? AND name = ?",
                (source, name),
            ).fetchone()
        if row is None:
            return None
        return FrameKey(source=source, name=name, size_bytes=row[0], mtime_ns=row[1])

    def marks(self, source: str, after: bytes, before_unix_s: int) -> list[bytes]:
        """The next names behind ``after``, in order, of frames inspected before a point in time."""
        with self._file.mapped("read"):
            rows = self._db.execute(
                "SELECT name FROM inspected WHERE source = ? AND name > ? AND at_unix_s < ?"
                " ORDER BY name LIMIT ?",
                (source, after, before_unix_s, _FORGET_AT_ONCE),
            ).fetchall()
        return [name for (name,) in rows]

    def unmark(self, source: str, names: Iterable[bytes], before_unix_s: int) -> None:
        """Forget frames of these names, but those inspected again since."""
        with self._file.mapped("write"), self._file.transaction():
            self._db.executemany(
                "DELETE FROM inspected WHERE source = ? AND name = ? AND at_unix_s < ?",
                [(source, name, before_unix_s) for name in names],
            )

    def log_bytes(self) -> int:
        """How long the log is now; 0 where there is none."""
        return log_bytes(self._file.path)

    def fold_log(self) -> None:
        """Write what the log holds into the file, while others write and read."""
        with self._file.mapped("write"):
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def restart_log(self) -> None:
        """Fold the short rest and have the next commit write the log from its beginning.

        Readers of a moment are waited for; one that keeps its snapshot longer is not, and the log
        goes on growing.
        """
        with self._file.mapped("write"):
            self._db.execute(f"PRAGMA busy_timeout = {_RESTART_MS}")
            try:
                self._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            finally:
                self._db.execute(f"PRAGMA busy_timeout = {BUSY_MS}")

    def _acknowledge(self, first: int, last: int) -> None:
        """Forget the rows, and merge the run with those it touches."""
        self._db.execute("DELETE FROM waiting WHERE seq BETWEEN ? AND ?", (first, last))
        touching = self._db.execute(
            "SELECT first_seq, last_seq FROM acknowledged WHERE first_seq <= ?"
            " ORDER BY first_seq DESC",
            (last + 1,),
        )
        for held_first, held_last in touching:
            if held_last < first - 1:
                break
            first, last = min(first, held_first), max(last, held_last)
        touching.close()
        self._db.execute(
            "DELETE FROM acknowledged WHERE first_seq > ? AND first_seq <= ?", (first, last)
        )
        self._db.execute("INSERT OR REPLACE INTO acknowledged VALUES (?, ?)", (first, last))

    def _insert(self, drafts: Sequence[Draft], at_unix_ms: int) -> list[Stamp]:
        origin, given = self._db.execute("SELECT origin, given FROM counter").fetchone()
        if given + len(drafts) > MAX_SEQ:
            raise StorageError(f"{self._file.path}: the sequence is used up; start a new outbox")
        stamps, waiting, journal, inspected = [], [], [], []
        size_bytes = 0
        for seq, draft in enumerate(drafts, start=given + 1):
            stamp = Stamp(seq=seq, job_id=job_id_of(origin, seq))
            payload = draft.encode(stamp)
            findings = b"" if draft.findings is None else draft.findings(stamp)
            stamps.append(stamp)
            waiting.append((seq, draft.expires_unix_ms, payload, findings))
            journal.append((seq, at_unix_ms, hashlib.sha256(payload).digest(), draft.entry))
            size_bytes += row_bytes(len(draft.entry))
            if draft.key is not None:
                key = draft.key
                mark = (key.source, key.name, key.size_bytes, key.mtime_ns, seq)
                inspected.append((*mark, at_unix_ms // 1000, mark_crc32(*mark)))
        self._db.executemany("INSERT INTO waiting VALUES (?, ?, ?, ?)", waiting)
        self._db.executemany("INSERT INTO journal VALUES (?, ?, ?, ?)", journal)
        self._db.executemany(
            "INSERT OR REPLACE INTO inspected VALUES (?, ?, ?, ?, ?, ?, ?)", inspected
        )
        self._db.execute(
            "UPDATE counter SET given = ?, journal_bytes = journal_bytes + ?",
            (given + len(drafts), size_bytes),
        )
        return stamps

    def _insert_late(self, lates: Sequence[Late], at_unix_ms: int) -> None:
        self._db.executemany(
            "INSERT INTO late (at_unix_ms, turn, entry) VALUES (?, ?, ?)",
            [(at_unix_ms, late.turn, late.entry) for late in lates],
        )
        self._db.execute(
            "UPDATE counter SET journal_bytes = journal_bytes + ?",
            (sum(row_bytes(len(late.entry)) for late in lates),),
        )


def job_id_of(origin: str, seq: int) -> str:
    """Eight hex digits of the outbox and ten of the number."""
    return f"{origin}{seq:010x}"
