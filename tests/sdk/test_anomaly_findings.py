"""Maps to findings: hand-made ones with known regions, broken ones, and any at all."""

from __future__ import annotations

from statistics import median
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from lineside.contract import AnomalyHead
from lineside.heads import find_outputs, score_outputs
from lineside.heads.anomaly import MAX_FINDINGS
from lineside.verdict import Finding, Region

HEAD = AnomalyHead(map="map", region_limit=0.5)


def find(
    map_hw: NDArray[np.float32], frame_size_hw: tuple[int, int], head: AnomalyHead = HEAD
) -> tuple[Finding, ...]:
    outputs = {"score": np.ones(1, np.float32), "map": map_hw[np.newaxis]}
    (findings,) = find_outputs(outputs, head, frame_size_hw)
    return findings


def empty(height: int, width: int) -> NDArray[np.float32]:
    return np.zeros((height, width), np.float32)


def corners(finding: Finding) -> tuple[int, int, int, int]:
    region = finding.region
    assert region is not None
    return region.x0_px, region.y0_px, region.x1_px, region.y1_px


def test_a_fine_map_s_region_is_its_cells_in_pixels_of_a_frame_that_is_not_square() -> None:
    map_hw = empty(64, 64)
    map_hw[10:14, 20:23] = 2.0
    map_hw[11, 21] = 3.0
    (finding,) = find(map_hw, (1536, 2048))  # a cell is 24 px high and 32 px wide
    assert finding == Finding(
        name="anomaly",
        region=Region(x0_px=640, y0_px=240, x1_px=736, y1_px=336),
        area_px=4 * 3 * 24 * 32,
        peak=3.0,
    )
    assert finding.probability is None


def test_a_frame_smaller_than_its_map_has_no_empty_region() -> None:
    map_hw = empty(64, 64)
    map_hw[33, 7] = 1.0
    (finding,) = find(map_hw, (20, 10))
    assert corners(finding) == (1, 10, 2, 11)
    assert finding.area_px == 1


def test_a_coarse_map_s_region_holds_its_cell_and_reaches_into_its_neighbours() -> None:
    """Barely beyond the limit it is the cell; far beyond, the enlarged map grows around it."""
    barely, far = empty(8, 8), empty(8, 8)
    barely[2, 3] = 0.51
    far[2, 3] = 5.0
    (small,) = find(barely, (800, 1600))
    assert corners(small) == (600, 200, 800, 300)
    assert small.area_px == 200 * 100
    (large,) = find(far, (800, 1600))
    x0, y0, x1, y1 = corners(large)
    # 0.5 of 5 is a tenth: the edge lies nine tenths of the way to the next cell's middle.
    assert (x0, x1) == pytest.approx((700 - 180, 700 + 180), abs=200 / 9)
    assert (y0, y1) == pytest.approx((250 - 90, 250 + 90), abs=100 / 9)
    assert small.area_px < large.area_px <= (x1 - x0) * (y1 - y0)


def test_cells_that_touch_by_a_corner_are_of_one_region() -> None:
    map_hw = empty(64, 64)
    map_hw[5, 5] = map_hw[6, 6] = 1.0
    map_hw[5, 8] = 2.0
    strong, weak = find(map_hw, (64, 64))
    assert (corners(strong), corners(weak)) == ((8, 5, 9, 6), (5, 5, 7, 7))
    assert (strong.area_px, weak.area_px) == (1, 2)


def test_the_largest_peak_comes_first_and_sixteen_are_enough() -> None:
    map_hw = empty(64, 64)
    peaks = np.random.default_rng(3).permutation(np.arange(1, 41)).astype(np.float32)
    for index, peak in enumerate(peaks):
        map_hw[2 * (index // 8), 3 * (index % 8)] = peak
    findings = find(map_hw, (640, 640))
    assert [finding.peak for finding in findings] == [*range(40, 24, -1)]
    assert len(findings) == MAX_FINDINGS == 16


@pytest.mark.parametrize("side", [1, 8, 64])
def test_regions_at_the_borders_end_with_the_frame(side: int) -> None:
    map_hw = empty(side, side)
    map_hw[0, 0] = map_hw[-1, -1] = 9.0
    findings = find(map_hw, (301, 203))
    assert corners(findings[0])[:2] == (0, 0)
    assert corners(findings[-1])[2:] == (203, 301)
    assert len(findings) == (1 if side == 1 else 2)


@pytest.mark.parametrize("shape", [(8, 8), (64, 64), (3, 70)])
def test_a_map_that_is_all_beyond_is_the_whole_frame(shape: tuple[int, int]) -> None:
    (finding,) = find(np.full(shape, 0.6, np.float32), (480, 640))
    assert corners(finding) == (0, 0, 640, 480)
    assert finding.area_px == 480 * 640


def test_at_the_limit_is_not_beyond_it() -> None:
    map_hw = np.full((8, 8), 0.5, np.float32)
    map_hw[0, 0] = np.nextafter(np.float32(0.5), np.float32(1))
    (finding,) = find(map_hw, (80, 80))
    assert corners(finding) == (0, 0, 10, 10)


@pytest.mark.parametrize("limit", [0.1, 0.3, 1e-7])
def test_at_a_limit_that_single_precision_cannot_hold_is_not_beyond_it_either(limit: float) -> None:
    """All are more in single precision than in double; the peak's region is named all the same."""
    map_hw = empty(8, 8)
    map_hw[2, 2] = map_hw[5, 5] = limit
    (finding,) = find(map_hw, (80, 80), AnomalyHead(map="map", region_limit=limit))
    assert finding.peak == np.float32(limit)


@pytest.mark.parametrize("side", [8, 64, 65])
def test_of_equal_peaks_the_upper_left_comes_first(side: int) -> None:
    cells = [(1, 6), (3, 1), (3, 4), (6, 0), (side - 1, side - 1)]
    map_hw = empty(side, side)
    for row, column in cells:
        map_hw[row, column] = 2.0
    found = [corners(finding) for finding in find(map_hw, (side * 10, side * 10))]
    assert [
        (y0 // 10 <= row <= y1 // 10, x0 // 10 <= column <= x1 // 10)
        for (x0, y0, x1, y1), (row, column) in zip(found, cells, strict=True)
    ] == [(True, True)] * len(cells)


@pytest.mark.parametrize("low", [0.0, -7.0, 0.2])
def test_without_a_value_beyond_the_limit_the_peak_s_region_is_named(low: float) -> None:
    """Cells in the upper half of the map's range; a second summit as high is not the first."""
    map_hw = np.full((64, 64), low, np.float32)
    height = 0.4 - low
    map_hw[30, 40], map_hw[30, 41], map_hw[30, 42] = 0.4, low + 0.6 * height, low + 0.4 * height
    map_hw[5, 5] = low + 0.9 * height
    (finding,) = find(map_hw, (640, 640))
    assert corners(finding) == (400, 300, 420, 310)
    assert finding.peak == pytest.approx(0.4)


def test_a_flat_map_below_the_limit_says_everywhere() -> None:
    (finding,) = find(np.full((8, 8), 0.25, np.float32), (480, 640))
    assert (corners(finding), finding.peak) == ((0, 0, 640, 480), 0.25)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_belongs_to_no_region(value: float) -> None:
    map_hw = empty(8, 8)
    map_hw[:4] = value
    map_hw[6, 6] = 0.9
    (finding,) = find(map_hw, (80, 80))
    assert finding.peak == pytest.approx(0.9)
    x0, y0, x1, y1 = corners(finding)
    assert x0 <= 60 < 70 <= x1
    assert 50 <= y0 <= 60 < 70 <= y1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", [8, 64])
@pytest.mark.parametrize("around", [0.9, 0.25])
def test_a_hole_joins_no_regions(value: float, side: int, around: float) -> None:
    """Also where all around it is beyond the limit, or where the map is the same everywhere."""
    map_hw = np.full((side, side), around, np.float32)
    map_hw[:, side // 2 - 1 : side // 2 + 1] = value
    map_hw[:, 0] += 0.05
    findings = find(map_hw, (side * 10, side * 10))
    assert len(findings) == (2 if around > HEAD.region_limit else 1)
    assert corners(findings[0])[2] <= (side // 2) * 10


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_map_without_a_finite_value_is_a_finding_without_a_place(value: float) -> None:
    assert find(np.full((8, 8), value, np.float32), (80, 80)) == (Finding(name="anomaly"),)


@pytest.mark.parametrize("shape", [(0, 0), (0, 8), (64, 0)])
def test_a_map_without_a_cell_is_a_finding_without_a_place(shape: tuple[int, int]) -> None:
    assert find(np.empty(shape, np.float32), (80, 80)) == (Finding(name="anomaly"),)


@pytest.mark.parametrize("side", [8, 64, 65])
@pytest.mark.parametrize("limit", [0.5, 0.9, 2.0, -1e300, 1e300])
def test_how_a_map_lies_in_memory_changes_nothing(side: int, limit: float) -> None:
    map_hw = np.random.default_rng(5).random((side, side)).astype(np.float32)
    wide_hw = np.zeros((2 * side, 2 * side), np.float32)
    wide_hw[::2, ::2] = map_hw
    head = AnomalyHead(map="map", region_limit=limit)
    frame_size_hw = (480, 640)
    expected = find(map_hw, frame_size_hw, head)
    for laid in (np.asfortranarray(map_hw), wide_hw[::2, ::2], map_hw[::-1].copy()[::-1]):
        assert find(laid, frame_size_hw, head) == expected


def test_a_head_without_a_map_finds_nothing_and_still_scores() -> None:
    outputs = {"score": np.float32([0.25, 7.0])}
    assert find_outputs(outputs, AnomalyHead(), (8, 8)) == [(), ()]
    assert score_outputs(outputs, AnomalyHead()).tolist() == [0.25, 7.0]


def test_each_image_of_a_batch_has_its_own() -> None:
    maps = np.zeros((3, 64, 64), np.float32)
    maps[0, 1, 1], maps[2, 3, 3] = 1.0, 2.0
    outputs = {"score": np.zeros(3, np.float32), "map": maps}
    first, flat, last = find_outputs(outputs, HEAD, (64, 64))
    assert [corners(found) for (found,) in (first, flat, last)] == [
        (1, 1, 2, 2),
        (0, 0, 64, 64),
        (3, 3, 4, 4),
    ]


def peaks_of_regions(map_hw: NDArray[np.float32], beyond_hw: NDArray[np.bool_]) -> list[float]:
    """Of each, the largest first; 8-connected, by flooding in plain Python."""
    left = {(int(y), int(x)) for y, x in np.argwhere(beyond_hw)}
    peaks = []
    while left:
        edge = [left.pop()]
        peak = -np.inf
        while edge:
            y, x = edge.pop()
            peak = max(peak, float(map_hw[y, x]))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            edge += near
        peaks.append(peak)
    return sorted(peaks, reverse=True)


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=st.floats(width=32) | st.sampled_from([0.0, 0.5, 0.501, 1.0]),
    ),
    st.integers(1, 300),
    st.integers(1, 300),
)
def test_whatever_the_map_regions_lie_in_the_frame_and_are_those_of_its_cells(
    map_hw: NDArray[np.float32], height: int, width: int
) -> None:
    findings = find(map_hw, (height, width))
    if not np.isfinite(map_hw).any():
        assert findings == (Finding(name="anomaly"),)
        return
    peaks = peaks_of_regions(map_hw, np.isfinite(map_hw) & (map_hw > 0.5))
    peaks = peaks or [float(map_hw[np.isfinite(map_hw)].max())]
    assert [finding.peak for finding in findings] == peaks[:MAX_FINDINGS]
    for finding in findings:
        x0, y0, x1, y1 = corners(finding)
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        assert finding.area_px is not None
        assert 1 <= finding.area_px <= height * width


@pytest.mark.parametrize("side", [8, 64])
def test_findings_cost_little_beside_a_network(side: int) -> None:
    """Measured: 0.1 ms, on one core; work at the frame's size takes 30 ms."""
    map_hw = np.random.default_rng(0).random((side, side)).astype(np.float32)
    times_s = []
    for _ in range(30):
        started = perf_counter()
        find(map_hw, (1536, 2048))
        times_s.append(perf_counter() - started)
    assert median(times_s) < 5e-3
