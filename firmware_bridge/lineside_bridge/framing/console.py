"""The framing that shares its line with a shell and a log: text, each line marked, CRC at the end.

A frame is base64 of: length of what follows (2 bytes), message, CRC-16/XMODEM of the message (2),
all big-endian; cut into lines of at most 127 bytes: ``06 09`` before the first, ``04 14`` before
the others, a newline after each. What is not so marked is somebody's log and is passed over.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Final

from lineside_bridge.header import is_whole

LINE_BYTES: Final = 127
START: Final = b"\x06\x09"
CONTINUE: Final = b"\x04\x14"
END: Final = b"\n"
# Our own lines have 127; some servers are set to longer ones.
LINE_LIMIT_BYTES: Final = 4096

_NUMBER: Final = struct.Struct(">H")
_BLOCK_CHARS: Final = 4
_CARRIAGE_RETURN_BYTES: Final = 1  # a terminal driver may put one before each newline
# Whole base64 blocks, so that each line can be decoded alone.
_LINE_CHARS: Final = (
    (LINE_BYTES - len(START) - _CARRIAGE_RETURN_BYTES - len(END)) // _BLOCK_CHARS * _BLOCK_CHARS
)
_AROUND_BYTES: Final = 2 * _NUMBER.size
MAX_MESSAGE_BYTES: Final = 0xFFFF - _NUMBER.size

assert _LINE_CHARS == 120


def crc16(message: bytes) -> int:
    """CRC-16/XMODEM: polynomial 0x1021, begins with 0."""
    return binascii.crc_hqx(message, 0)


def encode_console(message: bytes) -> bytes:
    """All lines of a message.

    Raises:
        ValueError: longer than its length can say; none of our messages is.
    """
    if len(message) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message of {len(message)} bytes; at most {MAX_MESSAGE_BYTES}")
    length = _NUMBER.pack(len(message) + _NUMBER.size)
    text = base64.b64encode(length + message + _NUMBER.pack(crc16(message)))
    lines = [text[start : start + _LINE_CHARS] for start in range(0, len(text), _LINE_CHARS)]
    return START + (END + CONTINUE).join(lines) + END


class ConsoleDecoder:
    """Fed with pieces, gives messages whose lengths and CRC hold. Memory: one line, one frame.

    In step again: at the next line that begins a frame, wherever it was lost.

    Attributes:
        dropped: frames and lines that were begun and could not be used.
    """

    def __init__(self, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.dropped = 0
        self._max_bytes = max_message_bytes
        self._line = bytearray()
        self._overlong = False
        self._frame: bytearray | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """What is whole with these bytes."""
        *ended, begun = data.split(END)
        found = []
        for piece in ended:
            self._extend(piece)
            message = self._take_line()
            if message is not None:
                found.append(message)
        self._extend(begun)
        return found

    def quiet(self) -> list[bytes]:
        """The line has been silent: nothing changes, the next marker counts anyway."""
        return []

    def _extend(self, piece: bytes) -> None:
        if len(self._line) + len(piece) > LINE_LIMIT_BYTES:
            self._overlong = True
            self._line.clear()
        elif not self._overlong:
            self._line += piece

    def _take_line(self) -> bytes | None:
        line, overlong = bytes(self._line), self._overlong
        self._line.clear()
        self._overlong = False
        # What stands before a marker is the rest of a log's line. Base64 has no such bytes.
        start, more = line.rfind(START), line.rfind(CONTINUE)
        if overlong or max(start, more) < 0:
            return None
        if start > more:
            self._give_up()
            self._frame = bytearray()
        if self._frame is None:
            self.dropped += 1
            return None
        return self._add(self._frame, line[max(start, more) + len(START) :].rstrip(b"\r"))

    def _add(self, frame: bytearray, text: bytes) -> bytes | None:
        try:
            frame += base64.b64decode(text, validate=True)
        except binascii.Error:
            self._give_up()
            return None
        if len(frame) < _AROUND_BYTES:
            return None
        expected_bytes = _NUMBER.size + _NUMBER.unpack_from(frame)[0]
        if expected_bytes > self._max_bytes + _AROUND_BYTES or len(frame) > expected_bytes:
            self._give_up()
        elif len(frame) == expected_bytes:
            return self._finish(frame)
        return None

    def _finish(self, frame: bytearray) -> bytes | None:
        message = bytes(frame[_NUMBER.size : -_NUMBER.size])
        crc_holds = _NUMBER.unpack(frame[-_NUMBER.size :])[0] == crc16(message)
        if not crc_holds or not is_whole(message):
            self._give_up()
            return None
        self._frame = None
        return message

    def _give_up(self) -> None:
        self.dropped += self._frame is not None
        self._frame = None
