"""Makes room in the outbox's file: the journal's oldest rows, the oldest notes; and counts it."""

from __future__ import annotations

from typing import Final

import msgspec

from lineside.outbox.database import PAGE_BYTES, Database
from lineside.outbox.room import Room, look_at_room

# What a row of the journal takes beside its entry: number, time, hash, lengths, its place.
_BESIDE_BYTES: Final = 52
# Rows of at most so many bytes lie on one page with others.
_ON_PAGE_BYTES: Final = PAGE_BYTES - 8
_LONGEST_BYTES: Final = PAGE_BYTES - 35
_LEAST_LEFT_BYTES: Final = (PAGE_BYTES - 12) * 32 // 255 - 23
# Deleting many rows in one transaction would make a verdict wait for it.
_BATCH: Final = 1024


class _Turn(msgspec.Struct):
    turn: str = ""


class Upkeep:
    """Over the connection of a store, in its thread.

    Raises:
        StorageError: from every method, as of the store.
    """

    def __init__(self, file: Database) -> None:
        self._file = file
        self._db = file.db

    def drop_journal(self, limit: int, *, before_unix_ms: int, max_bytes: int) -> int:
        """Drop the journal's oldest rows, at most ``limit``, while too old or too large.

        Late results go with the verdict that was given in their place.

        Returns:
            What the journal takes now, bytes.
        """
        with self._file.mapped("write"), self._file.transaction():
            (held,) = self._db.execute("SELECT journal_bytes FROM counter").fetchone()
            last_seq = None
            for seq, at_unix_ms, entry_bytes in self._db.execute(
                "SELECT seq, at_unix_ms, length(entry) FROM journal ORDER BY seq LIMIT ?",
                (min(limit, _BATCH),),
            ).fetchall():
                if at_unix_ms >= before_unix_ms and held <= max_bytes:
                    break
                last_seq, held = seq, held - row_bytes(entry_bytes)
            if last_seq is not None:
                held -= self._drop_late_of(last_seq)
                self._db.execute("DELETE FROM journal WHERE seq <= ?", (last_seq,))
                self._db.execute(
                    "UPDATE counter SET journal_from = ?, journal_bytes = ?", (last_seq + 1, held)
                )
        return int(held)

    def drop_notes(self, limit: int, *, before_unix_ms: int, most: int) -> None:
        """Drop the oldest notes, at most ``limit``, that are too old or too many."""
        with self._file.mapped("write"), self._file.transaction():
            self._db.execute(
                "DELETE FROM note WHERE id IN (SELECT id FROM"
                " (SELECT id, at_unix_ms FROM note ORDER BY id LIMIT ?)"
                " WHERE at_unix_ms < ? OR id <= (SELECT max(id) FROM note) - ?)",
                (limit, before_unix_ms, most),
            )

    def room(self, max_mib: int, keep_free_mib: int) -> Room:
        """How much more can be written."""
        self._file.place.check()
        with self._file.mapped("read"):
            pages, free_pages, page_bytes = (
                int(self._db.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("page_count", "freelist_count", "page_size")
            )
        return look_at_room(
            self._file.path,
            file_bytes=pages * page_bytes,
            spare_bytes=free_pages * page_bytes,
            max_mib=max_mib,
            keep_free_mib=keep_free_mib,
        )

    def _drop_late_of(self, last_seq: int) -> int:
        if self._db.execute("SELECT 1 FROM late LIMIT 1").fetchone() is None:
            return 0
        turns = {
            _turn_of(entry)
            for (entry,) in self._db.execute(
                "SELECT entry FROM journal WHERE seq <= ?", (last_seq,)
            )
        }
        late = self._db.execute("SELECT id, turn, length(entry) FROM late ORDER BY id").fetchmany(
            2 * _BATCH
        )
        gone = [(row_id, entry_bytes) for row_id, turn, entry_bytes in late if turn in turns]
        self._db.executemany("DELETE FROM late WHERE id = ?", [(row_id,) for row_id, _ in gone])
        return sum(row_bytes(entry_bytes) for _, entry_bytes in gone)


def row_bytes(entry_bytes: int) -> int:
    """What a row of the journal takes of the file: its share of a page, and pages of its own.

    https://www.sqlite.org/fileformat2.html#b_tree_pages: a long row leaves a part on its page and
    goes on in others.
    """
    size_bytes = entry_bytes + _BESIDE_BYTES
    further_pages = 0
    if size_bytes > _LONGEST_BYTES:
        left_bytes = _LEAST_LEFT_BYTES + (size_bytes - _LEAST_LEFT_BYTES) % (PAGE_BYTES - 4)
        left_bytes = left_bytes if left_bytes <= _LONGEST_BYTES else _LEAST_LEFT_BYTES
        further_pages = -(-(size_bytes - left_bytes) // (PAGE_BYTES - 4))
        size_bytes = left_bytes + 4
    return further_pages * PAGE_BYTES + PAGE_BYTES // (_ON_PAGE_BYTES // size_bytes)


def _turn_of(entry: bytes) -> str:
    """The turn that an entry is of; empty where it says none or is no entry."""
    try:
        return msgspec.json.decode(entry, type=_Turn).turn
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
