"""The running checksum of SQLite's log, for thousands of frames in milliseconds.

SQLite adds words in pairs (x, y): s1 += x + s2, then s2 += y + s1, modulo 2^32, and goes on from
one frame to the next (https://www.sqlite.org/walformat.html, "checksum algorithm"). That is
linear: with A = ((1, 1), (1, 2)), a pair takes s to A s + (x, x + y), so n pairs take it to A^n s
plus a sum over the pairs that does not depend on s, and that numpy forms for many frames at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_MASK = 0xFFFFFFFF
_Matrix = tuple[int, int, int, int]  # row by row


class Sums(NamedTuple):
    """The two running sums."""

    s1: int
    s2: int

    def after_head(self, words: bytes, *, big_endian: bool) -> Sums:
        """Go on over the log's head, which is short."""
        s1, s2 = self
        values = np.frombuffer(words, ">u4" if big_endian else "<u4").tolist()
        for x, y in zip(values[::2], values[1::2], strict=True):
            s1 = (s1 + x + s2) & _MASK
            s2 = (s2 + y + s1) & _MASK
        return Sums(s1, s2)

    def after_frame(self, add: tuple[int, int], frame_bytes: int) -> Sums:
        """Go on over one frame, by its own sum of `frame_sums`."""
        a, b, c, d = _powers(_pairs(frame_bytes) + 1)[-1]
        return Sums(
            (a * self.s1 + b * self.s2 + add[0]) & _MASK,
            (c * self.s1 + d * self.s2 + add[1]) & _MASK,
        )


def frame_sums(data: bytes, frame_bytes: int, *, big_endian: bool) -> Iterator[tuple[int, int]]:
    """What each whole frame of ``data`` adds: of its head the first 8 bytes, and its page.

    Args:
        data: frames in a row.
        frame_bytes: 24 of head and a page.
    """
    count = len(data) // frame_bytes
    frames = np.frombuffer(data, np.uint8, count * frame_bytes).reshape(count, frame_bytes)
    summed = np.concatenate([frames[:, :8], frames[:, 24:]], axis=1)
    words = summed.view(">u4" if big_endian else "<u4").astype(np.uint32)
    x, y = words[:, ::2], words[:, 1::2]
    # Of unsigned integers numpy keeps the lowest 32 bits, which is what is wanted.
    a, b, c, d = _weights(_pairs(frame_bytes))
    first = (a * x + b * (x + y)).sum(axis=1, dtype=np.uint32)
    second = (c * x + d * (x + y)).sum(axis=1, dtype=np.uint32)
    yield from zip(first.tolist(), second.tolist(), strict=True)


def _pairs(frame_bytes: int) -> int:
    return (frame_bytes - 16) // 8


@cache
def _powers(count: int) -> list[_Matrix]:
    """A^0 to A^(count - 1)."""
    powers: list[_Matrix] = [(1, 0, 0, 1)]
    for _ in range(count - 1):
        a, b, c, d = powers[-1]
        powers.append(((a + c) & _MASK, (b + d) & _MASK, (a + 2 * c) & _MASK, (b + 2 * d) & _MASK))
    return powers


@cache
def _weights(pairs: int) -> npt.NDArray[np.uint32]:
    """The four entries of the power that each pair of a frame is taken by: (4, pairs)."""
    return np.array(_powers(pairs)[::-1], np.uint32).T.copy()
