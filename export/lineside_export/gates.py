"""What a format must hold before it may be sealed. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lineside.bundle import PartCounts
from lineside.contract import LimitRule
from lineside_export.formats import FLOAT
from lineside_export.parity import Comparison, Measurement

# Of the reference's largest value. Measured for ViT-Ti: float engines differ by up to 1e-6, on one
# joint of 180 by 2.7e-5; OpenVINO in bfloat16 by 2e-3. This lies between: rounding passes, other
# arithmetic does not.
FLOAT_TOLERANCE_SHARE: Final = 2e-4
# Root mean square of a form's drift over the spread of the scores. A weak model's error hides its
# own collapse (a constant raises its MSE little); this does not let it.
MAX_NOISE_SHARE: Final = 0.2
_MAP_NDIM: Final = 3  # frames, rows, columns
DEFAULT_MAX_DROP: Final = 0.01
DEFAULT_FLIP_SHARE: Final = 0.02


@dataclass(frozen=True, kw_only=True)
class Gates:
    """Bounds for quantised formats; float formats have none to choose.

    Attributes:
        max_flips: verdicts that may differ; ``None``: 2 % of the samples, at least one.
        max_drop: relative loss of the task's metric.
        max_escape_increase: bad parts judged ``OK`` / bad parts may rise by this; ``None``: not
            judged.
        max_overkill_increase: good parts judged ``NOT_OK`` / good parts, likewise.
    """

    max_flips: int | None = None
    max_drop: float = DEFAULT_MAX_DROP
    max_escape_increase: float | None = None
    max_overkill_increase: float | None = None

    def flips_allowed(self, samples: int) -> int:
        """Verdicts that may differ among so many samples."""
        if self.max_flips is not None:
            return self.max_flips
        return max(1, math.floor(DEFAULT_FLIP_SHARE * samples))


def float_tolerance(values: NDArray[np.generic]) -> float:
    """How far a float format may be from these reference values, in their unit."""
    return FLOAT_TOLERANCE_SHARE * float(np.abs(values.astype(np.float64)).max())


def missed_by(
    found: Comparison, reference: Measurement, rule: LimitRule, gates: Gates
) -> tuple[str, ...]:
    """One sentence for each gate that a form misses; nothing where it holds all."""
    if found.measured.precision == FLOAT:
        return tuple(_missed_by_float(reference, found, rule))
    return tuple(_missed_by_fewer_bits(reference, found, gates))


def missed_by_rates(before: PartCounts, now: PartCounts, gates: Gates) -> tuple[str, ...]:
    """As `missed_by`, of parts at the limits.

    Args:
        before: by the float program.
        now: by the form, of the same parts.
        gates: the bounds.
    """
    rates = (
        ("escape", gates.max_escape_increase, before.escaped, now.escaped, now.bad, "bad"),
        (
            "overkill",
            gates.max_overkill_increase,
            before.overkilled,
            now.overkilled,
            now.good,
            "good",
        ),
    )
    return tuple(
        f"the {name} rate goes from {was} to {found} of {parts} {kind} parts, an increase of at "
        f"most {100 * bound:.3g} % is allowed (--max-{name}-increase)"
        for name, bound, was, found, parts, kind in rates
        if bound is not None and parts and (found - was) / parts > bound
    )


def cannot_judge(counted: PartCounts, gates: Gates) -> str:
    """Why a rate that was given a bound cannot be counted, "" where all can.

    Args:
        counted: the validation parts; those without a known target are in neither count.
        gates: the bounds. Of no parts at all every form would hold them.
    """
    rates = (
        ("escape", gates.max_escape_increase, counted.bad, "bad"),
        ("overkill", gates.max_overkill_increase, counted.good, "good"),
    )
    for name, bound, parts, kind in rates:
        if bound is not None and not parts:
            return (
                f"no {kind} part is among the validation samples with a known target, so nobody "
                f"can say whether the {name} rate rises: give some, or leave out "
                f"--max-{name}-increase"
            )
    return ""


def _missed_by_float(reference: Measurement, found: Comparison, rule: LimitRule) -> list[str]:
    missed = []
    for name, drift in found.max_abs_drift.items():
        tolerance = float_tolerance(reference.outputs[name])
        if not drift <= tolerance:
            missed.append(
                f"{name} drifts by {drift:.3g} from {reference.label}, at most "
                f"{tolerance:.3g} is rounding: the translated graph computes something else"
            )
    # Closer to a limit than rounding, a score has no verdict of its own.
    tolerance = float_tolerance(reference.scores)
    clear = [index for index in found.flipped if distance(reference, index, rule) > tolerance]
    if clear:
        missed.append(
            f"{len(clear)} verdict(s) differ from {reference.label} away from the limit, "
            f"first sample {clear[0]}"
        )
    return missed


def distance(reference: Measurement, index: int, rule: LimitRule) -> float:
    """How far a sample's score is from the nearest limit, in the rule's unit."""
    score = float(reference.scores[index])
    return min(abs(score - rule.ok_limit), abs(score - rule.not_ok_limit))


def _missed_by_fewer_bits(reference: Measurement, found: Comparison, gates: Gates) -> list[str]:
    missed = []
    samples = len(found.score_drift)
    allowed = gates.flips_allowed(samples)
    if len(found.flipped) > allowed:
        missed.append(
            f"{len(found.flipped)} of {samples} verdicts flip, at most {allowed} may (--max-flips)"
        )
    missed += _drowned("the scores", _spread(reference.scores), found.score_drift)
    for name, exact in reference.outputs.items():
        # Steady scores may be made of classes that are not.
        if exact.ndim > 1:
            drift = found.measured.outputs[name].astype(np.float64) - exact
            missed += _drowned(f"the values of {name}", _spread(exact), drift)
    before, now, metric = reference.metric, found.measured.metric, reference.judged_by
    if before is not None and now is not None and metric.lost(before, now, gates.max_drop):
        missed.append(
            f"{metric.label} goes from {before:.4g} to {now:.4g}, at most "
            f"{100 * gates.max_drop:.3g} % may be lost (--max-drop)"
        )
    return missed


def _spread(exact: NDArray[np.floating[Any]]) -> float:
    """How much values tell frames apart, as a standard deviation.

    Of a map, (N, h, w), each place counts by itself: edges that are bright in every frame would
    hide noise, and say nothing of this one.
    """
    values = exact.astype(np.float64)
    return float(np.sqrt(values.var(axis=0).mean()) if exact.ndim == _MAP_NDIM else values.std())


def _drowned(what: str, spread: float, drift: NDArray[np.float64]) -> list[str]:
    noise = float(np.sqrt((drift**2).mean()))
    if noise <= MAX_NOISE_SHARE * spread:
        return []
    return [
        f"the noise of {what} is {noise:.3g} (root mean square), their spread only "
        f"{spread:.3g}: so few bits drown this model"
    ]
