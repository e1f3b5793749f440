"""What a picture says of its light and its focus, by one function for exporter and device."""

from __future__ import annotations

import math
from typing import Final, cast

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from lineside.contract import FrameSpec
from lineside.frame import Pixels
from lineside.preprocess import check_frame, reduce_depth

# A quarter of a megapixel says as much of the light as twenty; sharpness wants neighbours.
_LIGHT_SIDE_PX: Final = 512
_FOCUS_SIDE_PX: Final = 1024
_SMOOTH_PX: Final = 1.0  # standard deviation of a Gaussian
# Below these nothing but rounding is left; a picture without contrast is as unsharp as can be.
_LEAST_CONTRAST: Final = 1e-3  # gray levels, squared
_LEAST_SHARPNESS: Final = 2.0**-20


class PictureStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Of one region's pixels, as acquired.

    Attributes:
        light: mean over all pixels and channels, 0 black to 1 white; of 16 bit, by the window.
        clipping: share of pixels with a channel that is all black or all white, 0..1.
        focus: binary logarithm of the variance of the smoothed picture's Laplacian over that of
            its pixels: 1 more is twice as much fine detail in the same contrast; -20 where there
            is none.
    """

    light: float
    clipping: float
    focus: float


def measure_picture(pixels_hwc: Pixels, spec: FrameSpec) -> PictureStatistics:
    """Light, clipping and focus of a frame, or of the region of one that a model is given.

    Large pictures are measured in part: light on evenly spaced rows and columns, focus on the
    middle 1024 by 1024 pixels.

    Args:
        pixels_hwc: (H, W, C) uint8 or uint16 as ``spec`` says.
        spec: of the contract.

    Raises:
        FrameError: not such a frame.
    """
    check_frame(pixels_hwc, spec)
    height, width = pixels_hwc.shape[:2]
    spread = pixels_hwc[:: -(-height // _LIGHT_SIDE_PX), :: -(-width // _LIGHT_SIDE_PX)]
    top, left = (max(0, (size - _FOCUS_SIDE_PX) // 2) for size in (height, width))
    middle = pixels_hwc[top : top + _FOCUS_SIDE_PX, left : left + _FOCUS_SIDE_PX]
    light, clipping = _light(np.ascontiguousarray(reduce_depth(spread, spec)))
    focus = _focus(np.ascontiguousarray(reduce_depth(middle, spec)))
    return PictureStatistics(light=light, clipping=clipping, focus=focus)


def _light(pixels_hwc: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and clipped share, both 0..1."""
    channels = pixels_hwc.shape[2]
    mean = sum(cv2.mean(pixels_hwc)[:channels]) / channels
    unclipped = cv2.countNonZero(cv2.inRange(pixels_hwc, (1,) * channels, (254,) * channels))
    return mean / 255.0, 1.0 - unclipped / (pixels_hwc.shape[0] * pixels_hwc.shape[1])


def _focus(pixels_hwc: NDArray[np.uint8]) -> float:
    """Variance of the smoothed picture's Laplacian (Pech-Pacheco et al. 2000) over its contrast.

    Light has no say, and the sensor's noise little: without smoothing pictures of discs blurred by
    2 px had as much detail as sharp ones, all of it noise (benchmarks/drift_alarms.py).
    """
    gray = cv2.GaussianBlur(_gray(pixels_hwc).astype(np.float32), (0, 0), _SMOOTH_PX)
    contrast = _variance(cast(NDArray[np.float32], gray))
    if contrast < _LEAST_CONTRAST:
        return math.log2(_LEAST_SHARPNESS)
    detail = _variance(cast(NDArray[np.float32], cv2.Laplacian(gray, cv2.CV_32F)))
    return math.log2(max(detail / contrast, _LEAST_SHARPNESS))


def _gray(pixels_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if pixels_hwc.shape[2] == 1:
        return pixels_hwc[:, :, 0]
    return cast(NDArray[np.uint8], cv2.cvtColor(pixels_hwc, cv2.COLOR_RGB2GRAY))


def _variance(values: NDArray[np.float32]) -> float:
    _, deviation = cv2.meanStdDev(values)
    return float(deviation.item()) ** 2
