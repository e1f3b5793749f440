"""The picture of a map: any frame, any map, and colour that means something."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.contract import AnomalyHead, Contract, FrameSpec, InputSpec, OutputSpec
from lineside.heads import find_outputs
from lineside.heatmap import draw_heatmap
from lineside.verdict import Evaluation, Reason, Verdict

BAND_PX = 46


def contract(frame: FrameSpec, shape: tuple[int, int], limit: float = 0.5) -> Contract:
    return Contract(
        product="p",
        frame=frame,
        input=InputSpec(size_hw=(64, 64), channels=frame.channels),
        outputs=(OutputSpec(name="score"), OutputSpec(name="map", shape=shape)),
        head=AnomalyHead(map="map", region_limit=limit),
    )


def verdict_of(map_hw: np.ndarray, given_by: Contract, size_hw: tuple[int, int]) -> Verdict:
    outputs = {"score": np.ones(1, np.float32), "map": map_hw[np.newaxis]}
    return Verdict(
        evaluation=Evaluation.NOT_OK,
        reason=Reason.BEYOND_LIMIT,
        score=1.0,
        limit=0.5,
        part_id="Größe/1",
        findings=find_outputs(outputs, given_by.head, size_hw)[0],
    )


@given(
    st.tuples(st.integers(1, 90), st.integers(1, 700)),
    st.sampled_from([(1, 8), (3, 8), (1, 16), (3, 16)]),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from([0.0, 1.0, -3.0, 3e38, np.nan, np.inf, -np.inf]),
    st.none() | st.integers(1, 300),
)
def test_whatever_frame_and_map_there_is_a_picture(
    size_hw: tuple[int, int],
    form: tuple[int, int],
    shape: tuple[int, int],
    value: float,
    longest_px: int | None,
) -> None:
    channels, bits = form
    given_by = contract(FrameSpec(size_hw=None, channels=channels, bit_depth=bits), shape)
    pixels = np.full((*size_hw, channels), 100, np.uint8 if bits == 8 else np.uint16)
    map_hw = np.zeros(shape, np.float32)
    map_hw[0, 0] = value
    verdict = verdict_of(map_hw, given_by, size_hw)
    picture = draw_heatmap(pixels, map_hw, verdict, given_by, longest_px=longest_px)
    assert (picture.dtype, picture.shape[2]) == (np.uint8, 3)
    assert picture.shape[1] >= 480
    if longest_px is not None and max(size_hw) > longest_px:
        assert picture.shape[0] - BAND_PX <= longest_px


def test_a_large_frame_is_made_smaller_and_its_region_with_it() -> None:
    given_by = contract(FrameSpec(size_hw=None, channels=3), (64, 64))
    map_hw = np.zeros((64, 64), np.float32)
    map_hw[32:40, 16:24] = 2.0
    pixels = np.full((1536, 2048, 3), 90, np.uint8)
    verdict = verdict_of(map_hw, given_by, (1536, 2048))
    picture = draw_heatmap(pixels, map_hw, verdict, given_by, longest_px=1024)
    assert picture.shape == (768 + BAND_PX, 1024, 3)
    white = np.argwhere((picture[:768] == 255).all(axis=2))
    assert white.min(axis=0) == pytest.approx((384, 256))
    assert white.max(axis=0) == pytest.approx((479, 383))


def test_noise_below_the_limit_of_regions_is_paler_than_a_defect() -> None:
    def heat_of(peak: float) -> float:
        given_by = contract(FrameSpec(size_hw=None, channels=1), (8, 8), limit=0.5)
        map_hw = np.zeros((8, 8), np.float32)
        map_hw[4, 4] = peak
        quiet = Verdict(evaluation=Evaluation.OK, reason=Reason.WITHIN_LIMIT)
        pixels = np.full((480, 480, 1), 100, np.uint8)
        picture = draw_heatmap(pixels, map_hw, quiet, given_by)[:480].astype(int)
        return float(np.abs(picture - 100).max())

    assert heat_of(0.0) == 0
    assert heat_of(0.05) < heat_of(0.25) < heat_of(0.5)
    assert heat_of(0.5) == heat_of(5.0)
