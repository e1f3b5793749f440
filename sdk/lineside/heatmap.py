"""A picture for people: the frame, what the map says over it, and the verdict in words below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from lineside.contract import AnomalyHead, Contract
from lineside.frame import Pixels
from lineside.preprocess import reduce_depth
from lineside.verdict import Region, Verdict

# Smaller ones are enlarged: a line of text needs so much room.
_SHORTEST_WIDTH_PX: Final = 480
_MOST_HEAT: Final = 0.5  # the defect itself must stay visible
_BOX_RGB: Final = (255, 255, 255)
_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
_LETTER: Final = 0.5  # of the font's 22 px
_LINE_PX: Final = 20
_LINE_LETTERS: Final = 50  # of _SHORTEST_WIDTH_PX, at 9.3 px each


def draw_heatmap(
    pixels_hwc: Pixels,
    map_hw: NDArray[np.float32],
    verdict: Verdict,
    contract: Contract,
    *,
    longest_px: int | None = None,
) -> NDArray[np.uint8]:
    """Lay a map over its frame.

    Colour goes from none at the map's lowest value to full at its largest, or at the limit of
    regions where that is higher: so the noise of a good part does not look like a defect.

    Args:
        pixels_hwc: (H, W, C) uint8 or uint16, the frame that was inspected.
        map_hw: (h, w) float32, spread evenly over it; what is not finite is left without colour.
        verdict: of this frame.
        contract: of the model.
        longest_px: a larger frame is made smaller, so that its longer side has so many.

    Returns:
        (H', W', 3) uint8 RGB: the frame, and two lines of text below it.
    """
    frame_h, frame_w = pixels_hwc.shape[:2]
    scale = _scale((frame_h, frame_w), longest_px)
    size_wh = max(1, round(frame_w * scale)), max(1, round(frame_h * scale))
    gray_or_rgb = reduce_depth(pixels_hwc, contract.frame)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    resized = cv2.resize(gray_or_rgb, size_wh, interpolation=method)
    rgb = cv2.cvtColor(resized, cv2.COLOR_GRAY2RGB) if resized.ndim == 2 else resized
    picture = cast(NDArray[np.uint8], rgb)
    limit = contract.head.region_limit if isinstance(contract.head, AnomalyHead) else 0.0
    picture = _heat(picture, _share(map_hw, limit), size_wh)
    for number, finding in enumerate(verdict.findings, start=1):
        if finding.region is not None:
            _box(picture, finding.region, scale, str(number))
    return _write_below(picture, _words(verdict, map_hw, limit))


def _scale(size_hw: tuple[int, int], longest_px: int | None) -> float:
    longest = max(size_hw)
    if longest_px is not None and longest > longest_px:
        return longest_px / longest
    return float(max(1, _SHORTEST_WIDTH_PX // size_hw[1])) if longest < _SHORTEST_WIDTH_PX else 1.0


def _share(map_hw: NDArray[np.float32], limit: float) -> NDArray[np.float32]:
    """How much colour each cell gets: (h, w) float32 in 0..1."""
    finite_hw = np.isfinite(map_hw)
    if not finite_hw.any():
        return np.zeros(map_hw.shape, np.float32)
    values_hw = map_hw.astype(np.float64)
    low = float(values_hw[finite_hw].min())
    span = max(float(values_hw[finite_hw].max()), limit) - low
    if span <= 0:
        return np.zeros(map_hw.shape, np.float32)
    return np.where(finite_hw, (values_hw - low) / span, 0.0).astype(np.float32)


def _heat(
    picture: NDArray[np.uint8], share_hw: NDArray[np.float32], size_wh: tuple[int, int]
) -> NDArray[np.uint8]:
    share = cv2.resize(share_hw, size_wh, interpolation=cv2.INTER_LINEAR)
    colour = cv2.applyColorMap((share * 255).astype(np.uint8), cv2.COLORMAP_JET)
    rgb = cv2.cvtColor(colour, cv2.COLOR_BGR2RGB)
    weight = _MOST_HEAT * share
    return cast(NDArray[np.uint8], cv2.blendLinear(rgb, picture, weight, 1 - weight))


def _box(picture: NDArray[np.uint8], region: Region, scale: float, number: str) -> None:
    start = int(region.x0_px * scale), int(region.y0_px * scale)
    end = round(region.x1_px * scale) - 1, round(region.y1_px * scale) - 1
    # Black below white is seen on any ground.
    for colour, width in (((0, 0, 0), 3), (_BOX_RGB, 1)):
        cv2.rectangle(picture, start, end, colour, width)
    below = start[0] + 3, start[1] + 15
    for colour, width in (((0, 0, 0), 3), (_BOX_RGB, 1)):
        cv2.putText(picture, number, below, _FONT, _LETTER, colour, width, cv2.LINE_AA)


def _words(verdict: Verdict, map_hw: NDArray[np.float32], limit: float) -> list[str]:
    score = "no score" if verdict.score is None else f"score {verdict.score:.4g}"
    against = "" if verdict.limit is None else f", limit {verdict.limit:.4g}"
    finite = map_hw[np.isfinite(map_hw)]
    peak = f"map up to {finite.max():.4g}" if finite.size else "the map has no finite value"
    return [
        f"{verdict.evaluation.name}  {score}{against}  {verdict.part_id}",
        f"{peak}, limit of regions {limit:.4g}",
    ]


def _write_below(picture: NDArray[np.uint8], lines: Sequence[str]) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    band_h = _LINE_PX * len(lines) + 6
    whole = np.zeros((height + band_h, max(width, _SHORTEST_WIDTH_PX), 3), np.uint8)
    whole[:height, :width] = picture
    for row, line in enumerate(lines, start=1):
        plain = "".join(letter if " " <= letter <= "~" else "?" for letter in line)
        place = 6, height + _LINE_PX * row - 4
        text = plain[: _LINE_LETTERS * whole.shape[1] // _SHORTEST_WIDTH_PX]
        cv2.putText(whole, text, place, _FONT, _LETTER, _BOX_RGB, 1, cv2.LINE_AA)
    return whole
