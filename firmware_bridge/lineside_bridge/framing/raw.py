"""No framing at all: the message's own header says how long it is (Zephyr's raw UART transport).

Nothing guards the bytes. What can be known is held: the header's fixed bits, and that the body is
one CBOR map which fills it. A changed letter inside remains unseen; whoever sends data over this
framing needs a check of his own (docs/smp.md).
"""

from __future__ import annotations

from typing import Final

from lineside_bridge.body import decode_body
from lineside_bridge.errors import MalformedError
from lineside_bridge.header import HEADER_BYTES, MAX_BODY_BYTES, unpack_header

MAX_MESSAGE_BYTES: Final = HEADER_BYTES + MAX_BODY_BYTES

_MAP: Final = 0b101
_KIND_SHIFT: Final = 5


class RawDecoder:
    """Fed with pieces, gives messages that look whole. Memory: one message.

    In step again: byte by byte, at the next that looks like a message; a message that was cut is
    given up when the line falls silent (`quiet`), because only then it is known that it was.

    Attributes:
        dropped: bytes passed over.
    """

    def __init__(self, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.dropped = 0
        self._max_bytes = max_message_bytes
        self._held = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """What is whole with these bytes."""
        self._held += data
        found = []
        start = 0
        while (size_bytes := self._judge(start)) is not None:
            if size_bytes:
                found.append(bytes(self._held[start : start + size_bytes]))
            else:
                self.dropped += 1
            start += size_bytes or 1
        del self._held[:start]
        return found

    def quiet(self) -> list[bytes]:
        """The line has been silent: what has begun will not be finished, what lies in it may be."""
        found = []
        while self._held:
            self.dropped += 1
            del self._held[0]
            found += self.feed(b"")
        return found

    def _judge(self, start: int) -> int | None:
        """Bytes of the message that begins there; 0: none does; ``None``: more bytes will tell."""
        held = len(self._held) - start
        if held < 2:
            # Few bytes can be the first; the second is always zero.
            return None
        if self._held[start] > 0b1_1111 or self._held[start + 1]:
            return 0
        if held < HEADER_BYTES:
            return None
        try:
            header = unpack_header(self._held[start : start + HEADER_BYTES])
        except MalformedError:
            return 0
        size_bytes = HEADER_BYTES + header.length
        if size_bytes > self._max_bytes or not header.length:
            return 0
        if held > HEADER_BYTES and self._held[start + HEADER_BYTES] >> _KIND_SHIFT != _MAP:
            return 0
        if held < size_bytes:
            return None
        return size_bytes if self._is_whole(start + HEADER_BYTES, start + size_bytes) else 0

    def _is_whole(self, start: int, stop: int) -> bool:
        try:
            decode_body(bytes(self._held[start:stop]), whole=True)
        except MalformedError:
            return False
        return True
