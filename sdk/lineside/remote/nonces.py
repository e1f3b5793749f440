"""Which nonces were heard: a small file beside the outbox, so that a restart lets nothing repeat.

Records of 32 bytes, one a command, appended and flushed before the command is done:

```
  0   4  "LSN1" a nonce, "LSH1" the horizon
  4  16  the nonce; zeros
 20   8  when its command expires, ms since 1970; what expired up to then may be forgotten
 28   4  CRC-32 of the 28 bytes before
```

Little-endian. The horizon is what a clock that goes back cannot pass: a nonce is dropped once its
command has expired, and whatever expires no later than a dropped one is never taken again.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lineside.durable import write_durably
from lineside.errors import StorageError
from lineside.plainfile import read_whole
from lineside.remote.envelope import NONCE_BYTES
from lineside.remote.gate import NonceAnswer

CAPACITY: Final = 4096
_FILE_LIMIT_BYTES: Final = 2**20
_NONCE: Final = b"LSN1"
_HORIZON: Final = b"LSH1"
_FIELDS: Final = struct.Struct(f"<4s{NONCE_BYTES}sQ")
_CRC: Final = struct.Struct("<I")
RECORD_BYTES: Final = _FIELDS.size + _CRC.size
assert RECORD_BYTES == 32


@dataclass(frozen=True, kw_only=True)
class _Content:
    """What a file holds.

    Attributes:
        known: when the command of each nonce expires, ms since 1970.
        horizon_ms: what expires up to then may be forgotten.
        records: in the file.
        torn: its end is not a whole record.
    """

    known: dict[bytes, int]
    horizon_ms: int
    records: int
    torn: bool


class NonceFile:
    """See `lineside.remote.gate.NonceMemory`. For one thread, and one process.

    Args:
        path: the file; made where it is missing.
        capacity: so many nonces of commands that have not expired; the file holds twice as many.

    Raises:
        StorageError: at opening: it is damaged, or cannot be read or written.
    """

    def __init__(self, path: Path, *, capacity: int = CAPACITY) -> None:
        self._path = path
        self._capacity = capacity
        content = _read(path)
        self._known = content.known
        self._horizon_ms = content.horizon_ms
        self._records = content.records
        self._descriptor = -1
        if content.torn or not content.records:
            self._rewrite()
        else:
            self._open()

    def remember(self, nonce: bytes, expires_unix_ms: int, now_unix_ms: int) -> NonceAnswer:
        """See `lineside.remote.gate.NonceMemory`.

        Raises:
            StorageError: the disk takes nothing; it is not remembered.
        """
        if nonce in self._known:
            return "known"
        if expires_unix_ms <= self._horizon_ms:
            return "forgotten"
        if len(self._known) >= self._capacity:
            self._drop_expired(now_unix_ms)
            if len(self._known) >= self._capacity:
                return "full"
        if self._records >= 2 * self._capacity or not self._is_in_place():
            self._rewrite()
        self._append(_pack(_NONCE, nonce, expires_unix_ms))
        self._known[nonce] = expires_unix_ms
        return "new"

    def close(self) -> None:
        """Close the file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _drop_expired(self, now_unix_ms: int) -> None:
        gone = [(nonce, at_ms) for nonce, at_ms in self._known.items() if at_ms <= now_unix_ms]
        for nonce, expired_ms in gone:
            del self._known[nonce]
            self._horizon_ms = max(self._horizon_ms, expired_ms)

    def _append(self, record: bytes) -> None:
        try:
            written = os.write(self._descriptor, record)
            os.fsync(self._descriptor)
        except OSError as error:
            self.close()  # nobody knows what is there now: it is written anew before the next one
            raise StorageError(f"{self._path}: cannot be written: {error.strerror}") from error
        if written != len(record):
            self.close()
            raise StorageError(f"{self._path}: cannot be written: the disk is full")
        self._records += 1

    def _rewrite(self) -> None:
        """Aside and renamed: what is known, behind the horizon."""
        self.close()
        records = [_pack(_HORIZON, bytes(NONCE_BYTES), self._horizon_ms)]
        records += [_pack(_NONCE, nonce, at_ms) for nonce, at_ms in self._known.items()]
        write_durably(self._path, records)
        self._records = len(records)
        self._open()

    def _open(self) -> None:
        try:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise StorageError(f"{self._path}: {error.strerror}; is it writable?") from error

    def _is_in_place(self) -> bool:
        """Whether the open file is still the one of that name."""
        if self._descriptor < 0:
            return False
        with contextlib.suppress(OSError):
            here, there = os.fstat(self._descriptor), self._path.stat()
            return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
        return False


def _read(path: Path) -> _Content:
    try:
        data = read_whole(path, limit_bytes=_FILE_LIMIT_BYTES)
    except FileNotFoundError:
        data = b""
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    known: dict[bytes, int] = {}
    horizon_ms, at = 0, 0
    while found := _unpack(data[at : at + RECORD_BYTES]):
        kind, nonce, time_ms = found
        if kind == _HORIZON:
            horizon_ms = max(horizon_ms, time_ms)
        else:
            known[nonce] = time_ms
        at += RECORD_BYTES
    # One record was on its way when the power went, and its command was never done.
    if len(data) - at > RECORD_BYTES:
        raise StorageError(
            f"{path}: damaged at byte {at}: which signed commands were done is no longer known. "
            "Delete the file once commands.lifetime_s has passed since the station ran last: until "
            "then one that was recorded could be repeated"
        )
    return _Content(
        known=known, horizon_ms=horizon_ms, records=at // RECORD_BYTES, torn=at < len(data)
    )


def _pack(kind: bytes, nonce: bytes, time_ms: int) -> bytes:
    fields = _FIELDS.pack(kind, nonce, time_ms)
    return fields + _CRC.pack(zlib.crc32(fields))


def _unpack(record: bytes) -> tuple[bytes, bytes, int] | None:
    """``None``: it is not whole."""
    if len(record) != RECORD_BYTES:
        return None
    fields = record[: _FIELDS.size]
    kind, nonce, time_ms = _FIELDS.unpack(fields)
    if kind not in (_NONCE, _HORIZON) or _CRC.unpack(record[_FIELDS.size :])[0] != zlib.crc32(
        fields
    ):
        return None
    return kind, nonce, time_ms
