"""Whether SQLite, when it reads its log after a crash, will find all that was confirmed before.

At the first frame whose checksum is wrong SQLite takes the log as ended there: right for the tail
that a power cut tore, but a page damaged in the middle would take confirmed verdicts with it
without a word, and their numbers would be given again to other parts. So the log is read here
first, before any connection to it is made (which would also rewrite the witness). Two are asked:
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
from lineside.outbox.logsums import Sums, frame_sums

# The index begins with two copies of its header, in the machine's byte order: version, unused,
# change counter, two flags, page size, mxFrame, pages, two checksums of frames; then, as bytes of
# the log, its salts; two checksums of its own.
_INDEX: Final = struct.Struct("=IIIBBHIIII8sII")
assert _INDEX.size == 48
_INDEX_VERSION: Final = 3007000
_INDEX_BACKFILLED: Final = 2 * _INDEX.size  # behind the two headers: frames folded into the file
# magic, version, page size, checkpoints, salts, two checksums; big-endian whatever the machine.
_HEAD: Final = struct.Struct(">IIII8sII")
_MAGIC: Final = 0x377F0682  # its lowest bit: checksums over big-endian words
# page number, pages after a commit (0: not its last frame), salts, two checksums.
_FRAME: Final = struct.Struct(">II8sII")
assert (_HEAD.size, _FRAME.size) == (32, 24)
_AT_ONCE: Final = 512


@dataclass(frozen=True, kw_only=True)
class _Index:
    salts: bytes
    frames: int
    backfilled: int


@dataclass(kw_only=True)
class _Log:
    """What the log holds, by its own checksums.

    Attributes:
        salts: of this round of the log; ``None`` where it is gone or its head is damaged.
        frames: whole and in a row from the beginning, up to the last that ends a commit.
        commits_behind: commits of this round behind those.
    """

    salts: bytes | None = None
    frames: int = 0
    commits_behind: int = 0


def check_log(path: Path) -> None:
    """Look at the log of an outbox that nobody has opened yet, or that a station uses.

    Between `indexfile.hold` and `indexfile.release`.

    Args:
        path: of the outbox; its log and index lie beside it.

    Raises:
        StorageError: confirmed commits lie behind a damaged place of the log, or it is gone.
    """
    index, log = _read_index(path), _read_log(path)
    lost = _lost(index, log)
    # A station that writes just now moves the index on while the log is read.
    if lost and _read_index(path) == index:
        raise StorageError(
            f"{path}: the outbox's -wal is damaged: {lost}. Move the file aside with its -wal and "
            "-shm and start with a new one; nothing was changed"
        )


def _lost(index: _Index | None, log: _Log) -> str:
    if index is not None and index.frames > index.backfilled:
        # With other salts SQLite had begun a new round of the log: all before was folded in.
        found = log.frames if log.salts == index.salts else 0 if log.salts is None else index.frames
        if found < index.frames:
            return f"{index.frames - found} confirmed pages are lost"
    if log.commits_behind > 1:
        return f"{log.commits_behind} groups of verdicts lie behind the damage"
    return ""


def _read_index(path: Path) -> _Index | None:
    try:
        data = read_index(path, _INDEX_BACKFILLED + 4)
    except OSError:
        return None
    first, second = data[: _INDEX.size], data[_INDEX.size : 2 * _INDEX.size]
    if first != second or len(data) < _INDEX_BACKFILLED + 4:
        return None  # torn, or being written just now: no witness
    version, *_, frames, _pages, _, _, salts, _, _ = _INDEX.unpack(first)
    if version != _INDEX_VERSION:
        return None
    backfilled = int.from_bytes(data[_INDEX_BACKFILLED:], sys.byteorder)
    return _Index(salts=salts, frames=frames, backfilled=backfilled)


def _read_log(path: Path) -> _Log:
    try:
        with path.with_name(path.name + "-wal").open("rb") as file:
            return _walk(file)
    except OSError:
        return _Log()


def _walk(file: BinaryIO) -> _Log:
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return _Log()
    magic, _, page_bytes, _, salts, *told = _HEAD.unpack(head)
    sums = Sums(0, 0).after_head(head[:24], big_endian=bool(magic & 1))
    if magic & ~1 != _MAGIC or sums != tuple(told):
        return _Log()
    log = _Log(salts=salts)
    step, seen, whole = _FRAME.size + page_bytes, 0, True
    while data := file.read(step * _AT_ONCE):
        count = len(data) // step
        for at, add in enumerate(frame_sums(data, step, big_endian=bool(magic & 1))):
            _, pages, its_salts, *told = _FRAME.unpack_from(data, at * step)
            sums = sums.after_frame(add, step)
            whole = whole and its_salts == salts and sums == tuple(told)
            if pages and whole:
                log.frames = seen + at + 1
            elif pages and its_salts == salts:
                log.commits_behind += 1
        seen += count
    return log
