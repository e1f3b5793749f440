"""Devices with a fault each, on colour frames that are resized: the golden self-test sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from lineside.bundle import Bundle, open_bundle
from lineside.candidate import CONTRACT, PROGRAM, PROVENANCE, SAMPLES, SampleSet, write_samples
from lineside.contract import (
    Contract,
    FrameSpec,
    InputSpec,
    LimitRule,
    OutputSpec,
    RegressionHead,
    encode_contract,
)
from lineside.engines import Engine, EngineSettings, open_engine
from lineside.selftest import SelfTestResult, measure_selftest, read_golden
from lineside_export.cli import export

FRAME_PX, INPUT_PX = 160, 64
COUNTS: Final = {"quantisation": 40, "validation": 60, "golden": 40}


class ColourCnn(nn.Module):
    """Random features that weigh places and channels differently: none is like another."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 4, stride=4), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU()
        )
        self.last = nn.Linear(32 * 14 * 14, 1)
        with torch.no_grad():
            self.last.weight *= torch.linspace(2.0, 0.0, self.last.in_features)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        pixels_nchw = (image.permute(0, 3, 1, 2).float() / 255.0 - 0.45) / 0.25
        return self.last(self.body(pixels_nchw).flatten(1))[:, 0]  # type: ignore[no-any-return]


def draw_frames(count: int, seed: int) -> NDArray[np.uint8]:
    """(N, 160, 160, 3) uint8: gray ground with pixel noise and coloured discs anywhere."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:FRAME_PX, :FRAME_PX]
    frames = 110.0 + 25.0 * random.standard_normal((count, FRAME_PX, FRAME_PX, 3))
    for frame in frames:
        for _ in range(random.integers(2, 9)):
            cy, cx, radius = random.uniform(8, 152), random.uniform(8, 152), random.uniform(5, 24)
            inside = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
            frame[inside] += random.uniform(-110, 130, 3)
    return np.clip(frames, 0, 255).astype(np.uint8)


def write_colour_candidate(folder: Path) -> Path:
    folder.mkdir()
    module = ColourCnn(seed=0).eval()
    example = torch.zeros(5, INPUT_PX, INPUT_PX, 3, dtype=torch.uint8)
    dynamic = {"image": {0: torch.export.Dim("batch", min=1, max=4096)}}
    torch.export.save(
        torch.export.export(module, (example,), dynamic_shapes=dynamic), folder / PROGRAM
    )
    contract = Contract(
        product="coloured",
        frame=FrameSpec(size_hw=(FRAME_PX, FRAME_PX), channels=3),
        input=InputSpec(size_hw=(INPUT_PX, INPUT_PX), channels=3),
        outputs=(OutputSpec(name="value"),),
        head=RegressionHead(target="redness"),
        proposed_rule=LimitRule(ok_limit=0.0, not_ok_limit=0.0),
    )
    (folder / CONTRACT).write_bytes(encode_contract(contract))
    (folder / PROVENANCE).write_text(json.dumps({}))
    sets = {}
    for offset, (name, count) in enumerate(COUNTS.items()):
        sets[name] = SampleSet(
            frames_hwc=list(draw_frames(count, seed=offset)),
            targets=np.full(count, np.nan),
            parts=[f"{name}-{index // 4}" for index in range(count)],
        )
    write_samples(folder / SAMPLES, sets)
    return folder


@pytest.fixture(scope="module")
def sealed(
    tmp_path_factory: pytest.TempPathFactory, key_pair: tuple[Path, Path]
) -> tuple[Path, Path]:
    """The bundle, int8 for both engines, and whose seal counts."""
    folder = tmp_path_factory.mktemp("colour")
    read, out = write_colour_candidate(folder / "candidate"), folder / "colour.lsb"
    arguments = [read, "--out", out, "--key", key_pair[0], "--precision", "int8"]
    arguments += ["--max-flips", "6"]
    done = CliRunner().invoke(export, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return out, key_pair[1]


class Faulty:
    """A right engine that is given other pixels than it should be."""

    def __init__(self, right: Engine, alter: Callable[[NDArray[np.uint8]], Any]) -> None:
        self.name, self.precision = right.name, right.precision
        self.threads, self.description = right.threads, "a device with a fault"
        self._right, self._alter = right, alter

    def infer(self, inputs_nhwc: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return self._right.infer(np.ascontiguousarray(self._alter(inputs_nhwc), np.uint8))

    def close(self) -> None:
        self._right.close()


def normalised_outside(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """By ImageNet's figures, and stretched to bytes again, before a graph that does it itself."""
    scaled = (images / 255.0 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    return np.clip((scaled + 2.2) / 5.0 * 255.0, 0, 255)


INPUT_FAULTS: Final[dict[str, Callable[[NDArray[np.uint8]], Any]]] = {
    "wrong normalisation": normalised_outside,
    "swapped channels": lambda images: images[..., ::-1],
    "flipped image": lambda images: images[:, :, ::-1],
    "transposed input": lambda images: images.transpose(0, 2, 1, 3),
}


def proved(bundle: Bundle, engine: Engine) -> SelfTestResult:
    try:
        return measure_selftest(bundle, engine)
    finally:
        engine.close()


def opened(bundle: Bundle, name: str, changed: bytes | None = None) -> Engine:
    model = next(m for m in bundle.manifest.models if m.engine == name)

    def read(part: str) -> memoryview:
        return bundle.part(part) if changed is None else memoryview(changed)

    return open_engine(model, read, bundle.manifest.contract, EngineSettings(threads=1))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("fault", INPUT_FAULTS)
def test_wrong_pixels_are_seen(sealed: tuple[Path, Path], engine: str, fault: str) -> None:
    with open_bundle(sealed[0], trust=sealed[1]) as bundle:
        assert proved(bundle, opened(bundle, engine)).passed
        wrong = Faulty(opened(bundle, engine), INPUT_FAULTS[fault])
        assert not proved(bundle, wrong).outputs[0].passed


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_another_way_to_resize_is_seen(sealed: tuple[Path, Path], engine: str) -> None:
    with open_bundle(sealed[0], trust=sealed[1]) as bundle:
        frames = [golden.pixels_hwc for golden in read_golden(bundle).frames]
        size_wh = (INPUT_PX, INPUT_PX)
        for interpolation in (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC):
            resized = np.stack(
                [cv2.resize(f, size_wh, interpolation=interpolation) for f in frames]
            )

            def others(_images: NDArray[np.uint8], wrong: Any = resized) -> Any:
                return wrong

            result = proved(bundle, Faulty(opened(bundle, engine), others))
            assert not result.outputs[0].passed, (interpolation, result.told())


def model_of(bundle: Bundle) -> onnx.ModelProto:
    return onnx.load_from_string(bytes(bundle.part("onnxruntime/model.onnx")))


def with_weights(
    model: onnx.ModelProto, change: Callable[[NDArray[np.int8]], NDArray[np.int8]]
) -> bytes:
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.int8 and values.size > 100:
            tensor.CopyFrom(numpy_helper.from_array(change(values), tensor.name))
    data: bytes = model.SerializeToString()
    return data


def test_stale_weights_are_seen(sealed: tuple[Path, Path]) -> None:
    random = np.random.default_rng(0)

    def earlier(values: NDArray[np.int8]) -> NDArray[np.int8]:
        # As epochs before: each weight off by up to 6 % of the largest. Half of that is as far as
        # int8's own noise (drift 0.010, tolerance 0.012), and no verdict hangs on it.
        moved = values + random.integers(-8, 9, values.shape)
        return np.clip(moved, -127, 127).astype(np.int8)

    with open_bundle(sealed[0], trust=sealed[1]) as bundle:
        stale = with_weights(model_of(bundle), earlier)
        assert not proved(bundle, opened(bundle, "onnxruntime", stale)).passed


def test_another_models_weights_are_seen(sealed: tuple[Path, Path]) -> None:
    random = np.random.default_rng(1)
    with open_bundle(sealed[0], trust=sealed[1]) as bundle:
        foreign = with_weights(model_of(bundle), lambda values: random.permuted(values))
        assert not proved(bundle, opened(bundle, "onnxruntime", foreign)).passed


def test_a_range_that_saturates_is_seen(sealed: tuple[Path, Path]) -> None:
    with open_bundle(sealed[0], trust=sealed[1]) as bundle:
        model = model_of(bundle)
        weights = {tensor.name: tensor for tensor in model.graph.initializer}
        scales = {
            node.input[1]
            for node in model.graph.node
            if node.op_type == "QuantizeLinear" and node.input[0] not in weights
        }
        assert len(scales) >= 3
        for name in sorted(scales):
            narrow = onnx.ModelProto()
            narrow.CopyFrom(model)
            (tensor,) = (t for t in narrow.graph.initializer if t.name == name)
            half = numpy_helper.to_array(tensor) * np.float32(0.4)
            tensor.CopyFrom(numpy_helper.from_array(half, name))
            result = proved(bundle, opened(bundle, "onnxruntime", narrow.SerializeToString()))
            assert not result.passed, (name, result.told())
