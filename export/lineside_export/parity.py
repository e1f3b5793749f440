"""How far each format is from the float program: numbers, verdicts, and the task's own metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lineside.bundle import Agreement
from lineside.contract import Contract, LimitRule
from lineside.decide import decide
from lineside.heads import score_outputs
from lineside.metrics.binomial import rate_bound
from lineside.verdict import Evaluation
from lineside_export.errors import GateError
from lineside_export.formats import AS_ON_DEVICE, FLOAT, Format, Way
from lineside_export.headmetric import HeadMetric, Outputs, metric_of

FLIP_CONFIDENCE: Final = 0.95


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one way of computing the model gave.

    Attributes:
        engine: ``torch``, ``onnxruntime`` or ``openvino``.
        precision: of its weights.
        way: how it was compiled.
        outputs: by name, (N, *shape) float32, finite.
        scores: (N,) float64, in the rule's unit.
        evaluations: N, by the rule.
        judged_by: the task's metric.
        metric: that figure against the known targets; ``None`` where none is known.
    """

    engine: str
    precision: str
    way: Way
    outputs: Outputs
    scores: NDArray[np.float64]
    evaluations: tuple[Evaluation, ...]
    judged_by: HeadMetric
    metric: float | None

    @property
    def label(self) -> str:
        """For people, e.g. ``openvino int8``."""
        return f"{self.engine} {self.precision}"

    def judged(self, rule: LimitRule) -> Measurement:
        """The same scores, judged by another rule."""
        return replace(self, evaluations=_evaluations(self.scores, rule))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One measurement beside the reference.

    Attributes:
        measured: it.
        max_abs_drift, mean_abs_drift: by output, |it - reference|, in the output's unit.
        score_drift: (N,) signed, in the rule's unit.
        flipped: indices of samples whose evaluation differs.
    """

    measured: Measurement
    max_abs_drift: Mapping[str, float]
    mean_abs_drift: Mapping[str, float]
    score_drift: NDArray[np.float64]
    flipped: tuple[int, ...]

    @property
    def flip_bound(self) -> float:
        """Upper end of the exact one-sided 95 % interval of the share that flips, 0..1."""
        return rate_bound(len(self.flipped), len(self.score_drift), confidence=FLIP_CONFIDENCE)


@dataclass(frozen=True, kw_only=True)
class Parity:
    """All formats beside the float program, on one set of samples.

    Attributes:
        reference: the float program.
        comparisons: each format as a device computes it.
        ways: formats computed in other ways: larger batches, more threads.
    """

    reference: Measurement
    comparisons: tuple[Comparison, ...]
    ways: tuple[Comparison, ...] = ()

    def of(self, engine: str, precision: str) -> Comparison:
        """The comparison of one format.

        Raises:
            KeyError: it was not measured.
        """
        for found in self.comparisons:
            if (found.measured.engine, found.measured.precision) == (engine, precision):
                return found
        raise KeyError(f"{engine} {precision}")

    def about(self, formats: Sequence[Format]) -> Parity:
        """The float forms and these: what a bundle's evidence is about."""
        labels = {made.label for made in formats}

        def kept(found: Comparison) -> bool:
            return found.measured.precision == FLOAT or found.measured.label in labels

        return replace(
            self,
            comparisons=tuple(filter(kept, self.comparisons)),
            ways=tuple(filter(kept, self.ways)),
        )

    @property
    def floats(self) -> tuple[Comparison, ...]:
        """Those of float precision, in every way."""
        return tuple(c for c in (*self.comparisons, *self.ways) if c.measured.precision == FLOAT)


def measure(
    engine: str,
    precision: str,
    outputs: Outputs,
    *,
    targets: NDArray[np.float64],
    contract: Contract,
    rule: LimitRule,
    way: Way = AS_ON_DEVICE,
) -> Measurement:
    """Score and decide what an engine gave.

    Raises:
        GateError: an output is not a finite number, or no score can be made of it.
    """
    for name, values in outputs.items():
        bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if bad.any():
            raise GateError(
                f"{engine} {precision}: output {name!r} is not finite for sample "
                f"{int(bad.argmax())} ({int(bad.sum())} of {len(values)} samples): the program "
                "divides by zero or overflows there"
            )
    scores = score_outputs(outputs, contract.head)
    if not np.isfinite(scores).all():
        index = int((~np.isfinite(scores)).argmax())
        given = outputs[contract.head.output][index].tolist()
        raise GateError(
            f"{engine} {precision}: output {contract.head.output!r} is {given} for sample {index}: "
            "probabilities must lie in 0..1 and sum to 1: end the program with a softmax"
        )
    judged_by = metric_of(contract.head)
    return Measurement(
        engine=engine,
        precision=precision,
        way=way,
        outputs=outputs,
        scores=scores,
        evaluations=_evaluations(scores, rule),
        judged_by=judged_by,
        metric=judged_by.known(targets, outputs, contract.head),
    )


def _evaluations(scores: NDArray[np.float64], rule: LimitRule) -> tuple[Evaluation, ...]:
    return tuple(decide(float(score), rule)[0] for score in scores)


def compare(reference: Measurement, measured: Measurement) -> Comparison:
    """Put a measurement beside the reference; both are of the same samples in the same order."""
    drift = {
        name: np.abs(measured.outputs[name].astype(np.float64) - values)
        for name, values in reference.outputs.items()
    }
    pairs = zip(reference.evaluations, measured.evaluations, strict=True)
    return Comparison(
        measured=measured,
        max_abs_drift={name: float(values.max()) for name, values in drift.items()},
        mean_abs_drift={name: float(values.mean()) for name, values in drift.items()},
        score_drift=measured.scores - reference.scores,
        flipped=tuple(index for index, (before, now) in enumerate(pairs) if before is not now),
    )


def agreements(parity: Parity) -> tuple[Agreement, ...]:
    """For the manifest: one entry for each format, way of computing it, and output."""
    return tuple(
        Agreement(
            engine=found.measured.engine,
            precision=found.measured.precision,
            batch=found.measured.way.batch,
            threads=found.measured.way.threads,
            output=name,
            samples=len(found.score_drift),
            max_abs_drift=drift,
            mean_abs_drift=found.mean_abs_drift[name],
            verdict_flips=len(found.flipped),
            flip_bound=found.flip_bound,
        )
        for found in (*parity.comparisons, *parity.ways)
        for name, drift in found.max_abs_drift.items()
    )


def metrics(parity: Parity) -> dict[str, float]:
    """For the manifest: the task's metric by way of computing, where targets are known."""
    measured: Sequence[Measurement] = (parity.reference, *(c.measured for c in parity.comparisons))
    return {
        f"validation_{found.judged_by.name}_{found.engine}_{found.precision}": found.metric
        for found in measured
        if found.metric is not None
    }
