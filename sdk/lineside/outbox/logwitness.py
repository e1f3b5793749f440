"""Whether SQLite, when it reads its log after a crash, finds all that was confirmed before.

At the first frame whose checksum is wrong SQLite takes the log as ended there: right for the tail
that a power cut tore, but a page damaged in the middle would take confirmed verdicts with it
without a word, and their numbers would be given again to other parts. Two witnesses are asked:
the index beside the log (``-shm``), which outlives a killed process and never runs ahead of what
was flushed; and the log itself, where no more than one commit can lie behind a torn place, because
each is flushed before the next begins.

Layouts: https://www.sqlite.org/walformat.html and https://www.sqlite.org/fileformat2.html#walformat
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from lineside.errors import StorageError
from lineside.outbox.indexfile import read_index

# The index begins with two copies of its header, in the machine's byte order: version, unused,
# change counter, two flags, page size, mxFrame, pages, two checksums of frames; then, as bytes of
# the log, its salts; two checksums of its own.
_INDEX: Final = struct.Struct("=IIIBBHIIII8sII")
assert _INDEX.size == 48
_INDEX_VERSION: Final = 3007000
_MAGIC: Final = 0x377F0682  # its lowest bit: checksums over big-endian words
# magic, version, page size, checkpoints, salts, two checksums; big-endian whatever the machine.
_LOG_HEAD: Final = struct.Struct(">IIII8sII")
# page number, pages after a commit (0: not its last frame), salts, two checksums.
_FRAME_HEAD: Final = struct.Struct(">II8sII")
assert (_LOG_HEAD.size, _FRAME_HEAD.size) == (32, 24)


_INDEX_BACKFILLED: Final = 2 * _INDEX.size  # behind the two headers: frames folded into the file


@dataclass(frozen=True, kw_only=True)
class _Index:
    salts: bytes
    frames: int
    backfilled: int


class LogWitness:
    """Made before the first connection opens the file, asked after that has read from it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = _read_index(path)

    def check(self) -> None:
        """Compare with what the connection found.

        Raises:
            StorageError: confirmed commits lie behind a damaged place of the log, or it is gone.
        """
        before, now = self._before, _read_index(self._path)
        if before is not None and before.frames > before.backfilled:
            lost = before.frames - self._found(before, now)
            if lost > 0:
                raise self._damaged(f"{lost} confirmed pages are lost")
        if now is None:
            return
        behind = _commits_behind(self._path, now)
        # A station that writes just now moves the index on while the log is counted.
        if behind > 1 and _read_index(self._path) == now:
            raise self._damaged(f"{behind} groups of verdicts lie behind the damage")

    def _found(self, before: _Index, now: _Index | None) -> int:
        """How many of the frames that were confirmed are there."""
        salts = _read_salts(self._path)
        if salts is not None and salts != before.salts:
            return before.frames  # a new round of the log: SQLite begins one when all is folded in
        return now.frames if now is not None and now.salts == salts == before.salts else 0

    def _damaged(self, what: str) -> StorageError:
        return StorageError(
            f"{self._path}: the outbox's -wal is damaged: {what}. Move the file aside with its "
            "-wal and start with a new one; nothing was changed"
        )


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _read_index(path: Path) -> _Index | None:
    try:
        data = read_index(path, _INDEX_BACKFILLED + 4)
    except OSError:
        return None
    first, second = data[: _INDEX.size], data[_INDEX.size : 2 * _INDEX.size]
    if first != second or len(data) < _INDEX_BACKFILLED + 4:
        return None  # torn, or being written just now: no witness
    version, *_, frames, _pages, _, _, salts, _, _ = _INDEX.unpack(first)
    backfilled = int.from_bytes(data[_INDEX_BACKFILLED:], sys.byteorder)
    if version != _INDEX_VERSION:
        return None
    return _Index(salts=salts, frames=frames, backfilled=backfilled)


def _read_salts(path: Path) -> bytes | None:
    """The salts of the log's head; ``None`` where there is none, or it is damaged."""
    try:
        with _beside(path, "-wal").open("rb") as file:
            head = file.read(_LOG_HEAD.size)
    except OSError:
        return None
    if len(head) < _LOG_HEAD.size:
        return None
    magic, *_, salts, sum1, sum2 = _LOG_HEAD.unpack(head)
    if magic & ~1 != _MAGIC or _checksum(head[:24], ">" if magic & 1 else "<") != (sum1, sum2):
        return None
    return bytes(salts)


def _checksum(data: bytes, order: str) -> tuple[int, int]:
    sum1 = sum2 = 0
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        sum1 = (sum1 + even + sum2) & 0xFFFFFFFF
        sum2 = (sum2 + odd + sum1) & 0xFFFFFFFF
    return sum1, sum2


def _commits_behind(path: Path, index: _Index) -> int:
    """Commits of this round in the log behind the last frame that SQLite takes as valid."""
    salts = _read_salts(path)
    if salts is None or (index.frames and salts != index.salts):
        return 0
    try:
        with _beside(path, "-wal").open("rb") as file:
            _, _, page_bytes, *_ = _LOG_HEAD.unpack(file.read(_LOG_HEAD.size))
            step = _FRAME_HEAD.size + page_bytes
            commits, at = 0, _LOG_HEAD.size + index.frames * step
            while len(frame := _read_at(file, at)) == _FRAME_HEAD.size:
                _, pages, frame_salts, _, _ = _FRAME_HEAD.unpack(frame)
                commits += pages > 0 and frame_salts == salts
                at += step
    except (OSError, struct.error):
        return 0
    return commits


def _read_at(file: BinaryIO, at: int) -> bytes:
    file.seek(at)
    return file.read(_FRAME_HEAD.size)
