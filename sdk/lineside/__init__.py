"""Lineside: inspect parts beside the line.

import lineside

inspector = lineside.load("joint.lsb", trust="factory.pub")
verdict = inspector.inspect(lineside.read_frame("part-0001.png"))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lineside.errors import LinesideError
    from lineside.frame import Frame, decode_frame, read_frame
    from lineside.inspector import Inspection, Inspector
    from lineside.limits import LimitSettings
    from lineside.loading import load
    from lineside.verdict import Evaluation, Finding, Reason, Region, Timings, Verdict

__version__ = "0.1.0"

# Resolved on first use: `lineside --help` must not wait for numpy and OpenCV. No module may have
# a public name of this package: importing it would put the module in the name's place.
_HOMES = {
    "Evaluation": "lineside.verdict",
    "Finding": "lineside.verdict",
    "Frame": "lineside.frame",
    "Inspection": "lineside.inspector",
    "Inspector": "lineside.inspector",
    "LimitSettings": "lineside.limits",
    "LinesideError": "lineside.errors",
    "Reason": "lineside.verdict",
    "Region": "lineside.verdict",
    "Timings": "lineside.verdict",
    "Verdict": "lineside.verdict",
    "decode_frame": "lineside.frame",
    "load": "lineside.loading",
    "read_frame": "lineside.frame",
}

__all__ = [
    "Evaluation",
    "Finding",
    "Frame",
    "Inspection",
    "Inspector",
    "LimitSettings",
    "LinesideError",
    "Reason",
    "Region",
    "Timings",
    "Verdict",
    "decode_frame",
    "load",
    "read_frame",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'lineside' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
