"""Acquired pixels with their format and time, and how to read them from an encoded image.

OpenCV is loaded by the first image that is decoded: pixels that come from elsewhere need none.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from lineside.errors import FrameError
from lineside.plainfile import read_whole

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

# 150 megapixels of 16-bit gray or 8-bit colour, uncompressed, are below it.
MAX_FILE_BYTES: Final = 512 * 2**20

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One acquisition.

    Attributes:
        pixels_hwc: (H, W, C) uint8 or uint16; C is 1 (gray) or 3 (RGB, in that order).
        source: where it came from, for people: a file name, a camera's address.
        part_id: the physical part on it, ``""`` where unknown.
        captured_unix_ns: wall-clock time of acquisition, nanoseconds since 1970 UTC.
    """

    pixels_hwc: Pixels
    source: str = ""
    part_id: str = ""
    captured_unix_ns: int = field(default_factory=time.time_ns)


def decode_frame(data: bytes, *, source: str, part_id: str = "") -> Frame:
    """Decode a PNG, JPEG, TIFF, BMP, WebP or PGM as it was stored: 8 or 16 bit, gray or RGB.

    An alpha channel is dropped. Orientation tags are ignored: a station's camera writes none.

    Raises:
        FrameError: the bytes are no image that can be decoded whole.
    """
    if not data:
        raise FrameError(f"{source}: the file is empty", reason="frame_decode")
    import cv2

    try:
        decoded = cv2.imdecode(
            np.frombuffer(data, dtype=np.uint8),
            cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION,
        )
    except (cv2.error, MemoryError) as error:
        told = f"{source}: cannot be decoded: {_why(error)}"
        raise FrameError(told, reason="frame_decode") from error
    if decoded is None:
        raise FrameError(
            f"{source}: is not an image that can be decoded (cut short, or another format?)",
            reason="frame_decode",
        )
    return Frame(pixels_hwc=as_hwc_rgb(decoded, source), source=source, part_id=part_id)


def read_frame(path: str | Path, *, part_id: str = "") -> Frame:
    """Read and decode one image file.

    Raises:
        FrameError: the file is missing, unreadable or no whole image.
    """
    path = Path(path)
    try:
        data = read_whole(path, limit_bytes=MAX_FILE_BYTES)
    except OSError as error:
        raise FrameError(f"{path}: {error.strerror}", reason="frame_missing") from error
    return decode_frame(data, source=str(path), part_id=part_id)


def encode_png(pixels_hwc: Pixels) -> bytes:
    """A frame's pixels, (H, W, C) uint8 or uint16 in RGB, as a PNG that `decode_frame` undoes."""
    import cv2

    # OpenCV keeps colours as blue, green, red.
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(pixels_hwc[:, :, ::-1]))
    return bytes(encoded)


def as_hwc_rgb(decoded: NDArray[Any], source: str) -> Pixels:
    """What OpenCV decodes as Lineside has it: (H, W, C) uint8 or uint16, gray or RGB.

    Args:
        decoded: (H, W), or (H, W, 3 or 4) in blue, green, red and alpha; alpha is dropped.
        source: for the message.

    Raises:
        FrameError: another depth, or another number of channels.
    """
    if decoded.dtype not in (np.uint8, np.uint16):
        raise FrameError(
            f"{source}: {decoded.dtype} pixels; Lineside reads 8 and 16 bit", reason="frame_depth"
        )
    if decoded.ndim == 2:
        return decoded[:, :, np.newaxis]
    import cv2

    colour = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}.get(decoded.shape[2])
    if colour is None:
        raise FrameError(f"{source}: {decoded.shape[2]} channels", reason="frame_channels")
    return cast(Pixels, cv2.cvtColor(decoded, colour))


def _why(error: Exception) -> str:
    """OpenCV's reason without the places in its sources."""
    why = " ".join((getattr(error, "err", "") or str(error)).split())
    if "CV_IO_MAX_IMAGE_PIXELS" in why:
        return (
            "more pixels than are decoded here; if they are meant, set the environment variable "
            "OPENCV_IO_MAX_IMAGE_PIXELS to a larger number"
        )
    return why or type(error).__name__
