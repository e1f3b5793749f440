"""A real bundle in a blink, without a trainer: a small ONNX graph, both engines, golden samples.

The graph judges by brightness in a learnt-looking way: cast, normalise, convolve, pool, one linear
layer. Bright frames score high. `build_tiny_bundle` seals it, `build_anomaly_bundle` another that
says where it is bright; the fixtures in tests/conftest.py hand them out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lineside.bundle import (
    Evidence,
    Identity,
    Manifest,
    ModelEntry,
    PartData,
    PrivateKey,
    load_private_key,
    seal_bundle,
    write_key_pair,
)
from lineside.contract import (
    AnomalyHead,
    Contract,
    FrameSpec,
    InputSpec,
    LimitRule,
    OutputSpec,
    RegressionHead,
)
from lineside.engines import EngineSettings, open_engine, silence_telemetry
from lineside.golden import (
    GOLDEN_PART,
    GoldenExpectation,
    GoldenFrame,
    GoldenSamples,
    decode_golden,
    encode_golden,
)
from lineside.preprocess import prepare

SIDE_PX = 32
TOLERANCE_ABS = 1e-4  # measured between the engines here: 3e-7; other CPUs add in another order

ONNX_ENTRY = ModelEntry(engine="onnxruntime", precision="fp32", parts=("onnxruntime/model.onnx",))
OPENVINO_ENTRY = ModelEntry(
    engine="openvino", precision="fp32", parts=("openvino/model.xml", "openvino/model.bin")
)


@dataclass(frozen=True, kw_only=True)
class TinyBundle:
    """A sealed bundle on disk with what its tests need.

    Attributes:
        path: the bundle.
        public_key_path: who it trusts.
        private_key_path: who sealed it.
        manifest: what was sealed, before the table of parts.
        parts: what was sealed, so that a test may seal a changed one.
        ok_frame_hwc: uint8, (32, 32, 1) or (48, 64, 1), dark: scores below the limit.
        not_ok_frame_hwc: likewise, bright, all or a patch of it: scores above the limit.
        frames: PNG files of both kinds, in name order: ok, not ok, ok, not ok …
    """

    path: Path
    public_key_path: Path
    private_key_path: Path
    manifest: Manifest
    parts: tuple[PartData, ...]
    ok_frame_hwc: NDArray[np.uint8]
    not_ok_frame_hwc: NDArray[np.uint8]
    frames: tuple[Path, ...]

    def key(self) -> PrivateKey:
        """The sealing key, to seal a changed bundle."""
        return load_private_key(self.private_key_path)

    def reseal(
        self,
        path: Path,
        *,
        manifest: Manifest | None = None,
        changed: Sequence[PartData] = (),
        dropped: Sequence[str] = (),
    ) -> Path:
        """Seal another bundle by the same key, with some parts exchanged, added or left out."""
        names = {part.name for part in changed} | set(dropped)
        kept = [part for part in self.parts if part.name not in names]
        seal_bundle(
            path, manifest=manifest or self.manifest, parts=[*kept, *changed], key=self.key()
        )
        return path

    def golden(self) -> GoldenSamples:
        """The sealed golden samples."""
        (part,) = [part for part in self.parts if part.name == GOLDEN_PART]
        return decode_golden(bytes(part.data), source=GOLDEN_PART)

    def reseal_golden(
        self, path: Path, change: Callable[[GoldenExpectation], GoldenExpectation | None]
    ) -> Path:
        """Seal another bundle whose expectations are changed; None leaves one out."""
        golden = self.golden()
        changed = (change(expectation) for expectation in golden.expectations)
        samples = msgspec.structs.replace(
            golden, expectations=tuple(found for found in changed if found is not None)
        )
        return self.reseal(path, changed=[PartData(name=GOLDEN_PART, data=encode_golden(samples))])


def shift_expected(expectation: GoldenExpectation, by: float) -> GoldenExpectation:
    """As if the device had drifted by ``-by``."""
    values = np.frombuffer(expectation.values, "<f4") + np.float32(by)
    return msgspec.structs.replace(expectation, values=values.astype("<f4").tobytes())


def tiny_contract(*, side_px: int = SIDE_PX, frame: FrameSpec | None = None) -> Contract:
    """Gray square frames to one value."""
    return Contract(
        product="tiny",
        frame=frame or FrameSpec(size_hw=(side_px, side_px), channels=1),
        input=InputSpec(size_hw=(side_px, side_px), channels=1),
        outputs=(OutputSpec(name="value", unit="K/W"),),
        head=RegressionHead(target="brightness"),
    )


def tiny_rule() -> LimitRule:
    """Above 0.6 is NOT_OK; between 0.5 and 0.6 nobody can say."""
    return LimitRule(ok_limit=0.5, not_ok_limit=0.6, unit="K/W")


def tiny_onnx(*, side_px: int = SIDE_PX, batch: int | str = "batch") -> onnx.ModelProto:
    """(batch, side, side, 1) uint8 to `value` (batch,): about the mean brightness in [0, 1]."""
    random = np.random.default_rng(5)
    kernel = np.abs(random.standard_normal((4, 1, 3, 3))).astype(np.float32)
    kernel /= kernel.sum(axis=(1, 2, 3), keepdims=True)
    constants = {
        "scale": np.float32(1 / 255),
        "kernel": kernel,
        "weights": np.full((4, 1), 0.25, np.float32),
        "shift": np.zeros(1, np.float32),
        "last": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "kernel"], ["features"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["features"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "shift"], ["column"]),
        helper.make_node("Squeeze", ["column", "last"], ["value"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, side_px, side_px, 1])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, [batch])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def openvino_files(model: onnx.ModelProto, folder: Path) -> tuple[bytes, bytes]:
    """The same graph as OpenVINO IR: topology and weights."""
    silence_telemetry()
    import openvino

    source, topology = folder / "model.onnx", folder / "model.xml"
    onnx.save(model, source)
    openvino.save_model(openvino.convert_model(source), topology, compress_to_fp16=False)
    return topology.read_bytes(), topology.with_suffix(".bin").read_bytes()


def model_parts(model: onnx.ModelProto, folder: Path) -> tuple[PartData, ...]:
    """The parts of both engines."""
    topology, weights = openvino_files(model, folder)
    return (
        PartData(
            name=ONNX_ENTRY.parts[0], data=model.SerializeToString(), engine=ONNX_ENTRY.engine
        ),
        PartData(name=OPENVINO_ENTRY.parts[0], data=topology, engine=OPENVINO_ENTRY.engine),
        PartData(name=OPENVINO_ENTRY.parts[1], data=weights, engine=OPENVINO_ENTRY.engine),
    )


def golden_samples(
    contract: Contract,
    parts: Sequence[PartData],
    frames_hwc: Sequence[NDArray[np.uint8] | NDArray[np.uint16]],
    models: Sequence[ModelEntry] = (ONNX_ENTRY, OPENVINO_ENTRY),
) -> GoldenSamples:
    """Frames with what each engine makes of them on this machine."""
    by_name = {part.name: memoryview(part.data) for part in parts}
    inputs = np.stack([prepare(frame, contract.frame, contract.input) for frame in frames_hwc])
    expectations = []
    for model in models:
        engine = open_engine(model, by_name.__getitem__, contract, EngineSettings(threads=1))
        expectations += [
            GoldenExpectation.from_values(
                values,
                engine=model.engine,
                precision=model.precision,
                output=name,
                tolerance_abs=TOLERANCE_ABS,
            )
            for name, values in engine.infer(inputs).items()
        ]
        engine.close()
    return GoldenSamples(
        frames=tuple(GoldenFrame.from_pixels(frame) for frame in frames_hwc),
        expectations=tuple(expectations),
    )


def tiny_frame(*, bright: bool, seed: int, side_px: int = SIDE_PX) -> NDArray[np.uint8]:
    """(side, side, 1) uint8: noise around 0.2 (OK) or 0.8 (NOT_OK) of full scale."""
    middle = 204 if bright else 51
    noise = np.random.default_rng(seed).integers(-30, 31, (side_px, side_px, 1))
    return (middle + noise).astype(np.uint8)


ANOMALY_FRAME_HW = (48, 64)
ANOMALY_PATCH = (slice(12, 24), slice(32, 48))
"""Of a frame that is not OK: 2 by 2 cells of the map, rows and columns."""


def anomaly_contract() -> Contract:
    """Gray frames, wider than high, to a score and a map of 8 by 8."""
    return Contract(
        product="tiny-anomaly",
        frame=FrameSpec(size_hw=ANOMALY_FRAME_HW, channels=1),
        input=InputSpec(size_hw=(SIDE_PX, SIDE_PX), channels=1),
        outputs=(OutputSpec(name="score"), OutputSpec(name="map", shape=(8, 8))),
        head=AnomalyHead(map="map", region_limit=0.5),
    )


def anomaly_onnx() -> onnx.ModelProto:
    """(batch, 32, 32, 1) uint8 to brightness in [0, 1]: of 8 by 8 cells, and of the brightest."""
    constants = {
        "scale": np.float32(1 / 255),
        "channel": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["nchw"], ["cells"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Squeeze", ["cells", "channel"], ["map"]),
        helper.make_node("ReduceMax", ["map"], ["score"], axes=[1, 2], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "anomaly",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE_PX, SIDE_PX, 1])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("map", TensorProto.FLOAT, ["batch", 8, 8]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def anomaly_frame(*, bright: bool, seed: int) -> NDArray[np.uint8]:
    """(48, 64, 1) uint8: noise around 0.2 of full scale; bright, a patch of it around 0.8."""
    height, width = ANOMALY_FRAME_HW
    frame = tiny_frame(bright=False, seed=seed, side_px=max(height, width))[:height]
    frame[ANOMALY_PATCH] += np.uint8(153 if bright else 0)
    return frame


def build_tiny_bundle(folder: Path, *, frame_count: int = 6) -> TinyBundle:
    """Build, prove and seal it in ``folder``."""
    return _build(folder, tiny_contract(), tiny_onnx(), tiny_rule(), tiny_frame, frame_count)


def camera_frame(*, bright: bool, seed: int) -> NDArray[np.uint8]:
    """(48, 64, 3) uint8: what a camera of `mjpeg_server` gives, noise around 0.2 or 0.8."""
    middle = 204 if bright else 51
    noise = np.random.default_rng(seed).integers(-4, 5, (48, 64, 3))
    return (middle + noise).astype(np.uint8)


def build_camera_bundle(folder: Path, *, frame_count: int = 6) -> TinyBundle:
    """The tiny one for colour frames of 48 by 64."""
    contract = tiny_contract(frame=FrameSpec(size_hw=(48, 64), channels=3))
    return _build(folder, contract, tiny_onnx(), tiny_rule(), camera_frame, frame_count)


def build_anomaly_bundle(folder: Path, *, frame_count: int = 6) -> TinyBundle:
    """The same with a score and a map."""
    rule = LimitRule(ok_limit=0.4, not_ok_limit=0.6)
    return _build(folder, anomaly_contract(), anomaly_onnx(), rule, anomaly_frame, frame_count)


def _build(
    folder: Path,
    contract: Contract,
    model: onnx.ModelProto,
    rule: LimitRule,
    make_frame: Callable[..., NDArray[np.uint8]],
    frame_count: int,
) -> TinyBundle:
    models = (ONNX_ENTRY, OPENVINO_ENTRY)
    parts = model_parts(model, folder)
    golden_frames = [make_frame(bright=seed % 2 == 1, seed=seed) for seed in range(4)]
    golden = encode_golden(golden_samples(contract, parts, golden_frames))
    parts = (*parts, PartData(name=GOLDEN_PART, data=golden))
    manifest = Manifest(
        identity=Identity(product=contract.product, version="1.0.0"),
        contract=contract,
        rule=rule,
        models=models,
        evidence=Evidence(
            agreements=(),
            metrics={},
            sample_counts={"golden": len(golden_frames)},
            samples_sha256="0" * 64,
        ),
        provenance={"made_by": "tests/plugins/tiny_bundle.py"},
    )
    private_key_path, public_key_path = write_key_pair(folder, "tiny")
    path = folder / "tiny.lsb"
    seal_bundle(path, manifest=manifest, parts=parts, key=load_private_key(private_key_path))
    return TinyBundle(
        path=path,
        public_key_path=public_key_path,
        private_key_path=private_key_path,
        manifest=manifest,
        parts=parts,
        ok_frame_hwc=make_frame(bright=False, seed=100),
        not_ok_frame_hwc=make_frame(bright=True, seed=101),
        frames=_write_frames(folder / "frames", make_frame, frame_count),
    )


def _write_frames(
    folder: Path, make_frame: Callable[..., NDArray[np.uint8]], count: int
) -> tuple[Path, ...]:
    folder.mkdir()
    paths = tuple(folder / f"part-{index:04d}.png" for index in range(count))
    for index, path in enumerate(paths):
        assert cv2.imwrite(str(path), make_frame(bright=index % 2 == 1, seed=200 + index))
    return paths
