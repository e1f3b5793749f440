"""The bundle format's test vectors, and the generator that made them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Final

from lineside.bundle import Manifest, PrivateKey, TrustedKeys

VECTORS: Final = Path(__file__).parents[1] / "sdk" / "bundle_vectors"


def _load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", VECTORS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


VECTOR: Final = _load_generator()
KEY: Final[PrivateKey] = VECTOR.FACTORY
TRUSTED: Final[TrustedKeys] = VECTOR.TRUSTED


def minimal_manifest() -> Manifest:
    """What ``minimal.bin`` says, before its table of parts."""
    manifest: Manifest = VECTOR.describe(VECTOR.ONNX)
    return manifest


def minimal() -> bytes:
    """One part, sealed by `KEY`."""
    return (VECTORS / "minimal.bin").read_bytes()


def full() -> bytes:
    """Parts of both engines and common ones, sealed by `KEY`."""
    return (VECTORS / "full.bin").read_bytes()
