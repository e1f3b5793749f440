"""``cmd/chunk``: a stretch of a file on its way to a station. Pure.

```
  0  8  the first 8 bytes of the whole file's SHA-256, so that nothing of another file is taken
  8  8  where the stretch begins, u64, little-endian
 16     its bytes
```
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from lineside.errors import InputDataError

CHUNK_BYTES: Final = 32 * 1024
# What a station takes at once, whatever the sender was told to send.
CHUNK_LIMIT_BYTES: Final = 1024 * 1024
CHUNKS_AHEAD: Final = 8
# Large chunks go fewer ahead: neither side keeps more than this of one transfer.
AHEAD_LIMIT_BYTES: Final = CHUNK_LIMIT_BYTES
TAG_BYTES: Final = 8

_HEADER: Final = struct.Struct(f"<{TAG_BYTES}sQ")
HEADER_BYTES: Final = 16

assert _HEADER.size == HEADER_BYTES


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A stretch of a file.

    Attributes:
        tag: the first 8 bytes of the whole file's SHA-256.
        offset: where it begins, bytes.
        data: at least one byte.
    """

    tag: bytes
    offset: int
    data: memoryview


def pack_chunk(*, sha256: bytes, offset: int, data: bytes) -> bytes:
    """As it is published.

    Args:
        sha256: of the whole file, 32 bytes.
        offset: where ``data`` begins.
    """
    return _HEADER.pack(sha256[:TAG_BYTES], offset) + data


def unpack_chunk(payload: bytes) -> Chunk:
    """Read a message of ``cmd/chunk``.

    Raises:
        InputDataError: no data behind the header, or more than a station takes.
    """
    size_bytes = len(payload) - HEADER_BYTES
    if not 0 < size_bytes <= CHUNK_LIMIT_BYTES:
        raise InputDataError(
            f"malformed: {max(size_bytes, 0)} bytes of data; 1 to {CHUNK_LIMIT_BYTES} are taken"
        )
    tag, offset = _HEADER.unpack_from(payload)
    return Chunk(tag=tag, offset=offset, data=memoryview(payload)[HEADER_BYTES:])
