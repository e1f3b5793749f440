"""Several frames at once, the regions of a board: in which batches, and whether that pays here.

A model that is compiled for batches of eight, two of them side by side, takes 0.4 of the time that
single frames take on two cores; another batch may give other numbers, so that each form is proved
by the golden self-test before it counts.
"""

from __future__ import annotations

import logging
import math
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
from lineside.engines import Engine, EngineSettings
from lineside.engines.machine import usable_cores
from lineside.engines.several import SeveralEngine, SeveralForm
from lineside.errors import EngineError
from lineside.selftest import open_tested, prepare_golden, read_golden

_LOG: Final = logging.getLogger("lineside")
# Beyond, nothing is gained: 16 and 32 took as long as 8 (benchmarks/README.md).
_LARGEST_BATCH: Final = 8
# A second form takes memory for ever; what is gained must be more than noise.
_WORTH_RATIO: Final = 0.95
_WARM_UP_ROUNDS: Final = 1
_ROUNDS: Final = 9
_BUDGET_S: Final = 3.0
_LARGEST_MEASURED: Final = 32


class MeasuredForm(msgspec.Struct, frozen=True, kw_only=True):
    """A form that passed, and its time over that of single frames, both for all at once."""

    form: SeveralForm
    ratio: float


class RefusedForm(msgspec.Struct, frozen=True, kw_only=True):
    """A form that did not pass, and why."""

    form: SeveralForm
    detail: str


class Several(msgspec.Struct, frozen=True, kw_only=True):
    """How several frames at once are computed, and beside what.

    Attributes:
        frames: so many were asked for.
        taken: the fastest that passed; ``None``: one by one, since none passed or paid.
        measured: all that passed.
        refused: all that did not.
        remembered: from an earlier measurement; ``taken`` is proved again by the self-test.
    """

    frames: int
    taken: SeveralForm | None = None
    measured: tuple[MeasuredForm, ...] = ()
    refused: tuple[RefusedForm, ...] = ()
    remembered: bool = False


def list_forms(frames: int, precision: str, settings: EngineSettings) -> tuple[SeveralForm, ...]:
    """Forms worth trying, most lanes first.

    Args:
        frames: at once.
        precision: of the weights.
        settings: ``threads`` bounds the lanes; another device than CPUs has one.
    """
    lanes = {1}
    if settings.device == "CPU" and not settings.providers:
        most = min(frames, settings.threads or usable_cores())
        # On many cores: small batches in all of them, or full ones in some.
        lanes |= {most, min(most, -(-frames // _LARGEST_BATCH))}
    # Its ranges are those of the whole batch: a verdict would depend on the other regions.
    largest = 1 if precision.endswith("-dynamic") else _LARGEST_BATCH
    forms = [
        SeveralForm(batch=min(largest, -(-frames // count)), lanes=count)
        for count in sorted(lanes, reverse=True)
    ]
    return tuple(form for form in forms if form.batch > 1 or form.lanes > 1)


def open_several(
    bundle: Bundle, model: ModelEntry, form: SeveralForm, settings: EngineSettings
) -> Engine:
    """Open a form and prove it on the golden samples, in every lane, full and filled up.

    Raises:
        EngineError: it does not open, fails, or does not pass (`SelfTestError`).
        BundleFormatError: the golden samples are damaged.
    """
    as_told = replace(settings, batch=form.batch, lanes=form.lanes)
    return open_tested(bundle, model, as_told, at_least=form.batch * form.lanes + 1)


def add_several(
    bundle: Bundle, engine: Engine, settings: EngineSettings, *, frames: int, folder: Path
) -> tuple[Engine, Several]:
    """Give a proved engine a second form for several frames at once, where one passes and pays.

    Args:
        bundle: opened and verified.
        engine: for single frames; closed with the one that is returned.
        settings: it was opened with; ``threads`` as its user gave them.
        frames: that come at once; at least 2.
        folder: where the choice is remembered. One that cannot be written costs a warning.

    Returns:
        The same engine where nothing is gained.

    Raises:
        EngineError: the engine that is there fails while it is measured.
    """
    model = next(
        found
        for found in bundle.manifest.models
        if (found.engine, found.precision) == (engine.name, engine.precision)
    )
    # Lanes of one thread each, or one lane with the threads of the single form.
    as_taken = replace(settings, threads=engine.threads)
    forms = list_forms(frames, engine.precision, settings)
    asked = (engine.name, engine.precision, engine.threads, frames, msgspec.to_builtins(forms))
    memory = memory_file(folder, bundle, settings, asked)
    trial = _Trial(bundle, model, engine, as_taken, frames)
    kept = recall(memory, Several)
    if kept is not None and trial.take_again(kept):
        several = msgspec.structs.replace(kept, remembered=True)
    else:
        for form in forms:
            trial.take(form)
        several = trial.result()
        remember(memory, several)
    if trial.fastest is None or several.taken is None:
        return engine, several
    return SeveralEngine(engine, trial.fastest, several.taken), several


class _Trial:
    """Forms in turn, each beside single frames; no more than two of them are in memory at a time.

    Attributes:
        fastest: of those that pay, opened.
    """

    def __init__(
        self,
        bundle: Bundle,
        model: ModelEntry,
        single: Engine,
        settings: EngineSettings,
        frames: int,
    ) -> None:
        self.fastest: Engine | None = None
        self._bundle = bundle
        self._model = model
        self._single = single
        self._settings = settings
        self._frames = frames
        self._taken = MeasuredForm(form=SeveralForm(batch=1, lanes=1), ratio=_WORTH_RATIO)
        self._measured: list[MeasuredForm] = []
        self._refused: list[RefusedForm] = []
        golden = prepare_golden(read_golden(bundle), bundle.manifest.contract)
        self._inputs_nhwc = golden[np.arange(min(frames, _LARGEST_MEASURED)) % len(golden)]

    def take_again(self, kept: Several) -> bool:
        """What was taken before; whether it still passes."""
        if kept.taken is not None:
            try:
                self.fastest = open_several(self._bundle, self._model, kept.taken, self._settings)
            except EngineError as error:
                _LOG.warning("%s no longer passes: %s", kept.taken.told(), error)
                return False
        return True

    def take(self, form: SeveralForm) -> None:
        """Prove and measure one; it is kept where it is the fastest."""
        try:
            many = open_several(self._bundle, self._model, form, self._settings)
        except EngineError as error:
            _LOG.warning("%s: %s is refused: %s", self._single.description, form.told(), error)
            self._refused.append(RefusedForm(form=form, detail=str(error)))
            return
        try:
            found = measure_form(self._single, many, form, self._inputs_nhwc)
        except BaseException:
            many.close()
            self._drop()
            raise
        self._measured.append(found)
        if found.ratio < self._taken.ratio:
            self._drop()
            self.fastest, self._taken = many, found
        else:
            many.close()

    def result(self) -> Several:
        """What was found."""
        return Several(
            frames=self._frames,
            taken=None if self.fastest is None else self._taken.form,
            measured=tuple(self._measured),
            refused=tuple(self._refused),
        )

    def _drop(self) -> None:
        if self.fastest is not None:
            self.fastest.close()
            self.fastest = None


def measure_form(
    single: Engine, many: Engine, form: SeveralForm, inputs_nhwc: NDArray[np.uint8]
) -> MeasuredForm:
    """One form beside single frames, by turns, for all the frames at once.

    Args:
        single: static batch 1.
        many: opened as ``form`` says.
        form: without ``fill_from``.
        inputs_nhwc: (N, H, W, C) uint8; as many as come at once.

    Returns:
        With ``fill_from``.
    """
    one_batch = np.resize(inputs_nhwc, (form.batch, *inputs_nhwc.shape[1:]))
    ways = ((single, inputs_nhwc), (many, inputs_nhwc), (many, one_batch))
    times_ns: list[list[int]] = [[] for _ in ways]
    ends_ns = perf_counter_ns() + int(_BUDGET_S * 1e9)
    for _ in range(_WARM_UP_ROUNDS + _ROUNDS):
        for (engine, images), times in zip(ways, times_ns, strict=True):
            started_ns = perf_counter_ns()
            engine.infer(images)
            times.append(perf_counter_ns() - started_ns)
        if perf_counter_ns() > ends_ns:
            break
    alone_ns, together_ns, batch_ns = (
        median(times[_WARM_UP_ROUNDS:] or times) for times in times_ns
    )
    fill_from = math.ceil(batch_ns / (alone_ns / len(inputs_nhwc)))
    return MeasuredForm(
        form=msgspec.structs.replace(form, fill_from=min(max(fill_from, 1), form.batch)),
        ratio=together_ns / alone_ns,
    )
