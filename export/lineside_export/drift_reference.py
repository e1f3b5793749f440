"""What is normal, as it is sealed for drift: statistics of the validation samples.

Of those that are known to be good, where there are enough: a line makes good parts, nearly always,
while every second validation sample may be bad, and production held against such a mixture would
drift from its first part on. Neither golden nor assurance samples have a say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from lineside.contract import LimitRule
from lineside.drift import (
    EMBEDDING_OUTPUT,
    DriftReference,
    FormSpreads,
    PictureStatistics,
    Spread,
    effective_parts,
    measure_picture,
)
from lineside_export.candidate import Candidate
from lineside_export.parity import Measurement
from lineside_export.partscores import bad_images

_SET: Final = "validation"
# With fewer, what is beyond them all is no tenth of what is good.
_FEWEST_GOOD: Final = 30


def make_drift_reference(
    candidate: Candidate, measured: Sequence[Measurement], truth: LimitRule
) -> DriftReference:
    """Statistics of scores and pictures, of the validation samples.

    Args:
        candidate: whose samples.
        measured: each sealed form on all of them.
        truth: of a regression: targets beyond its ``ok_limit`` are bad.
    """
    samples, frame = candidate.samples[_SET], candidate.contract.frame
    of, kept = _choose(candidate, truth)
    images = Counter(np.asarray(samples.parts, np.str_)[kept].tolist())
    pictures = [
        measure_picture(samples.frames_hwc[i], frame) for i in np.flatnonzero(kept).tolist()
    ]
    return DriftReference(
        of=of,
        parts=effective_parts(list(images.values())),
        light=_spread(pictures, "light"),
        clipping=_spread(pictures, "clipping"),
        focus=_spread(pictures, "focus"),
        forms=tuple(_of_form(found, kept) for found in measured),
    )


def _choose(
    candidate: Candidate, truth: LimitRule
) -> tuple[Literal["good", "all"], NDArray[np.bool_]]:
    samples = candidate.samples[_SET]
    good = bad_images(samples.targets, candidate.contract.head, truth) == 0.0
    if len(set(np.asarray(samples.parts, np.str_)[good].tolist())) >= _FEWEST_GOOD:
        return "good", good
    return "all", np.ones(len(samples), np.bool_)


def _spread(
    pictures: Sequence[PictureStatistics], name: Literal["light", "clipping", "focus"]
) -> Spread:
    return Spread.from_values([getattr(picture, name) for picture in pictures], name)


def _of_form(found: Measurement, kept: NDArray[np.bool_]) -> FormSpreads:
    distances = found.outputs.get(EMBEDDING_OUTPUT)
    return FormSpreads(
        engine=found.engine,
        precision=found.precision,
        score=Spread.from_values(found.scores[kept], "score"),
        embedding=None if distances is None else Spread.from_values(distances[kept], "embedding"),
    )
