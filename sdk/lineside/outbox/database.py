"""One connection to the outbox's file: opened, known as ours, every SQLite fault mapped."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import secrets
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from lineside.errors import StorageError
from lineside.outbox.indexfile import hold, release, released_on_fault
from lineside.outbox.logwitness import check_log
from lineside.outbox.place import Place

SCHEMA_VERSION: Final = 2
_APPLICATION_ID: Final = 0x4C534F42  # "LSOB"
# A commit writes each page that it touches, whole: 22 KiB for one verdict with pages of 4096 bytes,
# 14 with 2048, 11 with 1024 (benchmarks/faults/flash_wear.py). But beyond 989 bytes a row would not
# fit on a page of 1024, and rows of the journal are about that long.
PAGE_BYTES: Final = 2048
BUSY_MS: Final = 10_000

_SCHEMA: Final = """
CREATE TABLE counter (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    origin TEXT NOT NULL,
    given INTEGER NOT NULL,
    journal_from INTEGER NOT NULL,
    journal_bytes INTEGER NOT NULL
) STRICT;
CREATE TABLE waiting (
    seq INTEGER PRIMARY KEY,
    expires_unix_ms INTEGER NOT NULL,
    payload BLOB NOT NULL,
    findings BLOB NOT NULL
) STRICT;
CREATE TABLE acknowledged (first_seq INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL) STRICT;
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY,
    at_unix_ms INTEGER NOT NULL,
    payload_sha256 BLOB NOT NULL,
    entry BLOB NOT NULL
) STRICT;
CREATE TABLE late (
    id INTEGER PRIMARY KEY,
    at_unix_ms INTEGER NOT NULL,
    turn TEXT NOT NULL,
    entry BLOB NOT NULL
) STRICT;
CREATE TABLE note (
    id INTEGER PRIMARY KEY,
    at_unix_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE TABLE inspected (
    source TEXT NOT NULL,
    name BLOB NOT NULL,
    size_bytes INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at_unix_s INTEGER NOT NULL,
    crc32 INTEGER NOT NULL,
    PRIMARY KEY (source, name)
) STRICT, WITHOUT ROWID;
"""
_NAMED: Final = 3
TABLES: Final = ("counter", "waiting", "acknowledged", "journal", "late", "note", "inspected")


def mark_crc32(source: str, name: bytes, size_bytes: int, mtime_ns: int, seq: int) -> int:
    """Of a row of ``inspected``: SQLite's own check sees no byte that changed inside a value."""
    told = f"{size_bytes} {mtime_ns} {seq} {source}".encode("utf-8", "replace")
    return zlib.crc32(name, zlib.crc32(told))


class Database:
    """One connection; used by one thread at a time.

    Args:
        path: the file; it is made where it is not there, unless ``read_only``.
        max_mib: the file grows no further.
        read_only: for looking on while a station writes; changes nothing.

    Raises:
        StorageError: from every method: full, read-only, torn, not ours, newer than this version.
    """

    def __init__(self, path: Path, *, max_mib: int = 0, read_only: bool = False) -> None:
        self.path = path
        self.place = Place(path)
        self._closed = False
        if not path.parent.is_dir():
            raise StorageError(f"{path}: the folder {path.parent} does not exist; make it first")
        if read_only and not path.is_file():
            raise StorageError(f"{path}: there is no such outbox; [outbox] path names the file")
        hold(path)
        with released_on_fault(path):
            check_log(path)
            self.db = self._look() if read_only else self._connect(str(path))
        try:
            empty = self._is_empty()
            if not empty or read_only:
                self._know()
            if not read_only:
                self._prepare(max_mib, empty)
        except StorageError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; SQLite folds the log into the file when it is the last one."""
        try:
            with self.mapped("close"):
                self.db.close()
        finally:
            if not self._closed:
                self._closed = True
                release(self.path)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, on disk at the end."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            # A full disk makes SQLite roll back by itself; a second ROLLBACK would be an error.
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def mapped(self, action: str) -> Iterator[None]:
        """Turn faults of SQLite into ours; ``action`` completes "cannot … the outbox"."""
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(
                f"{self.path}: cannot {action} the outbox: {error}. {_remedy(str(error))}"
            ) from error
        except UnicodeDecodeError as error:
            # SQLite's message quotes the damaged words, and the module cannot read them.
            raise StorageError(
                f"{self.path}: cannot {action} the outbox: it is damaged. {_remedy('malformed')}"
            ) from error

    def check(self, *, counts: bool = True) -> None:
        """Read the whole file for torn pages, and see that nothing of ours was taken out.

        Args:
            counts: also that as many wait or are acknowledged as were given.
        """
        with self.mapped("check"):
            found = [str(row[0]) for row in self.db.execute("PRAGMA quick_check(3)")]
            tables = {row[0] for row in self.db.execute("SELECT name FROM sqlite_master")}
            lost = [f"no {name}" for name in TABLES if name not in tables]
            if found == ["ok"] and not lost and counts:
                lost = self._miscounted()
        found = lost if found == ["ok"] and lost else found
        if found != ["ok"]:
            raise StorageError(
                f"{self.path}: the outbox is damaged ({'; '.join(found)}). Move it aside with its "
                "-wal file (`lineside audit FILE` says what is missing, `sqlite3 FILE .recover` "
                "reads what is left) and start with a new one"
            )

    def _miscounted(self) -> list[str]:
        row = self.db.execute("SELECT given FROM counter").fetchone()
        if row is None:
            return ["no counter's row"]
        (known,) = self.db.execute(
            "SELECT (SELECT count(*) FROM waiting)"
            " + (SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM acknowledged)"
        ).fetchone()
        if known != row[0]:
            return [f"{row[0]} verdicts were given, {known} are waiting or acknowledged"]
        return self._changed()

    def _changed(self) -> list[str]:
        """A byte that changed inside a payload tears no page, and a PLC would act on it."""
        rows = self.db.execute(
            "SELECT seq, payload, payload_sha256 FROM waiting JOIN journal USING (seq)"
        )
        changed = [seq for seq, payload, held in rows if hashlib.sha256(payload).digest() != held]
        told = [f"verdict {seq} is not what was given" for seq in changed[:_NAMED]]
        return told or self._changed_marks()

    def _changed_marks(self) -> list[str]:
        """A mark that changed would let its frame be judged again, under another number."""
        rows = self.db.execute(
            "SELECT source, name, size_bytes, mtime_ns, seq, crc32 FROM inspected"
        )
        changed = (row[4] for row in rows if mark_crc32(*row[:5]) != row[5])
        return [
            f"the mark of verdict {seq}'s frame is not what was written"
            for seq in itertools.islice(changed, _NAMED)
        ]

    def _connect(self, where: str, *, uri: bool = False) -> sqlite3.Connection:
        with self.mapped("open"):
            return sqlite3.connect(
                where,
                uri=uri,
                isolation_level=None,
                timeout=BUSY_MS / 1000,
                check_same_thread=False,
            )

    def _look(self) -> sqlite3.Connection:
        """A connection that only reads."""
        uri = f"file:{quote(os.fsencode(self.path.absolute()))}?mode=ro"
        db = self._connect(uri, uri=True)
        with self.mapped("open"):
            try:
                db.execute("SELECT 1 FROM sqlite_master").fetchone()
            except sqlite3.Error as error:
                db.close()
                # Without the right to make -shm SQLite does not open; with no log there is
                # nothing in it that the file does not hold.
                denied = any(word in str(error) for word in ("unable to open", "readonly"))
                if not denied or log_bytes(self.path):
                    raise
                return self._connect(f"{uri}&immutable=1", uri=True)
        return db

    def _is_empty(self) -> bool:
        with self.mapped("open"):
            return bool(self.db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0)

    def _prepare(self, max_mib: int, empty: bool) -> None:
        with self.mapped("open"):
            self.db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            self.db.execute("PRAGMA journal_mode = WAL").fetchone()
            # FULL: in WAL mode every commit waits for the disk, not only the checkpoints.
            self.db.execute("PRAGMA synchronous = FULL")
            # Folding the log into the file is a thread's of its own: no verdict waits for it.
            self.db.execute("PRAGMA wal_autocheckpoint = 0")
            self.db.execute("PRAGMA journal_size_limit = 16777216")
            # Some builds overwrite what is deleted with zeros, which wears the flash once more.
            self.db.execute("PRAGMA secure_delete = OFF")
            page_bytes = int(self.db.execute("PRAGMA page_size").fetchone()[0])
            self.db.execute(f"PRAGMA max_page_count = {max_mib * 1024 * 1024 // page_bytes}")
        if empty:
            self._create()

    def _know(self) -> None:
        with self.mapped("open"):
            application = int(self.db.execute("PRAGMA application_id").fetchone()[0])
            version = int(self.db.execute("PRAGMA user_version").fetchone()[0])
        if application != _APPLICATION_ID:
            raise StorageError(f"{self.path}: a SQLite file, but no outbox; choose another path")
        if version != SCHEMA_VERSION:
            raise StorageError(
                f"{self.path}: outbox of format {version}, this version reads {SCHEMA_VERSION}; "
                "update lineside, or drain it with the version that wrote it"
            )

    def _create(self) -> None:
        with self.mapped("create"), self.transaction():
            for statement in filter(str.strip, _SCHEMA.split(";")):
                self.db.execute(statement)
            self.db.execute("INSERT INTO counter VALUES (1, ?, 0, 1, 0)", (secrets.token_hex(4),))
            self.db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            self.db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def log_bytes(path: Path) -> int:
    """Of the outbox's ``-wal``; 0 where there is none."""
    try:
        return path.with_name(path.name + "-wal").stat().st_size
    except OSError:
        return 0


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
