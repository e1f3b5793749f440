"""The one place that mutes what would call home. It runs before any vendor's module is imported."""

from __future__ import annotations

import os
import sys
from typing import Final

_OPENVINO_TELEMETRY: Final = "openvino_telemetry"

# ONNX Runtime's wheels for Linux send telemetry since 1.29 (its Privacy.md); 1.29 itself knew the
# second name only. Either keeps the uploader, the device id and the store from being made.
_ONNXRUNTIME_VARIABLES: Final = ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED")


def silence_telemetry() -> None:
    """Make openvino, nncf and onnxruntime silent in this process and its children.

    Call it before any of them is imported. openvino and nncf import `openvino_telemetry`, which
    writes a folder into the home directory and forks a child that calls home; onnxruntime writes
    a device id and a store into the cache folder, and uploads from a thread. Called again it
    changes nothing; called late it keeps the others silent, but cannot take back a call.
    """
    # None in sys.modules makes Python raise ModuleNotFoundError for this name, by its own rules
    # (docs.python.org, "The import system", section 5.3.1); both vendors then use the stand-in
    # that they ship for machines without it.
    sys.modules[_OPENVINO_TELEMETRY] = None  # type: ignore[assignment]
    for variable in _ONNXRUNTIME_VARIABLES:
        os.environ[variable] = "1"
