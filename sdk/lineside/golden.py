"""Golden samples: frames with the outputs they must give, sealed to prove an engine on a device."""

from __future__ import annotations

from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineside.errors import BundleFormatError
from lineside.frame import Pixels

GOLDEN_PART: Final = "golden.msgpack"


class GoldenFrame(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frame as acquired, before any preprocessing.

    Attributes:
        shape_hwc: height, width, channels.
        dtype: of one value.
        pixels: row by row, channels innermost, little-endian.
    """

    shape_hwc: tuple[int, int, int]
    dtype: Literal["uint8", "uint16"]
    pixels: bytes

    @classmethod
    def from_pixels(cls, pixels_hwc: Pixels) -> GoldenFrame:
        """Take (H, W, C) uint8 or uint16 as it is."""
        height, width, channels = pixels_hwc.shape
        deep = pixels_hwc.dtype == np.uint16
        return cls(
            shape_hwc=(height, width, channels),
            dtype="uint16" if deep else "uint8",
            pixels=np.ascontiguousarray(pixels_hwc, "<u2" if deep else "u1").tobytes(),
        )

    @property
    def pixels_hwc(self) -> Pixels:
        """(H, W, C) uint8 or uint16, read-only."""
        kind = "<u2" if self.dtype == "uint16" else "u1"
        return np.frombuffer(self.pixels, kind).reshape(self.shape_hwc)


class GoldenExpectation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one output must be for all golden frames, with one engine and precision.

    Attributes:
        engine: which engine computed it.
        precision: of the weights.
        output: its name.
        values: little-endian float32, (N, *shape), frames in their order.
        tolerance_abs: the largest difference that another device may show, in the output's unit.
    """

    engine: str
    precision: str
    output: str
    values: bytes
    tolerance_abs: float

    @classmethod
    def from_values(
        cls,
        values: NDArray[np.float32],
        *,
        engine: str,
        precision: str,
        output: str,
        tolerance_abs: float,
    ) -> GoldenExpectation:
        """Take (N, *shape) float32 as an engine gave it."""
        return cls(
            engine=engine,
            precision=precision,
            output=output,
            values=np.ascontiguousarray(values, "<f4").tobytes(),
            tolerance_abs=tolerance_abs,
        )

    def expected(self, count: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """(count, *shape) float32, read-only.

        Raises:
            BundleFormatError: another number of values was sealed.
        """
        values = np.frombuffer(self.values, "<f4") if len(self.values) % 4 == 0 else np.zeros(0)
        wanted = (count, *shape)
        if values.size != int(np.prod(wanted)):
            raise BundleFormatError(
                f"{GOLDEN_PART}: {self.engine}/{self.precision} {self.output!r}: "
                f"{len(self.values)} bytes do not make {wanted} float32 values"
            )
        return values.astype(np.float32, copy=False).reshape(wanted)


class GoldenSamples(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Frames and what every engine in the bundle must make of them."""

    frames: tuple[GoldenFrame, ...]
    expectations: tuple[GoldenExpectation, ...]

    def expectation(self, engine: str, precision: str, output: str) -> GoldenExpectation | None:
        """The one for this engine, precision and output, if it was sealed."""
        for found in self.expectations:
            if (found.engine, found.precision, found.output) == (engine, precision, output):
                return found
        return None


def encode_golden(samples: GoldenSamples) -> bytes:
    """The bytes of the bundle's part `GOLDEN_PART` (MessagePack; the same for the same samples)."""
    return msgspec.msgpack.encode(samples)


def decode_golden(data: bytes | memoryview, *, source: str) -> GoldenSamples:
    """Read the part.

    Raises:
        BundleFormatError: not MessagePack, an unknown or missing key, or pixels that do not fill
            their shape.
    """
    try:
        samples = msgspec.msgpack.decode(data, type=GoldenSamples)
    except (msgspec.DecodeError, ValueError) as error:
        raise BundleFormatError(f"{source}: no golden samples: {error}") from error
    for position, frame in enumerate(samples.frames):
        size_bytes = (2 if frame.dtype == "uint16" else 1) * int(np.prod(frame.shape_hwc))
        if min(frame.shape_hwc) < 1 or size_bytes != len(frame.pixels):
            raise BundleFormatError(
                f"{source}: frame {position}: {len(frame.pixels)} bytes do not make "
                f"{frame.shape_hwc} {frame.dtype} pixels"
            )
    return samples
