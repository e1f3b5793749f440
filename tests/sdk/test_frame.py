"""Reading images: as stored, whole or not at all."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lineside.errors import FrameError
from lineside.frame import SUFFIXES, decode_frame, read_frame

LOSSLESS = {8: (".png", ".bmp", ".tif", ".pgm"), 16: (".png", ".tif", ".pgm")}
ROUGH = np.random.default_rng(3).integers(0, 256, (24, 24, 3), dtype=np.uint8)


def encode(pixels_hwc: np.ndarray, suffix: str) -> bytes:
    """As another program would write it: OpenCV keeps blue first."""
    stored = pixels_hwc[..., ::-1] if pixels_hwc.shape[2] == 3 else pixels_hwc
    done, data = cv2.imencode(suffix, np.ascontiguousarray(stored))
    assert done
    return data.tobytes()


@st.composite
def stored_frames(draw: st.DrawFn) -> tuple[np.ndarray, str]:
    depth, channels = draw(st.sampled_from([8, 16])), draw(st.sampled_from([1, 3]))
    suffix = draw(st.sampled_from(LOSSLESS[depth]))
    if suffix == ".pgm" and channels == 3:
        suffix = ".ppm"
    kind = np.uint16 if depth == 16 else np.uint8
    shape = (draw(st.integers(1, 20)), draw(st.integers(1, 20)), channels)
    return draw(hnp.arrays(kind, shape)), suffix


@given(stored_frames())
def test_lossless_images_come_back_as_they_were(case: tuple[np.ndarray, str]) -> None:
    pixels, suffix = case
    frame = decode_frame(encode(pixels, suffix), source="x", part_id="p1")
    assert frame.pixels_hwc.dtype == pixels.dtype
    np.testing.assert_array_equal(frame.pixels_hwc, pixels)
    assert (frame.source, frame.part_id) == ("x", "p1")
    assert frame.captured_unix_ns > 0


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp", ".ppm"])
def test_a_file_cut_short_is_refused_wherever_it_is_cut(suffix: str) -> None:
    whole = encode(ROUGH, suffix)
    decode_frame(whole, source="whole")
    for length in range(0, len(whole) - 2, max(1, len(whole) // 40)):
        with pytest.raises(FrameError) as caught:
            decode_frame(whole[:length], source="cut.img")
        assert caught.value.reason == "frame_decode"
        assert "cut.img" in str(caught.value)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_noise_is_refused_and_nothing_else_is_raised(data: bytes) -> None:
    with pytest.raises(FrameError) as caught:
        decode_frame(data, source="noise")
    assert caught.value.reason == "frame_decode"


@settings(max_examples=100)
@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_in_a_png_is_refused(position: int, bit: int) -> None:
    data = bytearray(encode(ROUGH, ".png"))
    # The last four bytes are the checksum of the empty end chunk: no pixel hangs on them.
    data[position % (len(data) - 4)] ^= 1 << bit
    with pytest.raises(FrameError):
        decode_frame(bytes(data), source="flipped.png")


def test_alpha_is_dropped() -> None:
    rgba = np.dstack([ROUGH, np.full((24, 24), 9, np.uint8)])
    done, data = cv2.imencode(".png", np.ascontiguousarray(rgba[..., [2, 1, 0, 3]]))
    assert done
    np.testing.assert_array_equal(decode_frame(data.tobytes(), source="a").pixels_hwc, ROUGH)


def test_float_pixels_are_refused_as_depth() -> None:
    done, data = cv2.imencode(".tiff", np.ones((4, 4), np.float32))
    assert done
    with pytest.raises(FrameError, match="float32") as caught:
        decode_frame(data.tobytes(), source="f.tiff")
    assert caught.value.reason == "frame_depth"


def test_an_orientation_tag_does_not_turn_the_frame() -> None:
    upright = encode(np.arange(6 * 9 * 3, dtype=np.uint8).reshape(6, 9, 3), ".jpg")
    tiff = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0" + tiff
    turned = upright[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + upright[2:]
    assert decode_frame(turned, source="t").pixels_hwc.shape == (6, 9, 3)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.png", tmp_path):
        with pytest.raises(FrameError, match=str(path)) as caught:
            read_frame(path)
        assert caught.value.reason == "frame_missing"


@pytest.mark.timeout(20)
def test_a_pipe_a_device_and_a_null_character_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero"), tmp_path / "a\0b.png"):
        with pytest.raises(FrameError) as caught:
            read_frame(path)
        assert caught.value.reason == "frame_missing"


def test_a_file_too_large_for_an_image_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    path.touch()
    os.truncate(path, 200 * 2**30)  # a hole: it takes no room on the disk
    with pytest.raises(FrameError, match="at most 536,870,912 are read"):
        read_frame(path)


def test_an_empty_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "empty.png"
    path.touch()
    with pytest.raises(FrameError, match="empty"):
        read_frame(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix_that_folders_are_searched_for_can_be_read(
    suffix: str, tmp_path: Path
) -> None:
    pixels = ROUGH[..., :1] if suffix == ".pgm" else ROUGH
    path = tmp_path / f"image{suffix}"
    path.write_bytes(encode(pixels, suffix))
    assert read_frame(path, part_id="p").pixels_hwc.shape == pixels.shape
