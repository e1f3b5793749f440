"""Samples between trainer and exporter: round trips, and no part in two sets."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lineside.candidate import SET_NAMES, SampleSet, read_samples, write_samples
from lineside.errors import InputDataError


@st.composite
def sample_sets(draw: st.DrawFn) -> dict[str, SampleSet]:
    kind = draw(st.sampled_from([np.uint8, np.uint16]))
    sets = {}
    for name in draw(st.lists(st.sampled_from(SET_NAMES), unique=True)):
        count = draw(st.integers(0, 3))
        shapes = st.tuples(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3]))
        sets[name] = SampleSet(
            frames_hwc=[draw(hnp.arrays(kind, draw(shapes))) for _ in range(count)],
            targets=draw(hnp.arrays(np.float64, count)),
            parts=[f"{name}-{draw(st.integers(0, 2))}-ü" for _ in range(count)],
        )
    return sets


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(sets=sample_sets())
def test_what_is_written_is_read(tmp_path: Path, sets: dict[str, SampleSet]) -> None:
    path = tmp_path / "samples.npz"
    write_samples(path, sets)
    found = read_samples(path)
    assert set(found) == set(sets)
    for name, samples in sets.items():
        assert list(found[name].parts) == list(samples.parts)
        np.testing.assert_array_equal(found[name].targets, samples.targets)
        assert len(found[name]) == len(samples)
        for written, read in zip(samples.frames_hwc, found[name].frames_hwc, strict=True):
            assert written.dtype == read.dtype
            np.testing.assert_array_equal(written, read)


def one(part: str) -> SampleSet:
    return SampleSet(frames_hwc=[np.zeros((2, 2, 1), np.uint8)], targets=np.zeros(1), parts=[part])


@pytest.mark.parametrize("other", [name for name in SET_NAMES if name != "golden"])
def test_a_part_in_two_sets_is_refused(tmp_path: Path, other: str) -> None:
    with pytest.raises(InputDataError, match=f"'p7' is in both golden and {other}"):
        write_samples(tmp_path / "samples.npz", {"golden": one("p7"), other: one("p7")})
    assert list(tmp_path.iterdir()) == []


def test_another_set_and_uneven_lengths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputDataError, match="unknown sample set 'test'"):
        write_samples(tmp_path / "samples.npz", {"test": one("p")})
    uneven = SampleSet(frames_hwc=[], targets=np.zeros(1), parts=[])
    with pytest.raises(InputDataError, match="differ in number"):
        write_samples(tmp_path / "samples.npz", {"golden": uneven})


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "samples.npz"
    write_samples(path, {"golden": one("p")})
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(InputDataError, match=r"samples\.npz"):
            read_samples(path)


def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "samples.npz"
    pixels = np.random.default_rng(3).integers(0, 256, (8, 8, 1), np.uint8)
    write_samples(path, {"golden": SampleSet(frames_hwc=[pixels], targets=np.ones(1), parts=["p"])})
    whole = path.read_bytes()
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        try:
            (found,) = read_samples(path).values()
        except InputDataError as error:
            assert "samples.npz" in str(error)
        else:  # a date, or a field that nobody reads
            np.testing.assert_array_equal(found.frames_hwc[0], pixels)
            assert (found.targets.tolist(), found.parts) == ([1.0], ["p"])


def test_an_array_of_no_sample_set_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "samples.npz"
    np.savez(path, test_pixels=np.zeros(1, np.uint8))
    with pytest.raises(InputDataError, match="'test_pixels' belongs to no sample set"):
        read_samples(path)


def test_pickled_objects_are_never_executed(tmp_path: Path) -> None:
    path = tmp_path / "samples.npz"
    harmful = np.array([Path], dtype=object)
    np.savez(path, golden_pixels=harmful, golden_shapes_hwc=harmful)
    with pytest.raises(InputDataError):
        read_samples(path)


@pytest.mark.parametrize("shape", ["((4, 2", "(True,)", "(99999999999999,)"])
def test_a_damaged_header_of_an_array_is_refused(shape: str, tmp_path: Path) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    path = tmp_path / "samples.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("golden_pixels.npy", array)
        archive.writestr("golden_shapes_hwc.npy", array)
    with pytest.raises(InputDataError, match=r"samples\.npz: not a samples file"):
        read_samples(path)
