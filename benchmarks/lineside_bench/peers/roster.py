"""Who is measured: what each installs, which file it opens, and who cannot do it and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import lineside
from lineside import __version__

Opens = Literal["program", "run", "engine", "bundle", "own"]
"""What a peer opens: ``program.pt2``, the trainer's run, an engine's model file, the bundle, or a
network of its own that its `prepare` made."""

OURS: Final = "vit_tiny"
"""The network that everybody computes who can; of the suite."""

RUNNERS: Final = Path(__file__).parent / "runners"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Somebody's runtime.

    Attributes:
        name: in tables; that of its environment's folder too.
        runner: file in `runners`.
        needs: modules that must be there to run in the present environment.
        installs: what its documentation says to install; empty: it runs in the present one.
        opens: as above.
        forms: of the weights, that it can take.
        engine: whose model file, where there is a choice.
        arithmetic: of float layers, where the peer is told to keep one.
        pinned: OpenVINO's threads keep their cores, its default.
        rounds: it takes bfloat16 for float layers by itself, where the CPU can.
        network: another one's name in words; empty where it computes the suite's ViT-Ti.
        model: of the suite, of which a bundle is opened.
        prepare: file in `runners` that makes its own network first.
        prepared: the file of it that is opened.
        environment: shared with the peer of this name; empty: its own.
        missing: why a form that the suite has is not among `forms`.
    """

    name: str
    runner: str
    needs: tuple[str, ...]
    installs: tuple[str, ...]
    opens: Opens
    forms: tuple[str, ...] = ("fp32",)
    engine: str = ""
    arithmetic: str = ""
    pinned: bool = True
    rounds: bool = False
    network: str = ""
    model: str = OURS
    prepare: str = ""
    prepared: str = ""
    environment: str = ""
    missing: str = ""


def _our_source(extra: str) -> tuple[str, ...]:
    """This very Lineside, as a device would install it."""
    folder = Path(lineside.__file__).parents[1]
    if (folder / "pyproject.toml").exists():
        return (f"lineside[{extra}] @ {folder.as_uri()}",)
    return (f"lineside[{extra}]=={__version__}",)


_NO_INT8_OF_TORCH: Final = (
    "the suite's int8 forms are QDQ ONNX and OpenVINO IR; torch would need one of its own"
)

_OPENVINO: Final = Peer(
    name="OpenVINO",
    runner="openvino_bare.py",
    needs=("openvino",),
    installs=("openvino",),
    opens="engine",
    engine="openvino",
    forms=("fp32", "int8"),
    rounds=True,
)

PEERS: Final = (
    Peer(
        name="torch eager",
        runner="torch_eager.py",
        needs=("torch",),
        installs=("torch", "numpy"),
        opens="program",
        missing=_NO_INT8_OF_TORCH,
    ),
    Peer(
        name="torch eager, trainer's class",
        runner="trainer_eager.py",
        needs=("torch", "lineside_trainer"),
        installs=(),
        opens="run",
        missing=_NO_INT8_OF_TORCH,
    ),
    Peer(
        name="torch.compile",
        runner="torch_compile.py",
        needs=("torch",),
        installs=("torch", "numpy"),
        opens="program",
        environment="torch eager",
        missing=_NO_INT8_OF_TORCH,
    ),
    Peer(
        name="ONNX Runtime",
        runner="onnxruntime_bare.py",
        needs=("onnxruntime",),
        installs=("onnxruntime",),
        opens="engine",
        engine="onnxruntime",
        forms=("fp32", "int8"),
    ),
    _OPENVINO,
    replace(
        _OPENVINO,
        name="OpenVINO kept to f32",
        rounds=False,
        arithmetic="f32",
        environment="OpenVINO",
    ),
    replace(
        _OPENVINO,
        name="OpenVINO as Lineside sets it",
        rounds=False,
        arithmetic="f32",
        pinned=False,
        environment="OpenVINO",
    ),
    Peer(
        name="OpenVINO Model API",
        runner="model_api_value.py",
        needs=("model_api",),
        installs=("openvino-model-api",),
        opens="engine",
        engine="openvino",
        forms=("fp32", "int8"),
        rounds=True,
    ),
    Peer(
        name="anomalib",
        runner="anomalib_inferencer.py",
        needs=("anomalib", "openvino"),
        installs=("anomalib[openvino,cpu]",),
        opens="own",
        network="PatchCore on ResNet-18",
        prepare="anomalib_prepare.py",
        prepared="weights/openvino/model.xml",
        missing="not tried: its int8 export calibrates on a labelled validation set of its own",
    ),
    Peer(
        name="ultralytics",
        runner="ultralytics_classify.py",
        needs=("ultralytics", "onnxruntime", "onnx"),
        installs=("ultralytics", "onnx", "onnxslim", "onnxruntime"),
        opens="own",
        network="YOLO11n-cls",
        prepare="ultralytics_prepare.py",
        prepared="model.onnx",
        missing="not tried: its ONNX export offers float32 and float16 only",
    ),
    Peer(
        name="Lineside, ONNX Runtime",
        runner="lineside_whole.py",
        needs=("lineside", "onnxruntime"),
        installs=_our_source("onnxruntime"),
        opens="bundle",
        engine="onnxruntime",
        forms=("fp32", "int8"),
    ),
    Peer(
        name="Lineside, OpenVINO",
        runner="lineside_whole.py",
        needs=("lineside", "openvino"),
        installs=_our_source("openvino"),
        opens="bundle",
        engine="openvino",
        forms=("fp32", "int8"),
    ),
    Peer(
        name="Lineside, patch memory",
        runner="lineside_whole.py",
        needs=("lineside", "openvino"),
        installs=_our_source("openvino"),
        opens="bundle",
        engine="openvino",
        forms=("fp32",),
        network="patch memory on ResNet-18",
        model="memory",
        environment="Lineside, OpenVINO",
    ),
)

CANNOT: Final = {
    "anomalib with the ViT-Ti": (
        "OpenVINOInferencer divides pixels by 255, turns them to NCHW float and reads anomaly "
        "outputs (pred_score, anomaly_map); the ViT-Ti takes raw uint8 NHWC and gives one value"
    ),
    "ultralytics with the ViT-Ti": (
        "YOLO(…) feeds an ONNX file float RGB NCHW in [0, 1] and reads class probabilities; the "
        "ViT-Ti takes raw uint8 NHWC of one channel and gives one value"
    ),
}
"""What was left out, and why; those that fail in the run join it."""
