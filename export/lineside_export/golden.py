"""Golden samples: which frames prove a device, and how far a correct one may be off.

Tolerances come from measurements at export. Measured on ViT-Ti 64x64 (docs/export.md):

- Float: engines differ from torch by up to 1e-6 of the largest value; another CPU's order of
  summation is of that kind. `_FLOAT_SPREADS` times the measured spread, and never less than
  `_FLOAT_ULPS` steps of float32, lets it pass; bfloat16 (2e-3) does not.
- int8: the same int8 file computed by other correct means (QDQ simulated in float, a dynamic shape)
  differs by noise of the size of int8's own: at most 1 to 2 times the mean of int8's drift from
  float about its median, over 200 samples. `_INT8_NOISES` times that mean lets a correct device
  pass with a factor of 2 to 4; mirrored or transposed input is off by 20 times and more. Frames on
  which int8 itself is further off (values beyond all quantisation samples) prove nothing and are
  left out. Where the scores' spread is within the tolerance a constant would pass, and the export
  fails.
- Maps: the same, with the largest drift of each map in the place of each value's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lineside.candidate import SampleSet
from lineside.contract import LimitRule
from lineside.frame import Pixels
from lineside.golden import GoldenExpectation, GoldenFrame, GoldenSamples
from lineside_export.errors import GateError
from lineside_export.formats import FLOAT
from lineside_export.parity import Comparison, Measurement, Parity

MAX_FRAMES: Final = 16
# Frames of 16 megapixels would make the proof larger than the model.
MAX_PIXEL_BYTES: Final = 32 * 2**20
_MIN_FRAMES: Final = 4
_NEAR_SHARE: Final = 0.25

_FLOAT_SPREADS: Final = 16.0
_FLOAT_ULPS: Final = 64.0
_INT8_NOISES: Final = 6.0
_MAP_NDIM: Final = 3  # frames, rows, columns
_ULP: Final = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, kw_only=True)
class GoldenTolerance:
    """How far another device may be off with one format.

    Attributes:
        by_output: in the output's unit.
        score: in the rule's unit.
    """

    by_output: dict[str, float]
    score: float


def golden_tolerance(parities: Sequence[Parity], *, engine: str, precision: str) -> GoldenTolerance:
    """Derive the tolerance of one format from all samples measured.

    Args:
        parities: of the validation and golden samples.
        engine: of the format.
        precision: of the format.
    """
    names = list(parities[0].reference.outputs)
    return GoldenTolerance(
        by_output={
            name: max(
                tolerance_of(
                    parity.reference.outputs[name],
                    [c.measured.outputs[name] for c in _peers(parity, engine, precision)],
                    precision,
                )
                for parity in parities
            )
            for name in names
        },
        score=max(
            tolerance_of(
                parity.reference.scores,
                [c.measured.scores for c in _peers(parity, engine, precision)],
                precision,
            )
            for parity in parities
        ),
    )


def choose_golden(
    parity: Parity,
    tolerances: Sequence[GoldenTolerance],
    rule: LimitRule,
    frames_hwc: Sequence[Pixels],
    embedding: NDArray[np.float32],
) -> tuple[int, ...]:
    """Indices of the golden frames: some near the limit, the others spread over what is seen.

    After those nearest to a limit each next frame is the one farthest from all chosen before
    (Gonzalez 1985), in the space that the model's last layer reads: so few frames meet as many of
    its ways of seeing as they can. A frame closer to a limit than a correct device may be off
    would fail good devices, so it is never chosen, for any of the bundle's formats; nor is one on
    which a format is unsteady.

    Args:
        parity: of the golden set.
        tolerances: of all formats to be sealed.
        rule: the limits.
        frames_hwc: of the golden set.
        embedding: (N, D) float32 of the golden set.

    Raises:
        GateError: no frame is steady and clear of the limits.
    """
    margin = max(tolerance.score for tolerance in tolerances)
    all_scores = np.stack(
        [parity.reference.scores, *(c.measured.scores for c in parity.comparisons)]
    )
    distances = np.minimum(
        np.abs(all_scores - rule.ok_limit), np.abs(all_scores - rule.not_ok_limit)
    ).min(axis=0)
    steady = np.all([_steady(c, parity, tolerances) for c in parity.comparisons], axis=0)
    eligible = np.flatnonzero((distances > margin) & steady)
    if not len(eligible):
        raise GateError(
            f"all {len(distances)} golden samples lie within {margin:.3g} of the limit, where a "
            "correct device may decide either way, or are quantised with more noise than that: "
            "give the quantisation and golden sets more parts"
        )
    count = min(len(eligible), _affordable(frames_hwc))
    near = eligible[np.argsort(distances[eligible], kind="stable")][: int(_NEAR_SHARE * count)]
    # The score is one direction of what is seen, and the one that verdicts hang on.
    space = np.column_stack([_scaled(embedding), _scaled(parity.reference.scores[:, np.newaxis])])
    return tuple(sorted(_farthest(space, near.tolist(), eligible, count)))


def _scaled(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """(N, D) about 0, with a total variance of 1."""
    centred = values.astype(np.float64) - values.astype(np.float64).mean(axis=0)
    scale = max(float(np.sqrt((centred**2).sum(axis=1).mean())), 1e-12)
    scaled: NDArray[np.float64] = centred / scale
    return scaled


def _farthest(
    space: NDArray[np.float64], chosen: list[int], eligible: NDArray[np.int64], count: int
) -> list[int]:
    """Go on choosing until there are ``count``; the first of equals."""
    if not chosen:
        chosen = [int(eligible[np.argmax((space[eligible] ** 2).sum(axis=1))])]
    gaps = np.min([((space - space[index]) ** 2).sum(axis=1) for index in chosen], axis=0)
    barred = np.ones(len(space), dtype=np.bool_)
    barred[eligible] = False
    barred[chosen] = True
    while len(chosen) < count:
        index = int(np.where(barred, -1.0, gaps).argmax())
        chosen.append(index)
        barred[index] = True
        gaps = np.minimum(gaps, ((space - space[index]) ** 2).sum(axis=1))
    return chosen


def make_golden(
    samples: SampleSet,
    chosen: Sequence[int],
    measured: Sequence[Measurement],
    tolerances: Sequence[GoldenTolerance],
) -> GoldenSamples:
    """The frames as acquired, with what each format must give.

    Args:
        samples: the golden set.
        chosen: indices into it.
        measured: each sealed format's outputs for the whole set.
        tolerances: one for each of `measured`.

    Raises:
        GateError: a constant would pass, so nothing would be proved.
    """
    index = np.asarray(chosen)
    expectations = []
    for found, tolerance in zip(measured, tolerances, strict=True):
        _check_power(found, tolerance, index)
        for name, values in found.outputs.items():
            expectations.append(
                GoldenExpectation.from_values(
                    values[index],
                    engine=found.engine,
                    precision=found.precision,
                    output=name,
                    tolerance_abs=tolerance.by_output[name],
                )
            )
    return GoldenSamples(
        frames=tuple(GoldenFrame.from_pixels(samples.frames_hwc[i]) for i in chosen),
        expectations=tuple(expectations),
    )


def _peers(parity: Parity, engine: str, precision: str) -> list[Comparison]:
    """Whose drift tells about this format: float formats about each other, int8 about itself."""
    if precision == FLOAT:
        return list(parity.floats)
    return [parity.of(engine, precision)]


def tolerance_of(
    reference: NDArray[np.generic], others: Sequence[NDArray[np.generic]], precision: str
) -> float:
    """How far a correct device may be off, by how far forms were from the float program's values.

    Args:
        reference: the float program's.
        others: of the same samples.
        precision: of the form that the tolerance is for.
    """
    exact = reference.astype(np.float64)
    drifts = [other.astype(np.float64) - exact for other in others]
    if precision == FLOAT:
        measured = _FLOAT_SPREADS * max(float(np.abs(drift).max()) for drift in drifts)
    else:
        measured = _INT8_NOISES * max(float(_about_median(drift).mean()) for drift in drifts)
    return max(measured, _FLOAT_ULPS * _ULP * float(np.abs(exact).max()))


def _about_median(drift: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is common to all samples belongs to the sealed values, and not to a device's noise.

    Returns:
        As `drift`; of maps, (N, h, w), the largest of each: (N,).
    """
    off: NDArray[np.float64] = np.abs(drift - np.median(drift))
    # The self-test holds the worst of a map's thousands of values. It lies far from their mean: 66
    # times as far in the half-precision map of an autoencoder, whose noise grows with the value.
    return off.max(axis=(1, 2)) if off.ndim == _MAP_NDIM else off


def _steady(
    found: Comparison, parity: Parity, tolerances: Sequence[GoldenTolerance]
) -> NDArray[np.bool_]:
    """(N,) samples on which a format's score and every output drift no further than tolerated."""
    score_margin = max(tolerance.score for tolerance in tolerances)
    steady = _about_median(found.score_drift) <= score_margin
    for name, exact in parity.reference.outputs.items():
        margin = max(tolerance.by_output[name] for tolerance in tolerances)
        drift = found.measured.outputs[name].astype(np.float64) - exact.astype(np.float64)
        # A score that is steady by itself may come from classes that changed places.
        if drift.ndim > 1:
            steady &= _about_median(drift).reshape(len(drift), -1).max(axis=1) <= margin
    return steady


def _affordable(frames_hwc: Sequence[Pixels]) -> int:
    largest = max(frame.nbytes for frame in frames_hwc)
    return max(_MIN_FRAMES, min(MAX_FRAMES, MAX_PIXEL_BYTES // largest))


def _check_power(found: Measurement, tolerance: GoldenTolerance, chosen: NDArray[np.int64]) -> None:
    scores = found.scores[chosen]
    half_range = float(scores.max() - scores.min()) / 2.0
    if not half_range > tolerance.score:
        raise GateError(
            f"{found.label}: the golden samples' scores span ±{half_range:.3g}, the tolerance is "
            f"{tolerance.score:.3g}: a constant would pass the self-test. Give the golden set "
            "samples of good and bad parts, or train a model that tells them apart"
        )
