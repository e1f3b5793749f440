"""The simulation of `benchmarks/drift_alarms.py`, for tests: one definition of both."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

_FILE: Final = Path(__file__).parents[2] / "benchmarks" / "drift_alarms.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("drift_alarms", _FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


SIMULATION: Final = _load()
