"""Which engine with how many threads: who passes the golden self-test and is fastest here, and of
those that are about as fast the one with the fewest threads.

Measured once, remembered in a small file, and proved again by the self-test at every start.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineside.bundle import Bundle
from lineside.bundle.manifest import ModelEntry
from lineside.choice_memory import memory_file, recall, remember
from lineside.engines import (
    Engine,
    EngineSettings,
    available_engines,
)
from lineside.engines.machine import usable_cores
from lineside.errors import (
    EngineError,
    ProviderError,
    SelfTestError,
)
from lineside.selftest import open_tested, prepare_golden, read_golden
from lineside.several import Several

_LOG: Final = logging.getLogger("lineside")
_WARM_UP_ROUNDS: Final = 5
_ROUNDS: Final = 30
# A slow model is not measured 30 times: the start would take minutes on a small device.
_BUDGET_S: Final = 3.0
# Parts come with gaps in which an engine's threads fall asleep. Called without any, two threads
# looked as fast as one on a busy machine (11.4 ms each); after 5 ms they took 16.1 against 12.2.
_GAP_S: Final = 0.002
# More threads must save a tenth. Cores are the station's other threads' too, and what was measured
# on a quiet day does not hold on a busy one, where several threads wait for the slowest.
_NEAR: Final = 1.1


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One way to run the bundle's model."""

    engine: str
    precision: str
    threads: int

    def told(self) -> str:
        """For people."""
        return f"{self.engine}/{self.precision} with {self.threads} thread(s)"


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate that passed, with its median time for one image in microseconds."""

    candidate: Candidate
    median_us: float


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate that did not pass, and why."""

    candidate: Candidate
    detail: str


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What was taken, and beside what.

    Attributes:
        taken: the fastest that passed, or one with fewer threads that is about as fast.
        measured: all that passed; empty where there was nothing to compare.
        refused: all that did not.
        remembered: taken from an earlier measurement, proved again by the self-test.
        several: how several frames at once are computed; ``None`` where nobody asked.
    """

    taken: Candidate
    measured: tuple[Measured, ...] = ()
    refused: tuple[Refused, ...] = ()
    remembered: bool = False
    several: Several | None = None


def list_candidates(
    bundle: Bundle, *, engine: str, precision: str | None, threads: int | None
) -> tuple[list[tuple[ModelEntry, Candidate]], list[Refused]]:
    """All ways to run what is in the file, and those that cannot run here with the reason.

    Args:
        bundle: opened and verified.
        engine: ``auto`` or one engine's name.
        precision: ``None`` for any.
        threads: ``None`` tries a few numbers.
    """
    counts = (threads,) if threads is not None else thread_counts(usable_cores())
    ways: list[tuple[ModelEntry, Candidate]] = []
    refused: list[Refused] = []
    for model in bundle.manifest.models:
        if engine not in ("auto", model.engine) or precision not in (None, model.precision):
            continue
        named = [
            Candidate(engine=model.engine, precision=model.precision, threads=count)
            for count in counts
        ]
        obstacle = find_obstacle(bundle, model)
        if obstacle:
            refused.append(Refused(candidate=named[0], detail=obstacle))
        else:
            ways += [(model, candidate) for candidate in named]
    return ways, refused


def find_obstacle(bundle: Bundle, model: ModelEntry) -> str:
    """Why a form of the model cannot even be tried here; ``""`` where it can."""
    absent = [part for part in model.parts if part not in bundle.present]
    if absent:
        return f"not in this thin copy: {absent[0]}"
    if model.engine not in available_engines():
        return f"not installed: pip install 'lineside[{model.engine}]'"
    return ""


def thread_counts(cores: int) -> tuple[int, ...]:
    """Numbers of threads worth trying: one, half of the cores, all of them."""
    return tuple(sorted({1, (cores + 1) // 2, cores}))


def open_proven(
    bundle: Bundle, model: ModelEntry, candidate: Candidate, settings: EngineSettings
) -> Engine:
    """Open one candidate and prove it on the golden samples.

    Raises:
        EngineError: it does not open, fails, or does not pass (`SelfTestError`).
        BundleFormatError: the golden samples are damaged.
    """
    return open_tested(bundle, model, replace(settings, threads=candidate.threads))


def choose_engine(
    bundle: Bundle,
    settings: EngineSettings,
    *,
    engine: str,
    precision: str | None,
    folder: Path,
) -> tuple[Engine, Choice]:
    """Take the fastest way that passes here, or one of fewer threads that is about as fast.

    Args:
        bundle: opened and verified.
        settings: what holds for every candidate; ``threads=None`` tries a few numbers.
        engine: ``auto`` or one engine's name.
        precision: ``None`` for any.
        folder: where the choice is remembered. One that cannot be written costs a warning.

    Raises:
        ProviderError: a provider or device that was asked for did not come up.
        SelfTestError: none passes; the message lists each with its reason.
    """
    _check_addressed(engine, settings)
    ways, refused = list_candidates(
        bundle, engine=engine, precision=precision, threads=settings.threads
    )
    asked = [msgspec.to_builtins(candidate) for _, candidate in ways]
    memory = memory_file(folder, bundle, settings, asked)
    remembered = _recall(memory, [candidate for _, candidate in ways]) if len(ways) > 1 else None
    if remembered is not None:
        model = next(model for model, candidate in ways if candidate == remembered.taken)
        try:
            opened = open_proven(bundle, model, remembered.taken, settings)
        except ProviderError:
            raise
        except EngineError as error:
            _LOG.warning("%s no longer passes: %s", remembered.taken.told(), error)
        else:
            return opened, remembered
    return _measure(bundle, settings, ways, refused, memory)


def _check_addressed(engine: str, settings: EngineSettings) -> None:
    """Refuse a setting that the named engine would pass over in silence."""
    if engine == "onnxruntime" and settings.device != "CPU":
        raise ProviderError(
            f"onnxruntime: device {settings.device!r} is OpenVINO's; name providers instead",
            asked=settings.device,
            available=("CPU",),
        )
    if engine == "openvino" and settings.providers:
        raise ProviderError(
            f"openvino: providers {', '.join(settings.providers)} are ONNX Runtime's; name a "
            "device instead",
            asked=settings.providers[0],
            available=(),
        )


def _measure(
    bundle: Bundle,
    settings: EngineSettings,
    ways: Sequence[tuple[ModelEntry, Candidate]],
    refused: list[Refused],
    memory: Path,
) -> tuple[Engine, Choice]:
    with contextlib.ExitStack() as on_fault:
        passed = _open_passing(bundle, settings, ways, refused, on_fault)
        if not passed:
            raise _nothing_passes(bundle, refused)
        if len(passed) == 1:
            on_fault.pop_all()
            return passed[0][1], Choice(taken=passed[0][0], refused=tuple(refused))
        inputs = prepare_golden(read_golden(bundle), bundle.manifest.contract)
        medians_us = measure_medians([opened for _, opened in passed], inputs)
        on_fault.pop_all()
    measured = tuple(
        Measured(candidate=candidate, median_us=median_us)
        for (candidate, _), median_us in zip(passed, medians_us, strict=True)
    )
    place = measured.index(pick_way(measured))
    for _, opened in [*passed[:place], *passed[place + 1 :]]:
        opened.close()
    choice = Choice(taken=passed[place][0], measured=measured, refused=tuple(refused))
    remember(memory, choice)
    return passed[place][1], choice


def pick_way(measured: Sequence[Measured]) -> Measured:
    """Of those within a tenth of the fastest the one with the fewest threads, then the fastest."""
    limit_us = _NEAR * min(found.median_us for found in measured)
    near = [found for found in measured if found.median_us <= limit_us]
    return min(near, key=lambda found: (found.candidate.threads, found.median_us))


def _open_passing(
    bundle: Bundle,
    settings: EngineSettings,
    ways: Sequence[tuple[ModelEntry, Candidate]],
    refused: list[Refused],
    on_fault: contextlib.ExitStack,
) -> list[tuple[Candidate, Engine]]:
    """All that pass; the others join ``refused``."""
    passed: list[tuple[Candidate, Engine]] = []
    for model, candidate in ways:
        try:
            opened = open_proven(bundle, model, candidate, settings)
        except ProviderError:
            # Asked for by name: another engine in its place would be a silent replacement.
            raise
        except EngineError as error:
            _LOG.warning("%s is refused: %s", candidate.told(), error)
            refused.append(Refused(candidate=candidate, detail=str(error)))
        else:
            on_fault.callback(opened.close)
            passed.append((candidate, opened))
    return passed


def measure_medians(engines: Sequence[Engine], inputs_nhwc: NDArray[np.uint8]) -> list[float]:
    """Median time of each for one image, in microseconds.

    Interleaved, so that whatever else the machine does hurts all alike; each round begins with
    another one and after a pause, as parts come on a line.

    Args:
        engines: opened.
        inputs_nhwc: (N, H, W, C) uint8; each round infers the next one.
    """
    times_ns: list[list[int]] = [[] for _ in engines]
    ends_ns = perf_counter_ns() + int(_BUDGET_S * 1e9)
    for round_index in range(_WARM_UP_ROUNDS + _ROUNDS):
        position = round_index % len(inputs_nhwc)
        one = inputs_nhwc[position : position + 1]
        time.sleep(_GAP_S)
        for turn in range(len(engines)):
            place = (round_index + turn) % len(engines)
            started = perf_counter_ns()
            engines[place].infer(one)
            times_ns[place].append(perf_counter_ns() - started)
        if perf_counter_ns() > ends_ns:
            break
    return [median(_after_warm_up(times)) / 1e3 for times in times_ns]


def _after_warm_up(times_ns: list[int]) -> list[int]:
    return times_ns[_WARM_UP_ROUNDS:] or times_ns[-1:]


def _nothing_passes(bundle: Bundle, refused: Sequence[Refused]) -> SelfTestError:
    reasons = "; ".join(f"{found.candidate.told()}: {found.detail}" for found in refused)
    offered = ", ".join(f"{model.engine}/{model.precision}" for model in bundle.manifest.models)
    return SelfTestError(
        f"{bundle.path}: no engine passes on this device. "
        + (reasons or f"The bundle offers {offered}, which is not what was asked for")
    )


def _recall(memory: Path, candidates: Sequence[Candidate]) -> Choice | None:
    choice = recall(memory, Choice)
    if choice is None or choice.taken not in candidates:
        return None
    return msgspec.structs.replace(choice, remembered=True)
