"""What each form costs here: latency of one frame, and the memory of a process that runs it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineside.contract import encode_contract
from lineside_export import peak_memory
from lineside_export.errors import ExportError
from lineside_export.formats import Format, Given, memory_parts
from lineside_export.vendors import scratch_folder

_WARM_UP: Final = 20
_ROUNDS: Final = 200
_PEAK_TIMEOUT_S: Final = 300.0


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one form.

    Attributes:
        p50_us, p99_us: one inference, batch 1, one thread, microseconds.
        peak_memory_bytes: resident at most, of a process that holds the device's runtime, opens
            the form and runs it: no torch, no exporter.
    """

    p50_us: float
    p99_us: float
    peak_memory_bytes: int


def measure_costs(
    forms: Sequence[Format],
    images_nhwc: NDArray[np.uint8],
    given: Given,
    progress: Callable[[str], None],
) -> list[Cost]:
    """Latencies in turns, so that whatever else the machine does hurts all alike; then memory.

    Args:
        forms: those that can be opened here.
        images_nhwc: (N, H, W, C) uint8, used in turn.
        given: names and shapes, and the memory.
        progress: told what is being done.

    Raises:
        EngineError: an engine refuses a form or fails.
        ExportError: a process that runs one dies, or does not come to an end.
    """
    progress(f"latency of {len(forms)} forms, {_ROUNDS} rounds in turn, one thread")
    latencies_us = _measure_latencies_us(forms, images_nhwc, given)
    progress("peak memory, each form in a process of its own")
    return [
        Cost(
            p50_us=float(np.percentile(taken, 50)),
            p99_us=float(np.percentile(taken, 99)),
            peak_memory_bytes=measure_peak_bytes(made, given),
        )
        for made, taken in zip(forms, latencies_us, strict=True)
    ]


def _measure_latencies_us(
    forms: Sequence[Format], images_nhwc: NDArray[np.uint8], given: Given
) -> list[list[float]]:
    taken: list[list[float]] = [[] for _ in forms]
    with contextlib.ExitStack() as stack:
        engines = []
        for made in forms:
            engines.append(made.open(given))
            stack.callback(engines[-1].close)
        for number in range(_WARM_UP + _ROUNDS):
            image = images_nhwc[number % len(images_nhwc)][np.newaxis]
            for engine, latencies in zip(engines, taken, strict=True):
                before_ns = perf_counter_ns()
                engine.infer(image)
                after_ns = perf_counter_ns()
                if number >= _WARM_UP:
                    latencies.append((after_ns - before_ns) / 1e3)
    return taken


def measure_peak_bytes(made: Format, given: Given) -> int:
    """Resident memory at most of a process that opens the form and runs it.

    Raises:
        ExportError: the process dies, or does not come to an end.
        StorageError: temporary files cannot be written.
    """
    with scratch_folder() as folder:
        (folder / peak_memory.ENTRY).write_bytes(msgspec.json.encode(made.entry))
        (folder / peak_memory.CONTRACT).write_bytes(encode_contract(given.contract))
        for part in (*made.parts, *memory_parts(given)):
            file = folder / part.name
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(part.data)
        try:
            # -P: what lies in the folder one stands in is no module of ours.
            done = subprocess.run(
                [sys.executable, "-P", "-m", peak_memory.__name__, folder],
                capture_output=True,
                text=True,
                check=False,
                timeout=_PEAK_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise ExportError(
                f"{made.label}: the process that runs it takes more than {_PEAK_TIMEOUT_S:g} s: "
                "leave the form out with --precision, or export without --sweep"
            ) from error
    if done.returncode:
        words = " ".join(done.stderr.split()[-40:])
        raise ExportError(
            f"{made.label}: the process that runs it dies: {words}: leave the form out with "
            "--precision, or export without --sweep"
        )
    return int(done.stdout)
