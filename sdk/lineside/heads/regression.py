"""Regression: the score is the value itself."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lineside.contract import RegressionHead
from lineside.verdict import Finding


def score_regression(
    outputs: Mapping[str, NDArray[np.float32]], head: RegressionHead
) -> NDArray[np.float64]:
    """Read the values.

    Args:
        outputs: by name; ``outputs[head.output]`` is (N,) or (N, 1) float32.
        head: which output.

    Returns:
        (N,) float64 scores in the target's unit.
    """
    values = outputs[head.output]
    return values.reshape(values.shape[0]).astype(np.float64)


def find_regression(
    outputs: Mapping[str, NDArray[np.float32]],
    head: RegressionHead,
    _frame_size_hw: tuple[int, int],
) -> list[tuple[Finding, ...]]:
    """None: a value names no kind of defect. Arguments as for ``score_regression``; N tuples."""
    return [()] * outputs[head.output].shape[0]
