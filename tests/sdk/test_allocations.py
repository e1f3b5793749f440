"""After its first call an inspection allocates nothing of a frame's size, whatever must change.

numpy reports its buffers to tracemalloc; measured here 5 kB a call.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tiny_bundle import (
    ONNX_ENTRY,
    OPENVINO_ENTRY,
    TinyBundle,
    tiny_contract,
    tiny_frame,
)

from lineside.bundle import open_bundle
from lineside.contract import FrameSpec, InputSpec
from lineside.engines import EngineSettings, open_engine
from lineside.frame import Frame, Pixels
from lineside.inspector import Inspector
from lineside.preprocess import Workspace, prepare

LARGE_HW = (1536, 2048)
_CALLS = 3
FRAMES = {
    "gray": FrameSpec(size_hw=LARGE_HW, channels=1),
    "colour": FrameSpec(size_hw=LARGE_HW, channels=3),
    "gray of 16 bit": FrameSpec(size_hw=LARGE_HW, channels=1, bit_depth=16, window=(100, 4095)),
    "colour of 16 bit": FrameSpec(size_hw=LARGE_HW, channels=3, bit_depth=16),
}


def a_frame(spec: FrameSpec, *, bright: bool = True) -> Pixels:
    """Evenly 80 % or 20 % of full scale, (H, W, C)."""
    assert spec.size_hw is not None
    kind = np.uint16 if spec.bit_depth == 16 else np.uint8
    low, high = spec.window if spec.bit_depth == 16 else (0, 255)
    level = low + (high - low) * (0.8 if bright else 0.2)
    return np.full((*spec.size_hw, spec.channels), round(level), kind)


def peak_bytes(call: Callable[[], object]) -> int:
    """The most that further calls hold at once of what they allocated."""
    for _ in range(2):
        call()
    tracemalloc.start()
    try:
        for _ in range(_CALLS):
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def opened(tiny: TinyBundle, folder: Path, engine: str, spec: FrameSpec) -> Inspector:
    """A real bundle for such frames; not proved, since its golden frames are of another kind."""
    manifest = msgspec.structs.replace(tiny.manifest, contract=tiny_contract(frame=spec))
    path = tiny.reseal(folder / "large.lsb", manifest=manifest)
    bundle = open_bundle(path, trust=tiny.public_key_path)
    entry = {"onnxruntime": ONNX_ENTRY, "openvino": OPENVINO_ENTRY}[engine]
    return Inspector(
        bundle,
        open_engine(entry, bundle.part, bundle.manifest.contract, EngineSettings(threads=1)),
    )


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("kind", sorted(FRAMES))
def test_an_inspection_allocates_nothing_of_its_frame_s_size(
    tiny_bundle: TinyBundle, tmp_path: Path, engine: str, kind: str
) -> None:
    spec = FRAMES[kind]
    pixels = a_frame(spec)
    with opened(tiny_bundle, tmp_path, engine, spec) as inspector:
        frame = Frame(pixels_hwc=pixels)
        assert inspector.inspect(frame).score == pytest.approx(0.8, abs=0.01)
        alone = peak_bytes(lambda: inspector.inspect(frame))
        together = peak_bytes(lambda: inspector.inspect_batch([frame] * 4))
    assert max(alone, together) < pixels.nbytes / 64


@pytest.mark.parametrize("kind", sorted(FRAMES))
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size_hw", [(64, 64), LARGE_HW])
def test_with_room_to_work_in_nothing_is_allocated(
    kind: str, channels: int, size_hw: tuple[int, int]
) -> None:
    spec = FRAMES[kind]
    pixels = a_frame(spec)
    workspace, out = Workspace(), np.empty((*size_hw, channels), np.uint8)
    wanted = InputSpec(size_hw=size_hw, channels=channels)
    least = peak_bytes(lambda: prepare(pixels, spec, wanted, workspace=workspace, out_hwc=out))
    assert least < pixels.nbytes / 64


_sides = st.integers(1, 24)


@given(
    pixels=hnp.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.tuples(_sides, _sides, st.sampled_from([1, 3])),
    ),
    size_hw=st.tuples(_sides, _sides),
    channels=st.sampled_from([1, 3]),
    used=st.integers(0, 255),
)
def test_room_to_work_in_changes_no_value(
    pixels: np.ndarray, size_hw: tuple[int, int], channels: int, used: int
) -> None:
    spec = FrameSpec(
        size_hw=None, channels=pixels.shape[2], bit_depth=pixels.itemsize * 8, window=(9, 40_000)
    )
    workspace = Workspace()
    for use in ("8 bit", "gray", "small"):
        workspace.array(use, (5000,))[:] = used
    wanted = InputSpec(size_hw=size_hw, channels=channels)
    out = np.full((*size_hw, channels), used, np.uint8)
    before = pixels.copy()
    found = prepare(pixels, spec, wanted, workspace=workspace, out_hwc=out)
    assert found is pixels or np.shares_memory(found, out)
    np.testing.assert_array_equal(found, prepare(pixels, spec, wanted))
    np.testing.assert_array_equal(pixels, before)


def test_a_batch_with_faults_between_gives_each_frame_its_own_verdict(
    tiny_bundle: TinyBundle, tmp_path: Path
) -> None:
    spec = FrameSpec(size_hw=None, channels=1)
    small = [tiny_frame(bright=seed % 2 == 1, seed=seed) for seed in range(4)]
    large = [a_frame(FRAMES["gray"], bright=bright) for bright in (True, False)]
    wrong = np.zeros((8, 8, 3), np.uint8)
    pixels = [wrong, small[0], large[0], wrong, small[1], large[1], small[2], wrong, small[3]]
    with opened(tiny_bundle, tmp_path, "onnxruntime", spec) as inspector:
        together = inspector.inspect_batch([Frame(pixels_hwc=one) for one in pixels])
        alone = [inspector.inspect(one) for one in pixels]
    assert [one.verdict.score for one in together] == [one.score for one in alone]
    assert [one.verdict.reason for one in together] == [one.reason for one in alone]
    assert len({one.score for one in alone}) == len(small) + len(large) + 1


def test_threads_do_not_see_each_other_s_pixels(tiny_bundle: TinyBundle, tmp_path: Path) -> None:
    spec = FRAMES["gray of 16 bit"]
    frames = [Frame(pixels_hwc=a_frame(spec, bright=bright)) for bright in (False, True)]
    with opened(tiny_bundle, tmp_path, "openvino", spec) as inspector:
        expected = [inspector.inspect(frame).score for frame in frames]
        together = Barrier(2)

        def judge(which: int) -> set[float | None]:
            together.wait()
            return {inspector.inspect(frames[which]).score for _ in range(10)}

        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(judge, (0, 1)))
    assert found == [{score} for score in expected]
