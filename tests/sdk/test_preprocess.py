"""Frame to model input: what is refused, what is changed, and what is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lineside.contract import FrameSpec, InputSpec
from lineside.errors import FrameError
from lineside.preprocess import check_frame, prepare
from lineside.verdict import Reason

sides = st.integers(1, 40)


@st.composite
def frames_with_specs(draw: st.DrawFn) -> tuple[np.ndarray, FrameSpec, InputSpec]:
    depth, channels = draw(st.sampled_from([8, 16])), draw(st.sampled_from([1, 3]))
    size_hw = (draw(sides), draw(sides))
    black = draw(st.integers(0, 65534))
    spec = FrameSpec(
        size_hw=draw(st.sampled_from([None, size_hw])),
        channels=channels,
        bit_depth=depth,
        window=(black, draw(st.integers(black + 1, 65535))),
    )
    wanted = InputSpec(size_hw=(draw(sides), draw(sides)), channels=draw(st.sampled_from([1, 3])))
    kind = np.uint16 if depth == 16 else np.uint8
    return draw(hnp.arrays(kind, (*size_hw, channels))), spec, wanted


@given(frames_with_specs())
def test_whatever_is_accepted_comes_out_as_the_graph_takes_it(
    case: tuple[np.ndarray, FrameSpec, InputSpec],
) -> None:
    pixels, spec, wanted = case
    before = pixels.copy()
    prepared = prepare(pixels, spec, wanted)
    assert prepared.dtype == np.uint8
    assert prepared.shape == (*wanted.size_hw, wanted.channels)
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(prepare(pixels, spec, wanted), prepared)


@given(hnp.arrays(np.uint8, st.tuples(sides, sides, st.sampled_from([1, 3]))))
def test_a_frame_that_fits_is_handed_on_without_a_copy(pixels: np.ndarray) -> None:
    height, width, channels = pixels.shape
    spec = FrameSpec(size_hw=None, channels=channels)
    assert prepare(pixels, spec, InputSpec(size_hw=(height, width), channels=channels)) is pixels


@given(
    window=st.tuples(st.integers(0, 65535), st.integers(0, 65535)).filter(lambda w: w[0] < w[1]),
    values=hnp.arrays(np.uint16, (1, 16, 1)),
)
def test_the_16_bit_window_maps_black_to_0_white_to_255_and_keeps_order(
    window: tuple[int, int], values: np.ndarray
) -> None:
    black, white = window
    values[0, 0, 0], values[0, 1, 0] = black, white
    spec = FrameSpec(size_hw=None, channels=1, bit_depth=16, window=window)
    prepared = prepare(values, spec, InputSpec(size_hw=(1, 16), channels=1)).astype(int)
    assert (prepared[0, 0, 0], prepared[0, 1, 0]) == (0, 255)
    exact = (values.astype(np.float64) - black) * 255 / (white - black)
    # One rounding to the nearest grey level; float32 may fall on the other side of a half.
    assert np.abs(prepared - np.clip(exact, 0, 255)).max() <= 0.5 + 1e-3
    order = np.argsort(values[0, :, 0])
    assert (np.diff(prepared[0, order, 0]) >= 0).all()


@given(level=st.integers(0, 255), size_hw=st.tuples(sides, sides), to_hw=st.tuples(sides, sides))
def test_an_even_frame_stays_even_at_any_size(
    level: int, size_hw: tuple[int, int], to_hw: tuple[int, int]
) -> None:
    pixels = np.full((*size_hw, 1), level, np.uint8)
    prepared = prepare(
        pixels, FrameSpec(size_hw=None, channels=1), InputSpec(size_hw=to_hw, channels=1)
    )
    assert (prepared == level).all()


def test_shrinking_averages_so_that_a_small_void_leaves_a_trace() -> None:
    pixels = np.zeros((8, 8, 1), np.uint8)
    pixels[3, 3] = 255
    spec = FrameSpec(size_hw=(8, 8), channels=1)
    prepared = prepare(pixels, spec, InputSpec(size_hw=(2, 2), channels=1))
    assert prepared[0, 0, 0] == 16  # 255 / 16, rounded


def test_colour_becomes_gray_by_its_weights_and_gray_becomes_three_equal_channels() -> None:
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 255
    gray = prepare(red, FrameSpec(size_hw=None, channels=3), InputSpec(size_hw=(2, 2), channels=1))
    assert (gray == 76).all()  # 0.299 * 255: red first (ITU-R BT.601)
    back = prepare(gray, FrameSpec(size_hw=None, channels=1), InputSpec(size_hw=(2, 2), channels=3))
    assert back.shape == (2, 2, 3)
    assert (back == 76).all()


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.zeros((4, 4, 1), np.uint16), "frame_depth"),
        (np.zeros((4, 4, 1), np.float32), "frame_depth"),
        (np.zeros((4, 4, 1), np.int8), "frame_depth"),
        (np.zeros((4, 4, 1), ">u2"), "frame_depth"),
        (np.zeros((4, 4, 3), np.uint8), "frame_channels"),
        (np.zeros((4, 4), np.uint8), "frame_channels"),
        (np.zeros((), np.uint8), "frame_channels"),
        (np.zeros((4, 5, 1), np.uint8), "frame_size"),
        (np.zeros((0, 4, 1), np.uint8), "frame_size"),
    ],
)
def test_another_frame_is_refused_with_its_reason(pixels: np.ndarray, reason: str) -> None:
    with pytest.raises(FrameError, match="cam7") as caught:
        check_frame(pixels, FrameSpec(size_hw=(4, 4), channels=1), source="cam7")
    assert caught.value.reason == reason
    assert Reason(reason).value == reason


def test_an_empty_frame_is_refused_even_where_any_size_is_taken() -> None:
    with pytest.raises(FrameError, match="above 0"):
        check_frame(np.zeros((3, 0, 1), np.uint8), FrameSpec(size_hw=None, channels=1))


@given(frames_with_specs(), st.sampled_from(["flipped", "strided", "fortran", "read-only"]))
def test_the_layout_in_memory_does_not_matter(
    case: tuple[np.ndarray, FrameSpec, InputSpec], layout: str
) -> None:
    pixels, spec, wanted = case
    other = {
        "flipped": np.ascontiguousarray(pixels[::-1])[::-1],
        "strided": np.repeat(pixels, 2, axis=1)[:, ::2],
        "fortran": np.asfortranarray(pixels),
        "read-only": pixels.copy(),
    }[layout]
    other.flags.writeable = layout != "read-only"
    np.testing.assert_array_equal(prepare(other, spec, wanted), prepare(pixels, spec, wanted))
