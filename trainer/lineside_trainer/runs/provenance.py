"""Where a result comes from: versions, machine, command."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Final

import torch

from lineside.engines.machine import cpu_name

_DISTRIBUTIONS: Final = (
    *("lineside", "lineside-trainer"),
    *("torch", "timm", "lightning", "numpy", "opencv-python-headless"),
)


def versions() -> dict[str, str]:
    """Of everything that decides a figure."""
    found = {name: metadata.version(name) for name in _DISTRIBUTIONS}
    return {"python": platform.python_version(), **found}


def machine(device: str) -> str:
    """In words, for people."""
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, {cpu_name()}"
    return f"{cpu_name()}, {torch.get_num_threads()} threads of {os.cpu_count()} cores"


def command() -> str:
    """What was typed, as it can be typed again."""
    name = Path(sys.argv[0]).name
    # `python -c` leaves no name behind, and whoever calls our command line so means `lineside`.
    return shlex.join(["lineside" if name == "-c" else name, *sys.argv[1:]])
