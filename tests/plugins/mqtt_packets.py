"""MQTT control packets cut out of a stream of bytes (MQTT 3.1.1, section 2.2)."""

from __future__ import annotations

from typing import Final

PUBLISH: Final = 3
PUBACK: Final = 4


class Packets:
    """Gathers bytes and gives whole packets."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take what came; the packets that are whole now, in order."""
        self._buffer += data
        packets = []
        start = 0
        while (length := _length(self._buffer, start)) is not None:
            packets.append(bytes(self._buffer[start : start + length]))
            start += length
        del self._buffer[:start]
        return packets


def kind(packet: bytes) -> int:
    """The control packet's type, e.g. `PUBLISH`."""
    return packet[0] >> 4


def expects_puback(packet: bytes) -> bool:
    """Whether it is a PUBLISH of QoS 1 or 2."""
    return kind(packet) == PUBLISH and bool(packet[0] & 0x06)


def packet_id(packet: bytes) -> bytes:
    """Two bytes, of a PUBLISH of QoS 1 or a PUBACK."""
    start = 1
    while packet[start] & 0x80:
        start += 1
    start += 1
    if kind(packet) == PUBACK:
        return packet[start : start + 2]
    topic_bytes = int.from_bytes(packet[start : start + 2], "big")
    return packet[start + 2 + topic_bytes : start + 4 + topic_bytes]


def _length(buffer: bytearray, start: int) -> int | None:
    """Of the packet that begins there, header included; ``None`` while it is not whole."""
    remaining, shift = 0, 0
    for index, byte in enumerate(buffer[start + 1 : start + 5], start=1):
        remaining |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            total = 1 + index + remaining
            return total if len(buffer) - start >= total else None
    return None
