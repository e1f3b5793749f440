"""A file in requests: by the published image group, or by pages where the sensor knows them."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from lineside_bridge import custom, requests
from lineside_bridge.custom import Command, PageCopy, PageWrite, checksum
from lineside_bridge.errors import BridgeError
from lineside_bridge.header import Operation
from lineside_bridge.message import Request
from lineside_bridge.pages import Stretch

# Of data's own length in a body, beside the one of no data.
_LENGTH_BYTES: Final = 2
_COPY_BYTES: Final = 16_384
# No more than a server needs to begin, an image's header of 32 bytes: the first is waited for long,
# so noise shall not find much of it; and of pages nothing but the framing guards it.
_FIRST_MESSAGE_BYTES: Final = 160
# What a sensor with slow NOR flash does at least.
_COPY_BYTES_PER_S: Final = 20_000


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One request of an upload.

    Attributes:
        size_bytes: of the file, that it brings.
        sent_bytes: of these, on the wire.
        extra_s: what the sensor may need besides.
    """

    request: Request
    size_bytes: int
    sent_bytes: int
    extra_s: float = 0.0


class Source(Protocol):
    """A file in pieces.

    Attributes:
        size_bytes: of the whole.
        guarded: each request says by itself whether it came whole.
    """

    guarded: bool

    @property
    def size_bytes(self) -> int: ...

    def chunk(self, off: int, room_bytes: int) -> Chunk:
        """What to send from there on, in a message of at most so many bytes."""

    def refuse(self, off: int) -> None:
        """The chunk from there on was refused for its checksum: the next may be another."""

    def left_bytes(self, off: int) -> int:
        """How many bytes from there on still have to go over the wire."""


class ImageSource:
    """By the published image group alone: a `Source`."""

    guarded = False

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._sha256 = hashlib.sha256(data).digest()

    @property
    def size_bytes(self) -> int:
        """See `Source`."""
        return len(self._data)

    def chunk(self, off: int, room_bytes: int) -> Chunk:
        """See `Source`."""
        if not off:
            room_bytes = min(room_bytes, _FIRST_MESSAGE_BYTES)
        data = self._cut(off, room_bytes, self._ask)
        return Chunk(request=self._ask(off, data), size_bytes=len(data), sent_bytes=len(data))

    def refuse(self, off: int) -> None:
        """See `Source`: the same again."""

    def left_bytes(self, off: int) -> int:
        """See `Source`."""
        return self.size_bytes - off

    def _ask(self, off: int, data: bytes) -> Request:
        if off:
            return requests.go_on_uploading(off, data)
        return requests.begin_upload(data, size_bytes=self.size_bytes, sha256=self._sha256)

    def _cut(
        self,
        off: int,
        room_bytes: int,
        ask: Callable[[int, bytes], Request],
        stop: int | None = None,
    ) -> bytes:
        size_bytes = room_bytes - ask(off, b"").size_bytes - _LENGTH_BYTES
        if size_bytes < 1:
            raise BridgeError(
                f"the sensor's buffer takes messages of {room_bytes} bytes, too few to upload by"
            )
        return self._data[off : min(off + size_bytes, self.size_bytes if stop is None else stop)]


class PageSource(ImageSource):
    """Behind the first request by our own group: checked pages, and copies inside the sensor.

    Args:
        stretches: as `plan_copies` makes them.
        slot: the one that is copied from.
    """

    guarded = True

    def __init__(self, data: bytes, stretches: tuple[Stretch, ...], slot: int) -> None:
        super().__init__(data)
        self._stretches = stretches
        self._starts = [stretch.start for stretch in stretches]
        self._slot = slot
        self._copying = True

    def chunk(self, off: int, room_bytes: int) -> Chunk:
        """See `Source`."""
        if not off:
            return super().chunk(off, room_bytes)
        stretch = self._stretch(off)
        if stretch.source is not None and self._copying:
            return self._copy(off, stretch, stretch.source)
        stop = None if not self._copying else stretch.stop
        data = self._cut(off, room_bytes, self._write, stop)
        return Chunk(request=self._write(off, data), size_bytes=len(data), sent_bytes=len(data))

    def refuse(self, off: int) -> None:
        """See `Source`: what lies in the slot may not be what its hashes said."""
        if self._stretch(off).source is not None:
            self._copying = False

    def left_bytes(self, off: int) -> int:
        """See `Source`."""
        if not self._copying:
            return super().left_bytes(off)
        sent = (stretch for stretch in self._stretches if stretch.source is None)
        return sum(max(0, stretch.stop - max(off, stretch.start)) for stretch in sent)

    def _stretch(self, off: int) -> Stretch:
        return self._stretches[bisect.bisect_right(self._starts, off) - 1]

    def _write(self, off: int, data: bytes) -> Request:
        page = PageWrite(off=off, data=data, crc=checksum(off, data))
        return custom.ask(Operation.WRITE, Command.WRITE, page)

    def _copy(self, off: int, stretch: Stretch, source: int) -> Chunk:
        stop = min(off + _COPY_BYTES, stretch.stop)
        copy = PageCopy(
            off=off,
            slot=self._slot,
            source=source + off - stretch.start,
            len=stop - off,
            crc=checksum(off, self._data[off:stop]),
        )
        return Chunk(
            request=custom.ask(Operation.WRITE, Command.COPY, copy),
            size_bytes=copy.len,
            sent_bytes=0,
            extra_s=copy.len / _COPY_BYTES_PER_S,
        )
