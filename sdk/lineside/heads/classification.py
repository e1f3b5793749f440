"""Classification: the score is the probability of any defect, the finding its likeliest kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lineside.contract import ClassificationHead
from lineside.verdict import Finding

SUM_TOLERANCE: Final = 1e-3
"""Probabilities in float32 sum to 1 within 1e-6; further off, the graph does not end in a softmax
or the engine is at fault."""


def score_classification(
    outputs: Mapping[str, NDArray[np.float32]], head: ClassificationHead
) -> NDArray[np.float64]:
    """1 less the probabilities of the good classes.

    Not the sum of the others, so that an engine that gives zeros never says OK.

    Args:
        outputs: by name; ``outputs[head.output]`` is (N, classes) float32.
        head: which output, which classes.

    Returns:
        (N,) float64 in 0..1; NaN where the values are no probabilities: below 0, not summing to 1,
        or not finite.
    """
    exact = _probabilities(outputs, head)
    good = [head.classes.index(name) for name in head.good]
    with np.errstate(invalid="ignore"):
        sound = (exact >= -SUM_TOLERANCE).all(axis=1)
        sound &= np.abs(exact.sum(axis=1) - 1.0) <= SUM_TOLERANCE
        scores = np.clip(1.0 - exact[:, good].sum(axis=1), 0.0, 1.0)
    return np.where(sound, scores, np.nan)


def find_classification(
    outputs: Mapping[str, NDArray[np.float32]],
    head: ClassificationHead,
    _frame_size_hw: tuple[int, int],
) -> list[tuple[Finding, ...]]:
    """The likeliest class of defect of each image.

    Args:
        outputs: as for ``score_classification``, and with sound scores.
        head: which output, which classes.

    Returns:
        N tuples of one finding each.
    """
    exact = _probabilities(outputs, head)
    bad = [index for index, name in enumerate(head.classes) if name not in head.good]
    likeliest = [bad[place] for place in exact[:, bad].argmax(axis=1)]
    return [
        (Finding(name=head.classes[index], probability=float(values[index])),)
        for index, values in zip(likeliest, exact, strict=True)
    ]


def _probabilities(
    outputs: Mapping[str, NDArray[np.float32]], head: ClassificationHead
) -> NDArray[np.float64]:
    values = outputs[head.output]
    return values.reshape(values.shape[0], len(head.classes)).astype(np.float64)
