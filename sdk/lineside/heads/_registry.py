"""Which function scores which head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lineside.contract import HeadSpec, RegressionHead
from lineside.heads.regression import score_regression

Outputs = Mapping[str, NDArray[np.float32]]
Score = Callable[[Outputs, HeadSpec], NDArray[np.float64]]

_SCORES: Final[dict[type[HeadSpec], Score]] = {
    RegressionHead: score_regression,
}


def score_outputs(outputs: Outputs, head: HeadSpec) -> NDArray[np.float64]:
    """Score a batch of outputs: (N,) float64, in the contract's unit."""
    return _SCORES[type(head)](outputs, head)
