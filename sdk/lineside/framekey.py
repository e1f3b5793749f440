"""How a frame is known again after a restart: the word that sources and the outbox share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FrameKey:
    """One frame of one source.

    Attributes:
        source: the source's identity, e.g. ``folder:/data/frames``.
        name: the frame within it; bytes, because a file name need not be UTF-8.
        size_bytes, mtime_ns: another frame under the same name has others; 64 bits, signed.
    """

    source: str
    name: bytes
    size_bytes: int
    mtime_ns: int
