"""Which framings there are, and what they have in common."""

from __future__ import annotations

from enum import Enum
from typing import Final, Protocol

from lineside_bridge.framing.cobs import CobsDecoder, encode_cobs
from lineside_bridge.framing.console import ConsoleDecoder, encode_console
from lineside_bridge.framing.raw import MAX_MESSAGE_BYTES, RawDecoder


class Framing(str, Enum):
    """How messages are told from each other on a line."""

    CONSOLE = "console"
    RAW = "raw"
    COBS = "cobs"


class Decoder(Protocol):
    """Bytes of a line to messages.

    Attributes:
        dropped: what could not be used so far: frames, of `Framing.RAW` bytes.
    """

    dropped: int

    def feed(self, data: bytes) -> list[bytes]:
        """Messages (header and body) that are whole with these bytes, in their order."""

    def quiet(self) -> list[bytes]:
        """Say that nothing has come for longer than a pause inside a frame may last."""


# Around a message in the receiver's buffer. Of the console Zephyr and MCUboot keep length and CRC
# there; of COBS the stuffed frame.
_CONSOLE_AROUND_BYTES: Final = 4
_COBS_AROUND_BYTES: Final = 4
_COBS_BLOCK_BYTES: Final = 254


def encode_frame(framing: Framing, message: bytes) -> bytes:
    """A message's bytes on the line."""
    if framing is Framing.CONSOLE:
        return encode_console(message)
    return encode_cobs(message) if framing is Framing.COBS else message


def new_decoder(framing: Framing, max_message_bytes: int = MAX_MESSAGE_BYTES) -> Decoder:
    """A decoder at the beginning of a line.

    Args:
        max_message_bytes: header and body; a frame that claims more is passed over at once.
    """
    if framing is Framing.CONSOLE:
        return ConsoleDecoder(max_message_bytes)
    return (CobsDecoder if framing is Framing.COBS else RawDecoder)(max_message_bytes)


def message_room_bytes(framing: Framing, buffer_bytes: int) -> int:
    """The longest message (header and body) that a receiver with this buffer takes."""
    if framing is Framing.CONSOLE:
        return buffer_bytes - _CONSOLE_AROUND_BYTES
    if framing is Framing.COBS:
        return buffer_bytes - _COBS_AROUND_BYTES - buffer_bytes // _COBS_BLOCK_BYTES
    return buffer_bytes


def resync_bytes(framing: Framing) -> bytes:
    """Sent before a repeated request: ends whatever the receiver takes for an unfinished frame."""
    return {Framing.CONSOLE: b"\n", Framing.COBS: b"\x00", Framing.RAW: b""}[framing]
