"""How `roofline.py` runs what it tries: each way is opened once, then called round by round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
from roofline_networks import Kitchen, Shape, noise

from lineside.engines.openvino import shared_core

FRAME_PX: Final = 128
"""Side of a frame that is shrunk to the model's input."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to run one network.

    Attributes:
        call: with the number of the round.
        images: that one call infers.
    """

    call: Callable[[int], object]
    images: int = 1


Open = Callable[[Kitchen], Way]


def openvino(
    *,
    shape: Shape = Shape(),  # noqa: B008
    form: str = "int8",
    precision: str = "f32",
    threads: int = 1,
    batch: int = 1,
    settings: Mapping[str, Any] | None = None,
) -> Open:
    """OpenVINO, a static batch in a bound tensor, as the SDK's engine runs it.

    Args:
        shape: of the network.
        form: of `OPENVINO_FORMS`.
        precision: "f32" or "bf16", for all that is not int8.
        threads: that compute.
        batch: images at once.
        settings: more of OpenVINO's.
    """

    def opened(kitchen: Kitchen) -> Way:
        import openvino as ov

        compiled = _compile(
            _network(kitchen.openvino(shape, form), shape, batch),
            {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision}
            | {"NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
            | dict(settings or {}),
        )
        request = compiled.create_infer_request()
        request.set_input_tensor(ov.Tensor(noise(shape, batch)))
        return Way(call=lambda _: request.infer(share_outputs=True), images=batch)

    return opened


def pairs(*, threads: int) -> Open:
    """Two requests on their way at once, a stream each: for images that come in pairs."""

    def opened(kitchen: Kitchen) -> Way:
        import openvino as ov

        shape = Shape()
        compiled = _compile(
            _network(kitchen.openvino(shape, "int8"), shape, 1),
            {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 2}
            | {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
            | {"ENABLE_CPU_PINNING": False},
        )
        requests = [compiled.create_infer_request() for _ in range(2)]
        for request in requests:
            request.set_input_tensor(ov.Tensor(noise(shape, 1)))

        def call(_: int) -> None:
            for request in requests:
                request.start_async()
            for request in requests:
                request.wait()

        return Way(call=call, images=2)

    return opened


def from_frame(*, in_graph: bool) -> Open:
    """A frame of twice the side: shrunk by OpenCV before the graph, or by the graph."""

    def opened(kitchen: Kitchen) -> Way:
        import openvino as ov

        shape = Shape()
        network = _network(kitchen.openvino(shape, "int8"), shape, 1)
        frame = noise(Shape(side_px=FRAME_PX), 1)
        if in_graph:
            network = _with_resize(network)
        compiled = _compile(
            network, {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
        )
        request = compiled.create_infer_request()
        tensor = ov.Tensor(frame if in_graph else noise(shape, 1))
        request.set_input_tensor(tensor)
        target, side = tensor.data, (shape.side_px, shape.side_px)

        def shrink_and_infer(_: int) -> None:
            target[0, :, :, 0] = cv2.resize(frame[0], side, interpolation=cv2.INTER_LINEAR)
            request.infer(share_outputs=True)

        return Way(
            call=(lambda _: request.infer(share_outputs=True)) if in_graph else shrink_and_infer
        )

    return opened


def onnx_runtime(
    *,
    shape: Shape = Shape(),  # noqa: B008
    form: str = "int8",
    threads: int = 1,
    options: Mapping[str, str] | None = None,
    level: str = "ORT_ENABLE_ALL",
    fixed_batch: bool = False,
) -> Open:
    """ONNX Runtime as the SDK's engine runs it.

    Args:
        shape: of the network.
        form: of `ONNX_FORMS`.
        threads: that compute.
        options: of the session, over the SDK's own.
        level: of graph optimisation.
        fixed_batch: tell it that the batch is 1.
    """
    asked = dict(options or {})

    def opened(kitchen: Kitchen) -> Way:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 4
        settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        if fixed_batch:
            settings.add_free_dimension_override_by_name("batch", 1)
        for name, value in ({"session.intra_op.allow_spinning": "0"} | asked).items():
            settings.add_session_config_entry(name, value)
        session = onnxruntime.InferenceSession(
            kitchen.onnx(shape, form).read_bytes(), settings, providers=["CPUExecutionProvider"]
        )
        feed = {"image": noise(shape, 1)}
        return Way(call=lambda _: session.run(None, feed))

    return opened


def _network(file: Path, shape: Shape, batch: int) -> Any:
    network = shared_core().read_model(file)
    network.reshape({0: [batch, shape.side_px, shape.side_px, 1]})
    return network


def _compile(network: Any, settings: Mapping[str, Any]) -> Any:
    return shared_core().compile_model(network, "CPU", {"PERFORMANCE_HINT": "LATENCY", **settings})


def _with_resize(network: Any) -> Any:
    import openvino as ov
    from openvino.preprocess import PrePostProcessor, ResizeAlgorithm

    steps = PrePostProcessor(network)
    steps.input().tensor().set_layout(ov.Layout("NHWC"))
    steps.input().tensor().set_spatial_static_shape(FRAME_PX, FRAME_PX)
    steps.input().model().set_layout(ov.Layout("NHWC"))
    steps.input().preprocess().resize(ResizeAlgorithm.RESIZE_LINEAR)
    return steps.build()
