"""Held against the truth: the error with its interval, beside what the mean predictor gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.metrics import mean_by_part_interval, squared_errors
from lineside_trainer.results import Figure

FEWEST_PARTS: Final = 8
"""Below so many parts, drawing whole parts gives an interval of a handful of values."""

_AT_ONCE: Final = 128


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """On one sample set.

    Attributes:
        mse: of the model, in the unit squared.
        baseline: of always saying the training mean.
        by_part: MSE of each part, where parts are too few for an interval by part.
        notes: how to read it.
    """

    mse: Figure
    baseline: Figure
    by_part: dict[str, float]
    notes: tuple[str, ...]

    @property
    def below(self) -> bool:
        """The whole interval lies below the baseline's figure."""
        return self.mse.high is not None and self.mse.high < self.baseline.value


@torch.no_grad()
def predict(network: nn.Module, images_nhwc: Tensor) -> NDArray[np.float64]:
    """Run a network in fp32, in eval mode, on the device it is on.

    Args:
        network: (N, H, W, C) uint8 to (N,) float32.
        images_nhwc: (N, H, W, C) uint8.

    Returns:
        (N,) float64.
    """
    network.eval()
    device = next(network.parameters()).device
    values = [network(images.to(device)).cpu() for images in torch.split(images_nhwc, _AT_ONCE)]
    joined: NDArray[np.float64] = torch.cat(values).double().numpy()
    return joined


def judge(
    targets: NDArray[np.float64],
    predicted: NDArray[np.float64],
    parts: NDArray[np.str_],
    *,
    mean: float,
) -> Judgement:
    """Compare.

    Args:
        targets: (N,) in the target's unit.
        predicted: (N,) likewise.
        parts: (N,) part ids.
        mean: the training fold's, what the mean predictor says.
    """
    names = np.unique(parts)
    few = len(names) < FEWEST_PARTS
    errors = squared_errors(targets, predicted)
    drawn = np.arange(len(parts)).astype(str) if few else parts
    by = "image" if few else "part"
    return Judgement(
        mse=_figure(errors, drawn, by),
        baseline=_figure(squared_errors(targets, np.full_like(targets, mean)), drawn, by),
        by_part={str(name): float(errors[parts == name].mean()) for name in names} if few else {},
        notes=(_few_parts_note(len(names)),) if few else (),
    )


def _few_parts_note(count: int) -> str:
    return (
        f"the test fold has {count} part(s), fewer than {FEWEST_PARTS}: an interval by part would "
        "mean nothing, so it is drawn by image. It leaves out how parts differ; see the error of "
        "each part"
    )


def _figure(errors: NDArray[np.float64], drawn: NDArray[np.str_], by: str) -> Figure:
    if len(errors) < 2:
        value = float(errors.mean())
        return Figure(
            value=value, low=None, high=None, confidence=0.95, drawn_by=by, drawn=len(errors)
        )
    interval = mean_by_part_interval(errors, drawn)
    return Figure(
        value=interval.value,
        low=interval.low,
        high=interval.high,
        confidence=interval.confidence,
        drawn_by=by,
        drawn=interval.resampled,
    )
