"""Frame to model input. The trainer, the exporter and the device call this same function.

Only geometry and depth happen here; cast and normalisation are inside the graph. OpenCV is loaded
by the first frame that needs it, a golden one as a rule: a camera that gives what the model takes
saves its 17 MB.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from lineside.contract import FrameSpec, InputSpec
from lineside.errors import FrameError
from lineside.frame import Pixels

# By its name in casts: spelt out, the subscript costs more at each call than all checks.
_Bytes = NDArray[np.uint8]
_DEPTHS: Final = {np.dtype(np.uint8): 8, np.dtype(np.uint16): 16}
_WINDOWS_KEPT: Final = 16  # tables of 64 KiB


class Workspace:
    """Arrays of a frame's size that `prepare` takes again from call to call, for one thread.

    A frame's size is what the memory allocator fetches from the system anew each time: writing
    gray into a kept array instead of a fresh one saves a page fault every 4 KiB.
    """

    def __init__(self) -> None:
        self._kept: dict[str, NDArray[np.uint8]] = {}

    def array(self, use: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """The one for this use, holding whatever it held; it grows and never shrinks."""
        size = math.prod(shape)
        kept = self._kept.get(use)
        if kept is None or kept.size < size:
            kept = self._kept[use] = np.empty(size, np.uint8)
        return kept[:size].reshape(shape)


def check_frame(pixels_hwc: Pixels, spec: FrameSpec, *, source: str = "frame") -> None:
    """Refuse a frame the model was not made for.

    Raises:
        FrameError: with the reason ``frame_depth``, ``frame_channels`` or ``frame_size``.
    """
    if _DEPTHS.get(pixels_hwc.dtype) != spec.bit_depth:
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
    pixels_hwc: Pixels,
    frame: FrameSpec,
    model_input: InputSpec,
    *,
    source: str = "frame",
    workspace: Workspace | None = None,
    out_hwc: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Check, reduce to 8 bit, convert colour, resize.

    Args:
        pixels_hwc: (H, W, C) uint8 or uint16 as ``frame`` says.
        frame: what is accepted.
        model_input: what the graph takes.
        source: named in errors.
        workspace: for what lies between; ``None`` makes it anew. The values are the same.
        out_hwc: written to where anything had to change; of the size of ``model_input``.

    Returns:
        (H, W, C) uint8 of ``model_input``; the very array that came in where nothing had to change,
        else ``out_hwc``, or a new one.

    Raises:
        FrameError: the frame is not one the model was made for.
    """
    check_frame(pixels_hwc, frame, source=source)
    height, width, channels = pixels_hwc.shape
    to_gray, to_three = channels > model_input.channels, channels < model_input.channels
    resizes = (height, width) != model_input.size_hw
    pixels = pixels_hwc
    if frame.bit_depth == 16:
        last = not (to_gray or resizes or to_three)
        into = out_hwc if last else _room(workspace, "8 bit", pixels.shape)
        pixels = _to_8_bit(pixels, frame.window, into)
    if to_gray:
        into = _room(workspace, "gray", (height, width, 1)) if resizes else out_hwc
        pixels = _to_gray(pixels, into)
    if resizes:
        size_hw = model_input.size_hw
        into = _room(workspace, "small", (*size_hw, channels)) if to_three else out_hwc
        pixels = _resize(pixels, size_hw, into)
    if to_three:  # last: three equal channels resize as one does, at a third of the cost
        pixels = _to_three(pixels, out_hwc)
    return cast(_Bytes, pixels)


def reduce_depth(pixels_hwc: Pixels, frame: FrameSpec) -> NDArray[np.uint8]:
    """A frame that was checked in 8 bit: (H, W, C) uint8, 16 bit by the window of ``frame``."""
    if frame.bit_depth == 16:
        return _to_8_bit(pixels_hwc, frame.window, None)
    return pixels_hwc.astype(np.uint8, copy=False)


def _room(
    workspace: Workspace | None, use: str, shape: tuple[int, ...]
) -> NDArray[np.uint8] | None:
    return None if workspace is None else workspace.array(use, shape)


@lru_cache(maxsize=_WINDOWS_KEPT)
def _table(window: tuple[int, int]) -> NDArray[np.uint8]:
    """(65536,) uint8: what becomes of each 16-bit value."""
    low, high = window
    scaled = (np.arange(65536, dtype=np.float32) - low) * (255.0 / (high - low))
    rounded: NDArray[np.float32] = np.clip(np.rint(scaled), 0, 255)
    return rounded.astype(np.uint8)


def _to_8_bit(
    pixels_hwc: Pixels, window: tuple[int, int], into_hwc: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    import cv2

    found = cv2.LUT(pixels_hwc, _table(window), dst=into_hwc)
    return cast(_Bytes, found).reshape(pixels_hwc.shape)


def _to_gray(pixels_hwc: Pixels, into_hwc: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    import cv2

    found = cast(_Bytes, cv2.cvtColor(pixels_hwc, cv2.COLOR_RGB2GRAY, dst=into_hwc))
    return found.reshape(*pixels_hwc.shape[:2], 1)


def _to_three(pixels_hwc: Pixels, into_hwc: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    import cv2

    return cast(_Bytes, cv2.cvtColor(pixels_hwc, cv2.COLOR_GRAY2RGB, dst=into_hwc))


def _resize(
    pixels_hwc: Pixels, size_hw: tuple[int, int], into_hwc: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    import cv2

    height, width = size_hw
    # Area averages keep small voids visible when shrinking; enlarging, they would be nearest.
    shrinks = pixels_hwc.shape[0] >= height and pixels_hwc.shape[1] >= width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(pixels_hwc, (width, height), dst=into_hwc, interpolation=method)
    return cast(_Bytes, resized).reshape(height, width, pixels_hwc.shape[2])
