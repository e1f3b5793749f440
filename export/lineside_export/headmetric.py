"""By which figure a format is held against the known targets: one for each kind of head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lineside.contract import (
    AnomalyHead,
    ClassificationHead,
    HeadSpec,
    LabelledHead,
    RegressionHead,
)
from lineside.heads import score_outputs
from lineside.metrics import auroc, mean_average_precision, squared_errors

Outputs = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class HeadMetric:
    """A task's primary metric, as the trainer has it.

    Attributes:
        name: key in documents and in the manifest.
        label: for people.
        lower_is_better: which way it gets worse.
        needs: what must be known for there to be a figure, in words.
        measure: (M,) known targets, outputs of the same samples and the head to the figure; NaN
            where these samples leave it undefined. Takes that head and no other (hence ``Any``).
    """

    name: str
    label: str
    lower_is_better: bool
    needs: str
    measure: Callable[[NDArray[np.float64], Outputs, Any], float]

    def lost(self, before: float, now: float, share: float) -> bool:
        """Whether it got worse by more than a share of what it was."""
        if self.lower_is_better:
            return now > before * (1.0 + share)
        return now < before * (1.0 - share)

    def known(self, targets: NDArray[np.float64], outputs: Outputs, head: HeadSpec) -> float | None:
        """The figure over the samples whose target is known; ``None`` where there is none.

        Args:
            targets: (N,) float64, NaN where unknown.
            outputs: by name, (N, *shape) float32.
            head: of the contract.
        """
        known = np.isfinite(targets)
        if not known.any():
            return None
        chosen = {name: values[known] for name, values in outputs.items()}
        value = self.measure(targets[known], chosen, head)
        return None if np.isnan(value) else value


def metric_of(head: HeadSpec) -> HeadMetric:
    """The metric of this kind of head."""
    return _METRICS[type(head)]


def target_fault(targets: NDArray[np.float64], head: HeadSpec) -> str:
    """What is wrong with a sample set's targets, "" where nothing is.

    Args:
        targets: (N,) float64; NaN means unknown.
        head: of the contract.
    """
    if np.isinf(targets).any():
        return f"sample {int(np.isinf(targets).argmax())} has an infinite target; NaN means unknown"
    if not isinstance(head, LabelledHead):
        return ""
    known = np.where(np.isnan(targets), 0.0, targets)
    strange = (known != np.floor(known)) | (known < 0) | (known >= len(head.classes))
    if not strange.any():
        return ""
    index = int(strange.argmax())
    return (
        f"sample {index} has the target {targets[index]:g}; the contract's head has the classes 0 "
        f"to {len(head.classes) - 1} ({', '.join(head.classes)}); NaN means unknown"
    )


def _mse(targets: NDArray[np.float64], outputs: Outputs, head: RegressionHead) -> float:
    return float(squared_errors(targets, score_outputs(outputs, head)).mean())


def _average_precision(
    targets: NDArray[np.float64], outputs: Outputs, head: ClassificationHead
) -> float:
    return float(mean_average_precision(targets.astype(np.int64), outputs[head.output]))


def _auroc(targets: NDArray[np.float64], outputs: Outputs, head: AnomalyHead) -> float:
    good = [head.classes.index(name) for name in head.good]
    return float(auroc(~np.isin(targets, good), score_outputs(outputs, head)))


_METRICS: Final[dict[type[HeadSpec], HeadMetric]] = {
    RegressionHead: HeadMetric(
        name="mse", label="MSE", lower_is_better=True, needs="a known target", measure=_mse
    ),
    ClassificationHead: HeadMetric(
        name="average_precision",
        label="AP",
        lower_is_better=False,
        needs="known samples of two classes",
        measure=_average_precision,
    ),
    AnomalyHead: HeadMetric(
        name="auroc",
        label="AUROC",
        lower_is_better=False,
        needs="known good samples and known bad ones",
        measure=_auroc,
    ),
}
