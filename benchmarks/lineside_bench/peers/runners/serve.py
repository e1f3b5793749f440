"""A long-lived process with one peer in it: a line on stdin asks, a line of JSON answers.

Runs in the peer's own environment, so it needs the standard library and numpy alone.
`python serve.py JOB.json`; then `values`, `turn WAY START SETTLE COUNT` and `memory`, a line each.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Call = Callable[[NDArray[np.uint8]], float]
"""A frame (H, W, C) uint8 as it was acquired, to the model's value."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a runner opens.

    Attributes:
        runner: its file.
        images: a file of `numpy.save`, (N, H, W, C) uint8.
        model: the file that the peer opens.
        engine: ``onnxruntime`` or ``openvino`` where there is a choice, else empty.
        form: ``fp32`` or ``int8``.
        arithmetic: of float layers, e.g. ``f32``; empty leaves the peer's default.
        pinned: OpenVINO's threads keep their cores, its default.
        key: public key of the model, where it has a seal.
        threads: computing threads; ``None`` leaves the peer's default.
    """

    runner: str
    images: str
    model: str
    engine: str
    form: str
    arithmetic: str
    pinned: bool
    key: str
    threads: int | None


Opened = tuple[dict[str, Call], str]
"""A peer that is ready: how it can be called, by name; and its version and arithmetic in words."""


def _serve(job: Job, answers: int) -> None:
    images = np.load(job.images)
    started_ns = perf_counter_ns()
    runner = _import_runner(job.runner)
    imported_ns = perf_counter_ns()
    ways, told = _open(runner, job)
    loaded_ns = perf_counter_ns()
    next(iter(ways.values()))(images[0])
    first_ns = perf_counter_ns()
    ready = {
        "import_us": (imported_ns - started_ns) / 1e3,
        "load_us": (loaded_ns - imported_ns) / 1e3,
        "first_us": (first_ns - loaded_ns) / 1e3,
        "ways": list(ways),
        "told": told,
    }
    _answer(answers, ready)
    for line in sys.stdin:
        words = line.split()
        if words[0] == "turn":
            start, settle, count = map(int, words[2:])
            taken_us = _turn(ways[words[1]], images, start, settle, count)
            _answer(answers, {"taken_us": taken_us})
        elif words[0] == "values":
            found = {name: [float(way(image)) for image in images] for name, way in ways.items()}
            _answer(answers, {"values": found})
        else:
            _answer(answers, _memory())


def _turn(way: Call, images: NDArray[np.uint8], start: int, settle: int, count: int) -> list[float]:
    """Calls one after the other, each a duration in microseconds; the first few do not count."""
    taken_us = []
    for number in range(start - settle, start + count):
        image = images[number % len(images)]
        started_ns = perf_counter_ns()
        way(image)
        taken_us.append((perf_counter_ns() - started_ns) / 1e3)
    return taken_us[settle:]


def _memory() -> dict[str, int]:
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {
        "resident_bytes": int(found["VmRSS"].split()[0]) * 1024,
        "peak_bytes": int(found["VmHWM"].split()[0]) * 1024,
    }


def _open(runner: ModuleType, job: Job) -> Opened:
    opened: Opened = runner.open_peer(job)
    return opened


def _import_runner(file: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("peer_runner", file)
    assert spec is not None and spec.loader is not None, file
    module = importlib.util.module_from_spec(spec)
    # Model API looks for the class of a model by the module that made it.
    sys.modules["peer_runner"] = module
    spec.loader.exec_module(module)
    return module


def _answer(answers: int, found: dict[str, Any]) -> None:
    os.write(answers, json.dumps(found).encode("utf-8") + b"\n")


def main() -> None:
    """Serve one job until stdin ends."""
    # What vendors print must not come between the answers.
    answers = os.dup(1)
    os.dup2(2, 1)
    # The folder of this file holds modules that are named after what they measure.
    sys.path.pop(0)
    # OpenVINO counts its users on the internet, in a process of its own.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    job = Job(**json.loads(Path(sys.argv[1]).read_text("utf-8")))
    try:
        _serve(job, answers)
    # Whatever a vendor raises ends this peer, and is told as its reason.
    except Exception as error:
        told = str(error).strip().splitlines()
        _answer(answers, {"fault": f"{type(error).__name__}: {told[0] if told else ''}"[:300]})
        raise


if __name__ == "__main__":
    main()
