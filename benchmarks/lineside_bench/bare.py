"""The bare engine: what is left when Lineside is taken away. The same files, threads and precision,
opened and called as the vendor's documentation shows for the least latency, nothing tuned down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineside.bundle import Bundle
from lineside.bundle.manifest import ModelEntry
from lineside.contract import Contract
from lineside.engines.openvino import shared_core
from lineside.engines.silence import silence_telemetry
from lineside.memory import MEMORY_PART, Rows, view_memory

BareCall = Callable[[NDArray[np.uint8]], Any]
"""Takes a batch (N, H, W, C) uint8, gives what the vendor gives."""


def open_bare(
    bundle: Bundle, model: ModelEntry, threads: int, *, spinning: bool = True, pinned: bool = True
) -> BareCall:
    """One sealed model in its own engine.

    Args:
        bundle: opened and verified.
        model: of its manifest.
        threads: computing threads.
        spinning: ONNX Runtime's default, in which its threads keep their cores busy between two
            calls; ``False`` is how Lineside runs it. OpenVINO knows no such thing.
        pinned: OpenVINO's default, in which a thread keeps its core, also where another process has
            taken it; ``False`` is how Lineside runs it. Of ONNX Runtime nobody asks it here.
    """
    silence_telemetry()
    parts = [bytes(bundle.part(name)) for name in model.parts]
    contract = bundle.manifest.contract
    rows = None
    if contract.memory is not None:
        rows = view_memory(bundle.part(MEMORY_PART), contract.memory, source=MEMORY_PART)
    if model.engine == "openvino":
        return _openvino(parts, contract, model, threads, rows, pinned=pinned)
    return _onnxruntime(parts[0], contract, threads, rows, spinning=spinning)


def _openvino(
    parts: list[bytes],
    contract: Contract,
    model: ModelEntry,
    threads: int,
    rows: Rows | None,
    *,
    pinned: bool,
) -> BareCall:
    import openvino

    core = shared_core()  # two that end in the wrong order end the process too
    weights = openvino.Tensor(np.frombuffer(parts[1], np.uint8).copy())
    network = core.read_model(parts[0], weights)
    shape = [model.batch, *contract.input.size_hw, contract.input.channels]
    memory = {} if contract.memory is None or rows is None else {contract.memory.name: rows}
    network.reshape(
        {contract.input.name: shape, **{name: list(kept.shape) for name, kept in memory.items()}}
    )
    settings = _openvino_settings(model, threads, pinned=pinned)
    compiled = core.compile_model(network, "CPU", settings)
    # "Inference Request" of its documentation: one request, tensors set once. Of the ways that the
    # documentation shows the fastest here: some 0.1 ms less than `compiled(batch)`.
    request = compiled.create_infer_request()
    for name, kept in memory.items():
        request.set_tensor(compiled.input(name), openvino.Tensor(kept.copy()))
    tensor = openvino.Tensor(openvino.Type.u8, shape)
    request.set_tensor(compiled.input(contract.input.name), tensor)
    pixels = tensor.data

    def call(batch_nhwc: NDArray[np.uint8]) -> Any:
        pixels[...] = batch_nhwc
        return request.infer(share_outputs=True)

    return call


def _openvino_settings(model: ModelEntry, threads: int, *, pinned: bool) -> dict[str, str | int]:
    settings: dict[str, str | int] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": model.inference_precision,
    }
    if not pinned:
        settings["ENABLE_CPU_PINNING"] = False
    return settings


def _onnxruntime(
    model: bytes, contract: Contract, threads: int, rows: Rows | None, *, spinning: bool
) -> BareCall:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = contract.input.name
    memory = {} if contract.memory is None or rows is None else {contract.memory.name: rows}

    # Binding inputs and outputs (`io_binding`) spares copies to other devices; on a CPU it took
    # 1.03 to 1.09 times as long here.
    def call(batch_nhwc: NDArray[np.uint8]) -> Any:
        return session.run(None, {name: batch_nhwc, **memory})

    return call
