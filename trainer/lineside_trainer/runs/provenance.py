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

from lineside.commit import find_commit
from lineside.engines.machine import cpu_name
from lineside_trainer.runs.results import TrainedRun, TrainResult

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


def candidate_provenance(result: TrainResult) -> dict[str, str]:
    """What a candidate, and the bundle made of it, say of the run they are from."""
    run = result.run
    return {
        "task": result.task,
        "arch": result.arch,
        "target": result.target,
        "data_sha256": run.data_sha256,
        "seed": str(run.seed),
        "split_seed": str(run.split_seed),
        "epochs": str(run.epochs),
        "transductive": str(run.transductive).lower(),
        # Names alone: the bundle goes to stations, the factory's folders do not.
        "init": Path(result.init).name,
        "weights": Path(result.weights).name,
        "weights_sha256": result.weights_sha256,
        **_earlier("teacher", result.teacher),
        **_earlier("slimmed_from", result.slimmed_from),
        f"test_{result.metric}": f"{result.test[result.metric].value:.6g}",
        "baseline": result.baseline_name,
        f"baseline_{result.metric}": f"{result.baseline[result.metric].value:.6g}",
        **{f"version_{name}": version for name, version in run.versions.items()},
        "commit": find_commit(Path(__file__)),
    }


def _earlier(name: str, run: TrainedRun | None) -> dict[str, str]:
    return {name: Path(run.run).name, f"{name}_sha256": run.sha256} if run else {}
