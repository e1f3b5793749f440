"""Inference engines behind one protocol: ONNX Runtime and OpenVINO."""

from lineside.engines.protocol import Engine, EngineSettings, ModelFiles, ReadPart
from lineside.engines.registry import (
    ENGINE_NAMES,
    available_engines,
    engine_devices,
    engine_version,
    open_engine,
)
from lineside.engines.silence import silence_telemetry

__all__ = [
    "ENGINE_NAMES",
    "Engine",
    "EngineSettings",
    "ModelFiles",
    "ReadPart",
    "available_engines",
    "engine_devices",
    "engine_version",
    "open_engine",
    "silence_telemetry",
]
