"""How long one inspection takes here: every engine and thread count, stage by stage.

Rounds are interleaved (each round, every candidate once, the same frame), so that whatever else
the machine does hurts all alike; the first rounds are not counted.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineside import __version__
from lineside.bundle import Bundle
from lineside.bundle.manifest import ModelEntry
from lineside.choose import Candidate, Refused, list_candidates, open_proven
from lineside.engines import Engine, EngineSettings, available_engines, engine_version
from lineside.engines.machine import cpu_flags, cpu_name, usable_cores
from lineside.engines.several import SeveralEngine, SeveralForm
from lineside.errors import EngineError, InputDataError, SelfTestError
from lineside.frame import Frame
from lineside.inspector import Inspector
from lineside.selftest import read_golden
from lineside.several import list_forms, open_several
from lineside.verdict import Evaluation, Reason, Timings, Verdict

WARM_UP_ROUNDS = 20


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where figures were taken; without it they mean nothing."""

    cpu: str
    cpu_flags: tuple[str, ...]
    usable_cores: int
    system: str
    python: str
    lineside: str
    engines: dict[str, str]


class StageLatency(msgspec.Struct, frozen=True, kw_only=True):
    """Microseconds for one image."""

    stage: str
    p50_us: float
    p90_us: float
    p99_us: float


class CandidateLatency(msgspec.Struct, frozen=True, kw_only=True):
    """One engine, precision and thread count: preprocess, infer, decide, total.

    Attributes:
        form: how several frames at once were computed; ``None``: one by one.
    """

    candidate: Candidate
    form: SeveralForm | None
    description: str
    stages: tuple[StageLatency, ...]


class BenchReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything measured in one go.

    Attributes:
        bundle: its hash.
        frames: how many different frames were used in turn.
        batch: so many were inspected at once; times are those of one of them.
        rounds: counted inspections for each candidate.
        candidates: in the order they were listed.
        refused: what could not run here, and why.
    """

    machine: Machine
    bundle: str
    product: str
    frames: int
    batch: int
    rounds: int
    candidates: tuple[CandidateLatency, ...]
    refused: tuple[Refused, ...]


def describe_machine() -> Machine:
    """This machine and what is installed on it."""
    return Machine(
        cpu=cpu_name(),
        cpu_flags=cpu_flags(),
        usable_cores=usable_cores(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        lineside=__version__,
        engines={name: engine_version(name) for name in available_engines()},
    )


def golden_frames(bundle: Bundle) -> list[Frame]:
    """The sealed frames, for want of the user's own."""
    samples = read_golden(bundle)
    return [
        Frame(pixels_hwc=golden.pixels_hwc, source=f"golden frame {index}")
        for index, golden in enumerate(samples.frames)
    ]


def run_bench(
    bundle: Bundle,
    frames: Sequence[Frame],
    *,
    engine: str = "auto",
    threads: Sequence[int] = (),
    rounds: int = 300,
    batch: int = 1,
) -> BenchReport:
    """Measure every candidate that passes the golden self-test.

    Args:
        bundle: opened and verified.
        frames: inspected in turn; each must be one that the model takes.
        engine: ``auto`` for all, or one engine's name.
        threads: numbers of threads; empty takes those that ``auto`` tries.
        rounds: counted inspections for each candidate.
        batch: frames at once; with several, each candidate computes them one by one and in every
            form worth trying.

    Raises:
        SelfTestError: no candidate passes.
        InputDataError: a frame that cannot be judged, whose timings would flatter.
        EngineError: an engine that fails while it is measured.
    """
    inspectors, refused = _open_all(bundle, engine, threads or (None,), batch)
    try:
        timings = _run_rounds([found.inspector for found in inspectors], frames, rounds, batch)
    finally:
        for found in inspectors:
            found.inspector.engine.close()
    return BenchReport(
        machine=describe_machine(),
        bundle=bundle.hash,
        product=bundle.manifest.identity.product,
        frames=len(frames),
        batch=batch,
        rounds=rounds,
        candidates=tuple(
            CandidateLatency(
                candidate=found.candidate,
                form=found.form,
                description=found.inspector.engine.description,
                stages=summarise(taken),
            )
            for found, taken in zip(inspectors, timings, strict=True)
        ),
        refused=tuple(refused),
    )


def summarise(timings: Sequence[Timings]) -> tuple[StageLatency, ...]:
    """Percentiles by stage; the last is the total, which is not the sum of the others'."""
    stages: dict[str, NDArray[np.float64]] = {
        name: np.array([getattr(taken, f"{name}_us") for taken in timings])
        for name in ("preprocess", "infer", "decide", "total")
    }
    return tuple(
        StageLatency(stage=name, p50_us=p50, p90_us=p90, p99_us=p99)
        for name, values in stages.items()
        for p50, p90, p99 in [np.percentile(values, (50, 90, 99)).tolist()]
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Measured:
    candidate: Candidate
    form: SeveralForm | None
    inspector: Inspector


def _open_all(
    bundle: Bundle, engine: str, threads: Sequence[int | None], batch: int
) -> tuple[list[_Measured], list[Refused]]:
    inspectors: list[_Measured] = []
    refused: list[Refused] = []
    for count in threads:
        ways, left_out = list_candidates(bundle, engine=engine, precision=None, threads=count)
        refused += left_out
        for model, candidate in ways:
            for form in (None, *_forms(batch, candidate)):
                try:
                    opened = _open_form(bundle, model, candidate, form)
                except EngineError as error:
                    told = f"{form.told()}: {error}" if form else str(error)
                    refused.append(Refused(candidate=candidate, detail=told))
                else:
                    measured = Inspector(bundle, opened)
                    inspectors.append(_Measured(candidate=candidate, form=form, inspector=measured))
    if not inspectors:
        reasons = "; ".join(f"{found.candidate.told()}: {found.detail}" for found in refused)
        raise SelfTestError(f"{bundle.path}: nothing to measure here. {reasons}")
    return inspectors, refused


def _forms(batch: int, candidate: Candidate) -> tuple[SeveralForm, ...]:
    settings = EngineSettings(threads=candidate.threads)
    return list_forms(batch, candidate.precision, settings) if batch > 1 else ()


def _open_form(
    bundle: Bundle, model: ModelEntry, candidate: Candidate, form: SeveralForm | None
) -> Engine:
    single = open_proven(bundle, model, candidate, EngineSettings())
    if form is None:
        return single
    try:
        many = open_several(bundle, model, form, EngineSettings(threads=candidate.threads))
    except BaseException:
        single.close()
        raise
    return SeveralEngine(single, many, form)


def _run_rounds(
    inspectors: Sequence[Inspector], frames: Sequence[Frame], rounds: int, batch: int
) -> list[list[Timings]]:
    timings: list[list[Timings]] = [[] for _ in inspectors]
    for round_index in range(WARM_UP_ROUNDS + rounds):
        at_once = [frames[(round_index + index) % len(frames)] for index in range(batch)]
        for inspector, taken in zip(inspectors, timings, strict=True):
            found = [one.verdict for one in inspector.inspect_batch(at_once)]
            for verdict in found:
                _refuse_fault(verdict)
            if round_index >= WARM_UP_ROUNDS:
                taken.append(_each([verdict.timings for verdict in found]))
    return timings


def _each(taken: Sequence[Timings]) -> Timings:
    """Of one frame among those that were inspected at once; the engine's time is that of all."""
    count = len(taken)
    return Timings(
        preprocess_us=sum(one.preprocess_us for one in taken) / count,
        infer_us=taken[0].infer_us / count,
        decide_us=sum(one.decide_us for one in taken) / count,
    )


def _refuse_fault(verdict: Verdict) -> None:
    if verdict.evaluation is Evaluation.NOT_DECIDABLE and verdict.detail:
        kind = EngineError if verdict.reason is Reason.ENGINE else InputDataError
        raise kind(f"{verdict.engine}: cannot be measured: {verdict.detail}")
