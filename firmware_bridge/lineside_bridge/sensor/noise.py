"""What a bad line does to bytes. Pure: the same seed and the same bytes give the same faults.

Faults hang on the byte's place in the stream, not on how a port happens to cut it into pieces, so
that a run can be made again.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final

PIECE_BYTES: Final = 64  # what a USB adapter loses or doubles at once
_BITS: Final = 8


@dataclass(frozen=True, kw_only=True)
class NoiseSettings:
    """How bad a line is.

    Attributes:
        bit_error_rate: share of bits that arrive turned over, 0 to 0.5.
        drop, duplicate: share of pieces of 64 bytes that are lost, or arrive twice; 0 to 1.
        delay_ms: an answer is late by anything up to this.
        power_loss_every: flash operations, on average, from one loss of power to the next; 0: none.
        seed: of all chances.
    """

    bit_error_rate: float = 0.0
    drop: float = 0.0
    duplicate: float = 0.0
    delay_ms: float = 0.0
    power_loss_every: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, most in (("bit_error_rate", 0.5), ("drop", 1.0), ("duplicate", 1.0)):
            value = getattr(self, name)
            if not 0 <= value <= most:
                raise ValueError(f"{name} {value}: from 0 to {most}")


class Noise:
    """One direction of a line.

    Args:
        settings: how bad it is.
        name: of the direction: each has chances of its own.

    Attributes:
        flipped_bits, dropped_pieces, doubled_pieces: so far.
    """

    def __init__(self, settings: NoiseSettings, name: str = "") -> None:
        self.flipped_bits = 0
        self.dropped_pieces = 0
        self.doubled_pieces = 0
        self._settings = settings
        self._bits = random.Random(f"bits {name} {settings.seed}")
        self._pieces = random.Random(f"pieces {name} {settings.seed}")
        self._delays = random.Random(f"delays {name} {settings.seed}")
        self._next_error_bit = self._distance()
        self._piece = bytearray()
        self._piece_seen = 0
        self._fate = self._draw()

    def pass_on(self, data: bytes) -> bytes:
        """What arrives of these bytes."""
        if self._settings.drop or self._settings.duplicate:
            data = b"".join(self._lose_or_double(bytes([byte])) for byte in data)
        return self._flip(data)

    def delay_s(self) -> float:
        """How much later the next answer leaves."""
        return self._delays.uniform(0, self._settings.delay_ms) / 1000

    def _flip(self, data: bytes) -> bytes:
        bits = len(data) * _BITS
        if self._next_error_bit >= bits:
            self._next_error_bit -= bits
            return data
        garbled = bytearray(data)
        while self._next_error_bit < bits:
            at, bit = divmod(int(self._next_error_bit), _BITS)
            garbled[at] ^= 1 << bit
            self.flipped_bits += 1
            self._next_error_bit += 1 + self._distance()
        self._next_error_bit -= bits
        return bytes(garbled)

    def _distance(self) -> float:
        """Sound bits until the next error: geometric, so that one draw an error is enough."""
        rate = self._settings.bit_error_rate
        if not rate:
            return math.inf
        return float(int(math.log(1 - self._bits.random()) / math.log1p(-rate)))

    def _lose_or_double(self, byte: bytes) -> bytes:
        self._piece_seen += 1
        arrives = b"" if self._fate == "drop" else byte
        if self._fate == "duplicate":
            self._piece += byte
        if self._piece_seen < PIECE_BYTES:
            return arrives
        arrives += bytes(self._piece)
        self.dropped_pieces += self._fate == "drop"
        self.doubled_pieces += self._fate == "duplicate"
        self._piece.clear()
        self._piece_seen = 0
        self._fate = self._draw()
        return arrives

    def _draw(self) -> str:
        chance = self._pieces.random()
        if chance < self._settings.drop:
            return "drop"
        return "duplicate" if chance < self._settings.drop + self._settings.duplicate else ""


class PowerLoss:
    """When the power goes, by flash operations.

    Args:
        settings: how often, and the seed.
    """

    def __init__(self, settings: NoiseSettings) -> None:
        self._every = settings.power_loss_every
        self._random = random.Random(f"power {settings.seed}")

    def draw(self) -> tuple[int, int] | None:
        """Operations from now until the next loss, and the byte it is torn at; ``None``: never."""
        if not self._every:
            return None
        return self._random.randrange(2 * self._every), self._random.randrange(256)
