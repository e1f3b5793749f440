"""Framing by a byte that occurs nowhere else: ``00``, COBS of message and CRC-16/XMODEM, ``00``.

As smpclient 7.3 has it, and a proposal for MCUboot's serial recovery, but for the first ``00``: the
CRC is the console framing's, big-endian. One byte in 254 is added; a lost frame costs itself alone.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from lineside_bridge.framing.console import crc16
from lineside_bridge.header import is_whole

DELIMITER: Final = b"\x00"
MAX_MESSAGE_BYTES: Final = 0xFFFF

_CRC: Final = struct.Struct(">H")
_FULL: Final = 0xFF
_BLOCK_BYTES: Final = _FULL - 1
_EMPTY: Final = b"\x01"
_RUNS: Final = re.compile(rb"(\x00+)([^\x00]*)")
_EMPTIES: Final = re.compile(rb"\x01+")


def stuff(data: bytes) -> bytes:
    """Take the zeros out: Cheshire and Baker 1999, with a code for the last block always."""
    stuffed = bytearray()
    # Blank memory and padded weights are long runs of zeros: each run is one step, not each zero.
    # With one in front, each zero begins a block.
    for zeros, block in _RUNS.findall(DELIMITER + data):
        stuffed += _EMPTY * (len(zeros) - 1)
        full, rest = divmod(len(block), _BLOCK_BYTES)
        for start in range(0, full * _BLOCK_BYTES, _BLOCK_BYTES):
            stuffed.append(_FULL)
            stuffed += block[start : start + _BLOCK_BYTES]
        stuffed.append(rest + 1)
        stuffed += block[len(block) - rest :]
    return bytes(stuffed)


def unstuff(stuffed: bytes) -> bytes | None:
    """Put the zeros back; ``None``: no bytes stuff to these."""
    data = bytearray()
    start = 0
    while start < len(stuffed):
        code = stuffed[start]
        if code == _EMPTY[0]:
            run = _EMPTIES.match(stuffed, start, len(stuffed) - 1)
            if run is not None:  # all but a last one stand for a zero each
                data += bytes(run.end() - start)
                start = run.end()
                continue
        stop = start + code
        if code == 0 or stop > len(stuffed):
            return None
        data += stuffed[start + 1 : stop]
        if code != _FULL and stop < len(stuffed):
            data.append(0)
        start = stop
    return bytes(data)


def encode_cobs(message: bytes) -> bytes:
    """One frame between two delimiters.

    The one before it is ours: what a log or a cut frame left there shall not cost this one, too.
    Others pass over empty frames.
    """
    return DELIMITER + stuff(message + _CRC.pack(crc16(message))) + DELIMITER


class CobsDecoder:
    """Fed with pieces, gives messages whose CRC and length hold. Memory: one frame.

    In step again: after the next ``00``, wherever it was lost.

    Attributes:
        dropped: frames that could not be used.
    """

    def __init__(self, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.dropped = 0
        whole_bytes = max_message_bytes + _CRC.size
        self._limit_bytes = whole_bytes + whole_bytes // _BLOCK_BYTES + 1
        self._begun = bytearray()
        self._overlong = False

    def feed(self, data: bytes) -> list[bytes]:
        """What is whole with these bytes."""
        *ended, begun = data.split(DELIMITER)
        found = []
        for piece in ended:
            self._extend(piece)
            message = self._take()
            if message is not None:
                found.append(message)
        self._extend(begun)
        return found

    def quiet(self) -> list[bytes]:
        """The line has been silent: what has begun will not be finished."""
        self.dropped += bool(self._begun)
        self._begun.clear()
        return []

    def _extend(self, piece: bytes) -> None:
        if len(self._begun) + len(piece) > self._limit_bytes:
            self._overlong = True
            self._begun.clear()
        elif not self._overlong:
            self._begun += piece

    def _take(self) -> bytes | None:
        stuffed, overlong = bytes(self._begun), self._overlong
        self._begun.clear()
        self._overlong = False
        if not stuffed and not overlong:  # a delimiter more than needed
            return None
        data = None if overlong else unstuff(stuffed)
        if data is None or len(data) <= _CRC.size:
            self.dropped += 1
            return None
        message, crc = data[: -_CRC.size], data[-_CRC.size :]
        if _CRC.unpack(crc)[0] != crc16(message) or not is_whole(message):
            self.dropped += 1
            return None
        return message
