"""Messages to bytes on a serial line and back. Pure: bytes in, bytes out, no clock, no port.

For both sides: a decoder is fed with whatever pieces a line gives, and hands out whole messages.
Garbage, cut and doubled frames never stall it; docs/smp.md has each framing's rule.
"""

from lineside_bridge.framing.cobs import CobsDecoder, encode_cobs
from lineside_bridge.framing.console import ConsoleDecoder, encode_console
from lineside_bridge.framing.detect import DetectingDecoder
from lineside_bridge.framing.kinds import (
    Decoder,
    Framing,
    encode_frame,
    message_room_bytes,
    new_decoder,
    resync_bytes,
)
from lineside_bridge.framing.raw import RawDecoder

__all__ = [
    "CobsDecoder",
    "ConsoleDecoder",
    "Decoder",
    "DetectingDecoder",
    "Framing",
    "RawDecoder",
    "encode_cobs",
    "encode_console",
    "encode_frame",
    "message_room_bytes",
    "new_decoder",
    "resync_bytes",
]
