"""Anomaly: the score is how unlike the good parts an image is; findings say where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lineside.contract import AnomalyHead
from lineside.heads.regions import find_places
from lineside.verdict import Finding

NAME: Final = "anomaly"
MAX_FINDINGS: Final = 16
"""More regions than a person looks at; a map that is broken could have a thousand."""


def score_anomaly(
    outputs: Mapping[str, NDArray[np.float32]], head: AnomalyHead
) -> NDArray[np.float64]:
    """Read the scores.

    Args:
        outputs: by name; ``outputs[head.output]`` is (N,) or (N, 1) float32.
        head: which output.

    Returns:
        (N,) float64; higher is more anomalous.
    """
    values = outputs[head.output]
    return values.reshape(values.shape[0]).astype(np.float64)


def find_anomaly(
    outputs: Mapping[str, NDArray[np.float32]], head: AnomalyHead, frame_size_hw: tuple[int, int]
) -> list[tuple[Finding, ...]]:
    """The regions of each image's map beyond ``head.region_limit``.

    Cells that touch, by a corner too, make one region. Where no value is beyond the limit, the one
    region around the peak, so that whoever looks at the part is shown a place all the same.

    Args:
        outputs: by name; ``outputs[head.map]`` is (N, h, w) float32. Values that are not finite
            belong to no region.
        head: which output, which limit.
        frame_size_hw: of the frames as acquired, pixels; regions are in them.

    Returns:
        N tuples, the largest peak first, at most `MAX_FINDINGS` each: of more regions those with
        the largest peaks. None where the head has no map; one without a region where the map has no
        finite value, so that one sees that it should have told the place.
    """
    if not head.map:
        return [()] * outputs[head.output].shape[0]
    return [_find(map_hw, head.region_limit, frame_size_hw) for map_hw in outputs[head.map]]


def _find(
    map_hw: NDArray[np.float32], limit: float, frame_size_hw: tuple[int, int]
) -> tuple[Finding, ...]:
    places = find_places(map_hw, limit, frame_size_hw, at_most=MAX_FINDINGS)
    if not places:
        return (Finding(name=NAME),)
    return tuple(
        Finding(name=NAME, region=place.region, area_px=place.area_px, peak=place.peak)
        for place in places
    )
