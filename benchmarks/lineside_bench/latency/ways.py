"""What takes turns: one model in each form, engine, number of threads and batch; ours and bare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from lineside.bench import golden_frames
from lineside.bundle import Bundle
from lineside.bundle.manifest import ModelEntry
from lineside.choose import list_candidates
from lineside.engines import EngineSettings, open_engine
from lineside.errors import EngineError
from lineside.frame import Frame
from lineside.inspector import Inspector
from lineside.preprocess import prepare
from lineside.verdict import Reason, Timings
from lineside_bench.bare import BareCall, open_bare
from lineside_bench.suite import Sealed, Suite

BATCH: Final = 8
Runtime = Literal["lineside", "bare", "bare, unpinned", "bare, spinning"]
_JUDGED: Final = (Reason.WITHIN_LIMIT, Reason.BEYOND_LIMIT, Reason.BETWEEN_LIMITS)


@dataclass(frozen=True, kw_only=True, eq=False)
class Way:
    """One of those that take turns.

    Attributes:
        runtime: who calls the engine.
        batch: images a call.
        call: takes the round's number.
        timings: of our own calls, by `Inspector`; a call appends.
    """

    model: str
    form: str
    engine: str
    threads: int
    batch: int
    runtime: Runtime
    call: Callable[[int], object]
    timings: list[Timings] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Unlike any other's."""
        return f"{self.engine} {self.form}, {self.threads} threads, {self.batch}, {self.runtime}"


def open_ways(
    suite: Suite, model: str, threads: Sequence[int], stack: ExitStack
) -> tuple[list[Way], list[str]]:
    """Every way of one model, opened and not called yet; and what cannot be, with the reason.

    Args:
        suite: what was sealed.
        model: which.
        threads: numbers of them.
        stack: closes bundles and engines.
    """
    ways: list[Way] = []
    refused: list[str] = []
    for one in suite.sealed:
        if one.model != model:
            continue
        bundle = stack.enter_context(suite.open(one))
        for count in threads:
            found, left_out = list_candidates(bundle, engine="auto", precision=None, threads=count)
            told = f"{model} {one.form}"
            refused += [f"{told}, {why.candidate.told()}: {why.detail}" for why in left_out]
            for entry, _ in found:
                ways += _of_entry(one, bundle, entry, count, stack)
    return ways, refused


def _of_entry(
    one: Sealed, bundle: Bundle, entry: ModelEntry, threads: int, stack: ExitStack
) -> list[Way]:
    contract = bundle.manifest.contract
    settings = EngineSettings(threads=threads)
    engine = open_engine(entry, bundle.part, contract, settings)
    stack.callback(engine.close)
    inspector = Inspector(bundle, engine)
    frames = golden_frames(bundle)
    inputs = [prepare(frame.pixels_hwc, contract.frame, contract.input) for frame in frames]
    bare_inputs = [np.stack([pixels] * entry.batch) for pixels in inputs]
    timings: list[Timings] = []
    batch_timings: list[Timings] = []

    def way(runtime: Runtime, call: Callable[[int], object], taken: list[Timings], n: int) -> Way:
        return Way(
            model=one.model,
            form=one.form,
            engine=entry.engine,
            threads=threads,
            batch=n,
            runtime=runtime,
            call=call,
            timings=taken,
        )

    ways = [
        way("lineside", _one(inspector, frames, timings), timings, 1),
        way("lineside", _several(inspector, frames, batch_timings), batch_timings, BATCH),
        way("bare", _bare(open_bare(bundle, entry, threads, spinning=False), bare_inputs), [], 1),
    ]
    if entry.engine == "onnxruntime" and threads > 1:  # one thread has none that could spin
        spinning = open_bare(bundle, entry, threads, spinning=True)
        ways.append(way("bare, spinning", _bare(spinning, bare_inputs), [], 1))
    if entry.engine == "openvino":
        unpinned = open_bare(bundle, entry, threads, pinned=False)
        ways.append(way("bare, unpinned", _bare(unpinned, bare_inputs), [], 1))
    return ways


def _one(
    inspector: Inspector, frames: Sequence[Frame], timings: list[Timings]
) -> Callable[[int], object]:
    def call(number: int) -> None:
        verdict = inspector.inspect(frames[number % len(frames)])
        timings.append(verdict.timings)
        if verdict.reason not in _JUDGED:
            raise EngineError(f"{verdict.engine}: cannot be measured: {verdict.detail}")

    return call


def _several(
    inspector: Inspector, frames: Sequence[Frame], timings: list[Timings]
) -> Callable[[int], object]:
    together = [frames[place % len(frames)] for place in range(BATCH)]

    def call(_number: int) -> None:
        timings.append(inspector.inspect_batch(together)[0].verdict.timings)

    return call


def _bare(call: BareCall, inputs: Sequence[NDArray[np.uint8]]) -> Callable[[int], object]:
    return lambda number: call(inputs[number % len(inputs)])
