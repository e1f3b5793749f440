"""Bundle, engine, head and rule together: a frame goes in, a verdict comes out."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineside.bundle import Bundle
from lineside.choose import Choice
from lineside.closing import Closing
from lineside.contract import AnomalyHead, Contract
from lineside.decide import decide
from lineside.engines import Engine
from lineside.errors import EngineError, FrameError
from lineside.frame import Frame, Pixels, read_frame
from lineside.heads import find_outputs, score_outputs
from lineside.limits import Limits
from lineside.preprocess import Workspace, prepare
from lineside.verdict import Evaluation, Finding, Reason, Timings, Verdict


class _Ready(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A frame as the engine takes it, or why it cannot be taken."""

    part_id: str
    input_hwc: NDArray[np.uint8] | None = None
    frame_size_hw: tuple[int, int] = (0, 0)
    fault: FrameError | None = None


class Inspection(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A verdict with what a person may look at beside it.

    Attributes:
        verdict: the result.
        map_hw: (h, w) float32, where the model sees what is unlike good parts, spread evenly over
            the frame; ``None`` where the model gives none, or nothing was computed. Its values may
            be anything, NaN too.
        outputs: what the model gave, by name, without the batch axis; empty where nothing was
            computed.
    """

    verdict: Verdict
    map_hw: NDArray[np.float32] | None = None
    outputs: Mapping[str, NDArray[np.float32]] = {}


class _Own(threading.local):
    """What each thread that calls an inspector has for itself, from call to call.

    Nobody else sees it, and engines keep nothing of what they are given.
    """

    def __init__(self, input_hwc: tuple[int, int, int]) -> None:
        self.workspace = Workspace()
        self._rows_nhwc = np.empty((1, *input_hwc), np.uint8)

    def rows(self, count: int) -> NDArray[np.uint8]:
        """At least so many inputs."""
        if len(self._rows_nhwc) < count:
            self._rows_nhwc = np.empty((count, *self._rows_nhwc.shape[1:]), np.uint8)
        return self._rows_nhwc


class Inspector(Closing):
    """Judges frames, one at a time; threads that call at once wait for each other.

    Attributes:
        bundle: what it judges by.
        engine: what computes.
        choice: how `load` came to this engine; ``None`` for one put together by hand.
        limits: what scores are held against, and why; the sealed ones for one put together by hand.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        *,
        choice: Choice | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.bundle = bundle
        self.engine = engine
        self.choice = choice
        manifest = bundle.manifest
        self._contract = manifest.contract
        self.limits = limits or Limits(sealed=manifest.rule, effective=manifest.rule)
        self._rule = self.limits.effective
        self._product = manifest.identity.product
        self._model = bundle.model_id
        self._engine_name = f"{engine.name}/{engine.precision}"
        self._own = _Own((*self._contract.input.size_hw, self._contract.input.channels))

    @property
    def contract(self) -> Contract:
        """Which frames are accepted, and what the model gives."""
        return self._contract

    def with_limits(self, limits: Limits) -> Inspector:
        """One that judges by other limits, on the same bundle and engine.

        Both may judge; whoever closes one has closed both.
        """
        return Inspector(self.bundle, self.engine, choice=self.choice, limits=limits)

    def inspect(self, frame: Frame | NDArray[Any], *, part_id: str = "") -> Verdict:
        """Judge one frame.

        A frame that cannot be used or an engine that fails gives ``NOT_DECIDABLE`` with its
        reason; neither raises.

        Args:
            frame: a `Frame`, or its pixels: (H, W) or (H, W, C), uint8 or uint16, colour as RGB.
            part_id: the physical part; the frame's own where left out.
        """
        return self.inspect_with_map(frame, part_id=part_id).verdict

    def inspect_with_map(self, frame: Frame | NDArray[Any], *, part_id: str = "") -> Inspection:
        """Judge one frame, and hand out the map that the model gave; else as `inspect`.

        A result of its own, because a verdict is compared, stored and told in words, and an array
        is not.
        """
        return self._inspect([frame], part_id)[0]

    def inspect_batch(self, frames: Sequence[Frame]) -> list[Inspection]:
        """Judge several frames at once: the regions of one board, for example.

        Each has a result of its own, as `inspect_with_map` would give; a frame that cannot be used
        does not keep the others from being judged, an engine that fails fails them all. The time
        of the engine is that of the batch. ``lineside.load(..., regions=N)`` makes it fast.
        """
        return self._inspect(frames, "")

    def _inspect(self, frames: Sequence[Frame | NDArray[Any]], part_id: str) -> list[Inspection]:
        started_ns = perf_counter_ns()
        readied, batch_nhwc = self._ready_all(frames, part_id)
        prepare_us = (perf_counter_ns() - started_ns) / 1e3 / max(1, len(frames))
        started_ns = perf_counter_ns()
        outputs, failed = self._infer(batch_nhwc)
        infer_us = (perf_counter_ns() - started_ns) / 1e3
        found: list[Inspection] = []
        row = 0
        for one in readied:
            fault = one.fault or failed
            if fault is not None:
                times = Timings(preprocess_us=prepare_us, infer_us=0.0 if one.fault else infer_us)
                found.append(self._undecided(fault, one.part_id, times))
                continue
            its_own = (
                outputs
                if len(frames) == 1
                else {name: values[row : row + 1] for name, values in outputs.items()}
            )
            found.append(self._judge(its_own, one, prepare_us, infer_us))
            row += 1
        return found

    def _ready_all(
        self, frames: Sequence[Frame | NDArray[Any]], part_id: str
    ) -> tuple[list[_Ready], NDArray[np.uint8] | None]:
        """Each frame, and those that can be taken as one batch; ``None`` where none can."""
        rows_nhwc = self._own.rows(len(frames))
        readied: list[_Ready] = []
        count = 0
        for frame in frames:
            one = self._ready(frame, part_id, rows_nhwc[count])
            readied.append(one)
            if one.input_hwc is None:
                continue
            if len(frames) == 1:  # not copied: it may be the very pixels of the frame
                return readied, one.input_hwc[np.newaxis]
            rows_nhwc[count] = one.input_hwc  # nothing is moved where it lies there already
            count += 1
        return readied, rows_nhwc[:count] if count else None

    def _infer(
        self, batch_nhwc: NDArray[np.uint8] | None
    ) -> tuple[Mapping[str, NDArray[np.float32]], EngineError | None]:
        if batch_nhwc is None:
            return {}, None
        try:
            return self.engine.infer(batch_nhwc), None
        except EngineError as error:
            return {}, error

    def _ready(
        self, frame: Frame | NDArray[Any], part_id: str, row_hwc: NDArray[np.uint8]
    ) -> _Ready:
        if isinstance(frame, Frame):
            part_id = part_id or frame.part_id
        contract = self._contract
        try:
            pixels_hwc, source = _unpack(frame)
            input_hwc = prepare(
                pixels_hwc,
                contract.frame,
                contract.input,
                source=source,
                workspace=self._own.workspace,
                out_hwc=row_hwc,
            )
        except FrameError as error:
            return _Ready(part_id=part_id, fault=error)
        height, width = pixels_hwc.shape[:2]
        return _Ready(part_id=part_id, input_hwc=input_hwc, frame_size_hw=(height, width))

    def _judge(
        self,
        outputs: Mapping[str, NDArray[np.float32]],
        ready: _Ready,
        prepare_us: float,
        infer_us: float,
    ) -> Inspection:
        started_ns = perf_counter_ns()
        score, decision, findings = self._read(outputs, ready.frame_size_hw)
        decide_us = (perf_counter_ns() - started_ns) / 1e3
        timings = Timings(preprocess_us=prepare_us, infer_us=infer_us, decide_us=decide_us)
        return Inspection(
            verdict=self._decided(score, decision, findings, ready.part_id, timings),
            map_hw=self._map_of(outputs),
            outputs={name: values[0] for name, values in outputs.items()},
        )

    def inspect_file(self, path: str | Path, *, part_id: str = "") -> Verdict:
        """Read an image file and judge it; one that cannot be read gives ``NOT_DECIDABLE``.

        Decoding is not part of the verdict's timings.
        """
        try:
            frame = read_frame(path, part_id=part_id)
        except FrameError as error:
            return self._undecided(error, part_id, Timings()).verdict
        return self.inspect(frame)

    def close(self) -> None:
        """Free the engine, then the bundle's mapping."""
        self.engine.close()
        self.bundle.close()

    def _read(
        self, outputs: Mapping[str, NDArray[np.float32]], frame_size_hw: tuple[int, int]
    ) -> tuple[float, tuple[Evaluation, Reason, float], tuple[Finding, ...]]:
        head = self._contract.head
        score = float(score_outputs(outputs, head)[0])
        decision = decide(score, self._rule)
        claims = decision[1] in (Reason.BEYOND_LIMIT, Reason.BETWEEN_LIMITS)
        return score, decision, find_outputs(outputs, head, frame_size_hw)[0] if claims else ()

    def _map_of(self, outputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32] | None:
        head = self._contract.head
        return outputs[head.map][0] if isinstance(head, AnomalyHead) and head.map else None

    def _decided(
        self,
        score: float,
        decision: tuple[Evaluation, Reason, float],
        findings: tuple[Finding, ...],
        part_id: str,
        timings: Timings,
    ) -> Verdict:
        evaluation, reason, limit = decision
        finite = reason is not Reason.SCORE_NOT_FINITE
        return Verdict(
            evaluation=evaluation,
            reason=reason,
            detail="" if finite else f"the model gave {score}",
            score=score if finite else None,
            limit=limit,
            unit=self._rule.unit,
            product=self._product,
            model=self._model,
            engine=self._engine_name,
            part_id=part_id,
            job_id=_new_job_id(),
            timings=timings,
            findings=findings,
        )

    def _undecided(
        self, fault: FrameError | EngineError, part_id: str, timings: Timings
    ) -> Inspection:
        reason = Reason(fault.reason) if isinstance(fault, FrameError) else Reason.ENGINE
        verdict = Verdict(
            evaluation=Evaluation.NOT_DECIDABLE,
            reason=reason,
            detail=str(fault),
            limit=self._rule.not_ok_limit,
            unit=self._rule.unit,
            product=self._product,
            model=self._model,
            engine=self._engine_name,
            part_id=part_id,
            job_id=_new_job_id(),
            timings=timings,
        )
        return Inspection(verdict=verdict)


def _unpack(frame: Frame | NDArray[Any]) -> tuple[Pixels, str]:
    if isinstance(frame, Frame):
        return _pixels(frame.pixels_hwc, frame.source or "frame"), frame.source or "frame"
    pixels = _pixels(frame, "frame")
    return (pixels[:, :, np.newaxis] if pixels.ndim == 2 else pixels), "frame"


def _pixels(found: object, source: str) -> NDArray[Any]:
    if not isinstance(found, np.ndarray):
        # OpenCV gives None for a picture it could not read, and people pass it on.
        raise FrameError(
            f"{source}: got {type(found).__name__}, not pixels", reason=Reason.FRAME_MISSING.value
        )
    return found


def _new_job_id() -> str:
    # 128 random bits, as UUID 4 has, at half its cost.
    return os.urandom(16).hex()
