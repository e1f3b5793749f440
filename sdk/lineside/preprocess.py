"""Frame to model input. The trainer, the exporter and the device call this same function.

Only geometry and depth happen here; cast and normalisation are inside the graph.
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from lineside.contract import FrameSpec, InputSpec
from lineside.errors import FrameError
from lineside.frame import Pixels


def check_frame(pixels_hwc: Pixels, spec: FrameSpec, *, source: str = "frame") -> None:
    """Refuse a frame the model was not made for.

    Raises:
        FrameError: with the reason ``frame_depth``, ``frame_channels`` or ``frame_size``.
    """
    if pixels_hwc.dtype not in (np.uint8, np.uint16) or pixels_hwc.itemsize * 8 != spec.bit_depth:
        raise FrameError(
            f"{source}: {pixels_hwc.dtype} pixels, the model takes {spec.bit_depth} bit",
            reason="frame_depth",
        )
    if pixels_hwc.ndim != 3 or pixels_hwc.shape[2] != spec.channels:
        raise FrameError(
            f"{source}: shape {pixels_hwc.shape}, the model takes (H, W, {spec.channels})",
            reason="frame_channels",
        )
    height, width = pixels_hwc.shape[:2]
    if 0 in (height, width) or (spec.size_hw is not None and (height, width) != spec.size_hw):
        expected = "x".join(map(str, spec.size_hw)) if spec.size_hw else "any size above 0"
        raise FrameError(
            f"{source}: {height}x{width} pixels (height x width), the model takes {expected}",
            reason="frame_size",
        )


def prepare(
    pixels_hwc: Pixels, frame: FrameSpec, model_input: InputSpec, *, source: str = "frame"
) -> NDArray[np.uint8]:
    """Check, reduce to 8 bit, convert colour, resize.

    Args:
        pixels_hwc: (H, W, C) uint8 or uint16 as ``frame`` says.
        frame: what is accepted.
        model_input: what the graph takes.
        source: named in errors.

    Returns:
        (H, W, C) uint8 of ``model_input``; the very array that came in where nothing had to change.

    Raises:
        FrameError: the frame is not one the model was made for.
    """
    check_frame(pixels_hwc, frame, source=source)
    pixels = reduce_depth(pixels_hwc, frame)
    return _resize(_to_channels(pixels, model_input.channels), model_input.size_hw)


def reduce_depth(pixels_hwc: Pixels, frame: FrameSpec) -> NDArray[np.uint8]:
    """A frame that was checked in 8 bit: (H, W, C) uint8, 16 bit by the window of ``frame``."""
    if frame.bit_depth == 16:
        return _to_8_bit(pixels_hwc, frame.window)
    return pixels_hwc.astype(np.uint8, copy=False)


def _to_8_bit(pixels_hwc: Pixels, window: tuple[int, int]) -> NDArray[np.uint8]:
    low, high = window
    scaled = (pixels_hwc.astype(np.float32) - low) * (255.0 / (high - low))
    clipped: NDArray[np.float32] = np.clip(np.rint(scaled), 0, 255)
    return clipped.astype(np.uint8)


def _to_channels(pixels_hwc: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    if pixels_hwc.shape[2] == channels:
        return pixels_hwc
    if channels == 1:
        gray_hw = cast(NDArray[np.uint8], cv2.cvtColor(pixels_hwc, cv2.COLOR_RGB2GRAY))
        return gray_hw[:, :, np.newaxis]
    return np.repeat(pixels_hwc, 3, axis=2)


def _resize(pixels_hwc: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = size_hw
    if pixels_hwc.shape[:2] == (height, width):
        return pixels_hwc
    # Area averages keep small voids visible when shrinking; enlarging, they would be nearest.
    shrinks = pixels_hwc.shape[0] >= height and pixels_hwc.shape[1] >= width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(pixels_hwc, (width, height), interpolation=method)
    return cast(NDArray[np.uint8], resized).reshape(height, width, pixels_hwc.shape[2])
