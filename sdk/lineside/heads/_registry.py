"""Which functions read which head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lineside.contract import AnomalyHead, ClassificationHead, HeadSpec, RegressionHead
from lineside.heads.anomaly import find_anomaly, score_anomaly
from lineside.heads.classification import find_classification, score_classification
from lineside.heads.regression import find_regression, score_regression
from lineside.verdict import Finding

Outputs = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """What reads a head; each function takes that head and no other (hence ``Any``)."""

    score: Callable[[Outputs, Any], NDArray[np.float64]]
    find: Callable[[Outputs, Any, tuple[int, int]], list[tuple[Finding, ...]]]


_READERS: Final[dict[type[HeadSpec], _Reader]] = {
    RegressionHead: _Reader(score=score_regression, find=find_regression),
    ClassificationHead: _Reader(score=score_classification, find=find_classification),
    AnomalyHead: _Reader(score=score_anomaly, find=find_anomaly),
}


def score_outputs(outputs: Outputs, head: HeadSpec) -> NDArray[np.float64]:
    """Score a batch of outputs: (N,) float64, in the contract's unit; NaN where there is none."""
    return _READERS[type(head)].score(outputs, head)


def find_outputs(
    outputs: Outputs, head: HeadSpec, frame_size_hw: tuple[int, int]
) -> list[tuple[Finding, ...]]:
    """What speaks against each image of a batch, the strongest first: N tuples.

    Args:
        outputs: by name, each (N, *shape) float32.
        head: how they are read.
        frame_size_hw: of the frames as acquired, all alike; findings' regions are pixels of them.
    """
    return _READERS[type(head)].find(outputs, head, frame_size_hw)
