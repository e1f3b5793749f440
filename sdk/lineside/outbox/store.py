"""The outbox's SQLite file: every statement in one place, every SQLite fault mapped to ours."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lineside.errors import StorageError
from lineside.framekey import FrameKey
from lineside.outbox.records import Draft, Row, Stamp

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x4C534F42  # "LSOB"
# Ten hex digits of job_id and twelve decimal ones of the payload hold this many verdicts:
# at 1,000 a second, 31 years.
MAX_SEQ = 10**12 - 1

_SCHEMA = """
CREATE TABLE counter (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    origin TEXT NOT NULL,
    given INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL
) STRICT;
CREATE TABLE verdict (seq INTEGER PRIMARY KEY, payload BLOB NOT NULL) STRICT;
CREATE TABLE inspected (
    source TEXT NOT NULL,
    name BLOB NOT NULL,
    size_bytes INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at_unix_s INTEGER NOT NULL,
    PRIMARY KEY (source, name)
) STRICT, WITHOUT ROWID;
"""


class Store:
    """One connection to the file; used by one thread at a time.

    Raises:
        StorageError: from every method: full, read-only, torn, not ours, newer than this version.
    """

    def __init__(self, path: Path, *, max_mib: int) -> None:
        self._path = path
        if not path.parent.is_dir():
            raise StorageError(f"{path}: the folder {path.parent} does not exist; make it first")
        with self._mapped("open"):
            self._db = sqlite3.connect(
                path, isolation_level=None, timeout=10.0, check_same_thread=False
            )
        try:
            self._prepare(max_mib)
        except StorageError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; SQLite folds the log into the file when it is the last one."""
        with self._mapped("close"):
            self._db.close()

    def check(self) -> None:
        """Read the whole file for torn pages, and see that nothing of ours was taken out."""
        with self._mapped("check"):
            found = [str(row[0]) for row in self._db.execute("PRAGMA quick_check(3)")]
            tables = {row[0] for row in self._db.execute("SELECT name FROM sqlite_master")}
            lost = [name for name in ("counter", "verdict", "inspected") if name not in tables]
            if not lost and self._db.execute("SELECT 1 FROM counter").fetchone() is None:
                lost = ["counter's row"]
        found = [f"no {name}" for name in lost] if found == ["ok"] and lost else found
        if found != ["ok"]:
            raise StorageError(
                f"{self._path}: the outbox is damaged ({'; '.join(found)}). Move it aside with its "
                "-wal file (`sqlite3 FILE .recover` reads what is left) and start with a new one"
            )

    def counters(self) -> tuple[int, int]:
        """How many verdicts were given, and how many of them acknowledged, since the file began."""
        with self._mapped("read"):
            given, acknowledged = self._db.execute(
                "SELECT given, acknowledged FROM counter"
            ).fetchone()
        return int(given), int(acknowledged)

    def commit(self, drafts: Sequence[Draft], acknowledged: Sequence[int]) -> list[Stamp]:
        """Stamp and store drafts, forget acknowledged rows: one transaction, on disk at return."""
        with self._mapped("write"), self._transaction():
            self._delete(acknowledged)
            return self._insert(drafts)

    def unsent(self, after_seq: int, limit: int) -> list[Row]:
        """The first rows beyond ``after_seq``, in order."""
        with self._mapped("read"):
            rows = self._db.execute(
                "SELECT seq, payload FROM verdict WHERE seq > ? ORDER BY seq LIMIT ?",
                (after_seq, limit),
            ).fetchall()
        return [Row(seq=seq, payload=payload) for seq, payload in rows]

    def recall(self, source: str, name: bytes) -> FrameKey | None:
        """The frame of that name that was inspected last."""
        with self._mapped("read"):
            row = self._db.execute(
                "SELECT size_bytes, mtime_ns FROM inspected WHERE source = ? AND name = ?",
                (source, name),
            ).fetchone()
        if row is None:
            return None
        return FrameKey(source=source, name=name, size_bytes=row[0], mtime_ns=row[1])

    def forget(self, source: str, is_gone: Callable[[bytes], bool], before_unix_s: int) -> int:
        """Drop marks of frames that are gone from their source and older than a point in time."""
        with self._mapped("write"), self._transaction():
            old = self._db.execute(
                "SELECT name FROM inspected WHERE source = ? AND at_unix_s < ?",
                (source, before_unix_s),
            ).fetchall()
            gone = [(source, name) for (name,) in old if is_gone(name)]
            self._db.executemany("DELETE FROM inspected WHERE source = ? AND name = ?", gone)
        return len(gone)

    def _prepare(self, max_mib: int) -> None:
        with self._mapped("open"):
            self._db.execute("PRAGMA journal_mode = WAL").fetchone()
            # FULL: in WAL mode every commit waits for the disk, not only the checkpoints.
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA journal_size_limit = 4194304")
            page_bytes = int(self._db.execute("PRAGMA page_size").fetchone()[0])
            self._db.execute(f"PRAGMA max_page_count = {max_mib * 1024 * 1024 // page_bytes}")
            application = int(self._db.execute("PRAGMA application_id").fetchone()[0])
            version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
            empty = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if empty:
            self._create()
        elif application != _APPLICATION_ID:
            raise StorageError(f"{self._path}: a SQLite file, but no outbox; choose another path")
        elif version != SCHEMA_VERSION:
            raise StorageError(
                f"{self._path}: outbox of format {version}, this version reads {SCHEMA_VERSION}; "
                "update lineside, or drain it with the version that wrote it"
            )

    def _create(self) -> None:
        with self._mapped("create"), self._transaction():
            for statement in filter(str.strip, _SCHEMA.split(";")):
                self._db.execute(statement)
            self._db.execute("INSERT INTO counter VALUES (1, ?, 0, 0)", (secrets.token_hex(4),))
            self._db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _delete(self, acknowledged: Sequence[int]) -> None:
        gone = self._db.executemany(
            "DELETE FROM verdict WHERE seq = ?", [(seq,) for seq in acknowledged]
        )
        if gone.rowcount > 0:
            self._db.execute("UPDATE counter SET acknowledged = acknowledged + ?", (gone.rowcount,))

    def _insert(self, drafts: Sequence[Draft]) -> list[Stamp]:
        if not drafts:
            return []
        origin, given = self._db.execute("SELECT origin, given FROM counter").fetchone()
        if given + len(drafts) > MAX_SEQ:
            raise StorageError(f"{self._path}: the sequence is used up; start a new outbox")
        stamps = [
            Stamp(seq=seq, job_id=f"{origin}{seq:010x}")
            for seq in range(given + 1, given + 1 + len(drafts))
        ]
        for stamp, draft in zip(stamps, drafts, strict=True):
            self._db.execute("INSERT INTO verdict VALUES (?, ?)", (stamp.seq, draft.encode(stamp)))
            if draft.key is not None:
                self._remember(draft.key, stamp.seq)
        self._db.execute("UPDATE counter SET given = ?", (given + len(drafts),))
        return stamps

    def _remember(self, key: FrameKey, seq: int) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO inspected VALUES (?, ?, ?, ?, ?, ?)",
            (key.source, key.name, key.size_bytes, key.mtime_ns, seq, int(time.time())),
        )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # A full disk makes SQLite roll back by itself; a second ROLLBACK would be an error.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _mapped(self, action: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(
                f"{self._path}: cannot {action} the outbox: {error}. {_remedy(str(error))}"
            ) from error


def _remedy(message: str) -> str:
    remedies = {
        "full": "Free space on the disk, or raise outbox.max_mib",
        "readonly": "Make the file and its folder writable for this user",
        "unable to open": "Make the file and its folder writable for this user",
        "malformed": "Move the file aside with its -wal and start with a new one",
        "not a database": "Move the file aside with its -wal and start with a new one",
        "locked": "Another program holds the file; end it",
    }
    found = (remedy for sign, remedy in remedies.items() if sign in message)
    return next(found, "Look at the disk: `dmesg`, `df`, `mount`")
