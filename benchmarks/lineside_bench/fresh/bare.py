"""Plain files and the bare engine, as the vendor's documentation shows: read, compile, one call."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from lineside_bench.fresh.telling import Diary, told_to_do

Call = Callable[[], object]


def main() -> None:
    """Run what the argument names."""
    diary = Diary()
    asked = told_to_do()
    begin = _openvino if asked["engine"] == "openvino" else _onnxruntime
    call = begin(asked, diary)
    diary.mark("load")
    call()
    diary.close(call, asked["frames"])


def _openvino(asked: dict[str, Any], diary: Diary) -> Call:
    # As quiet as Lineside keeps it: nothing is called home from either side.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import numpy as np
    import openvino

    diary.mark("import")
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": asked["threads"],
        "INFERENCE_PRECISION_HINT": asked["arithmetic"],
    }
    if asked["cache"]:
        settings["CACHE_DIR"] = asked["cache"]
    core = openvino.Core()
    # By its path: OpenVINO finds the weights beside it and maps them.
    network = core.read_model(asked["files"][0])
    network.reshape({asked["input"]: asked["shape"]})
    request = core.compile_model(network, "CPU", settings).create_infer_request()
    pixels = np.full(asked["shape"], 99, np.uint8)
    return lambda: request.infer([pixels], share_inputs=True, share_outputs=True)


def _onnxruntime(asked: dict[str, Any], diary: Diary) -> Call:
    import numpy as np
    import onnxruntime

    diary.mark("import")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = asked["threads"]
    session = onnxruntime.InferenceSession(
        asked["files"][0], options, providers=["CPUExecutionProvider"]
    )
    pixels = np.full(asked["shape"], 99, np.uint8)
    return lambda: session.run(None, {asked["input"]: pixels})


if __name__ == "__main__":
    main()
