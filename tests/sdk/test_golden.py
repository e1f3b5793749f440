"""The golden part: round trips, and damage is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lineside.errors import BundleFormatError
from lineside.golden import (
    GoldenExpectation,
    GoldenFrame,
    GoldenSamples,
    decode_golden,
    encode_golden,
)

frames = st.sampled_from([np.uint8, np.uint16]).flatmap(
    lambda kind: hnp.arrays(
        kind, st.tuples(st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3]))
    )
)
outputs = hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))


@given(st.lists(frames, max_size=3), outputs)
def test_samples_come_back_as_they_were(pixels: list[np.ndarray], values: np.ndarray) -> None:
    samples = GoldenSamples(
        frames=tuple(map(GoldenFrame.from_pixels, pixels)),
        expectations=(
            GoldenExpectation.from_values(
                values, engine="openvino", precision="int8", output="value", tolerance_abs=0.25
            ),
        ),
    )
    data = encode_golden(samples)
    found = decode_golden(memoryview(data), source="golden.msgpack")
    assert found == samples
    assert encode_golden(found) == data
    for before, after in zip(pixels, found.frames, strict=True):
        assert after.pixels_hwc.dtype == before.dtype
        np.testing.assert_array_equal(after.pixels_hwc, before)
    expectation = found.expectation("openvino", "int8", "value")
    assert expectation is not None
    np.testing.assert_array_equal(expectation.expected(values.shape[0], values.shape[1:]), values)
    assert found.expectation("openvino", "fp32", "value") is None


def test_strided_pixels_are_stored_row_by_row() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6, 1)[:, ::2]
    np.testing.assert_array_equal(GoldenFrame.from_pixels(pixels).pixels_hwc, pixels)


@given(st.binary(max_size=100))
def test_noise_is_a_format_error(data: bytes) -> None:
    with pytest.raises(BundleFormatError, match=r"golden\.msgpack"):
        decode_golden(data, source="golden.msgpack")


@pytest.mark.parametrize("shape_hwc", [(2, 2, 3), (0, 4, 1), (-2, -2, 1)])
def test_pixels_that_do_not_fill_their_shape_are_refused(shape_hwc: tuple[int, int, int]) -> None:
    frame = GoldenFrame(shape_hwc=shape_hwc, dtype="uint8", pixels=bytes(4))
    data = encode_golden(GoldenSamples(frames=(frame,), expectations=()))
    with pytest.raises(BundleFormatError, match="frame 0: 4 bytes do not make"):
        decode_golden(data, source="golden.msgpack")


@pytest.mark.parametrize("size_bytes", [0, 3, 4, 12])
def test_another_number_of_values_is_refused(size_bytes: int) -> None:
    expectation = GoldenExpectation(
        engine="openvino", precision="int8", output="v", values=bytes(size_bytes), tolerance_abs=1
    )
    with pytest.raises(BundleFormatError, match=rf"{size_bytes} bytes do not make \(2,\)"):
        expectation.expected(2, ())
