"""Anomaly: the score is how unlike the good parts an image is; findings say where."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lineside.contract import AnomalyHead
from lineside.verdict import Finding


def score_anomaly(
    outputs: Mapping[str, NDArray[np.float32]], head: AnomalyHead
) -> NDArray[np.float64]:
    """Read the scores.

    Args:
        outputs: by name; ``outputs[head.output]`` is (N,) or (N, 1) float32.
        head: which output.

    Returns:
        (N,) float64; higher is more anomalous.
    """
    values = outputs[head.output]
    return values.reshape(values.shape[0]).astype(np.float64)


def find_anomaly(
    outputs: Mapping[str, NDArray[np.float32]], head: AnomalyHead
) -> list[tuple[Finding, ...]]:
    """None yet. Arguments as for ``score_anomaly``; N tuples."""
    return [()] * outputs[head.output].shape[0]
