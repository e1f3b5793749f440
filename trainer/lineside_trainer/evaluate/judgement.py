"""Held against the truth: figures with their intervals, beside what a trivial predictor gets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.metrics import Statistic, by_part_interval
from lineside_trainer.runs.results import Figure

FEWEST_PARTS: Final = 8
"""Below so many parts, drawing whole parts gives an interval of a handful of values."""

_AT_ONCE: Final = 128
_CONFIDENCE: Final = 0.95


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """By which figures a task is judged; each is a function of the samples' weights.

    Attributes:
        metric: the primary one, a key of `ours` and `trivial`.
        lower_is_better: of the primary one.
        ours: by metric, the primary one first.
        trivial: of the trivial predictor on the same samples, where it has such a figure.
        baseline_name: what that predictor does.
    """

    metric: str
    lower_is_better: bool
    ours: Mapping[str, Statistic]
    trivial: Mapping[str, Statistic]
    baseline_name: str


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """On one sample set.

    Attributes:
        metric: the primary one.
        lower_is_better: of the primary one.
        figures: of the model by metric; one that these samples leave undefined is left out.
        baseline: of the trivial predictor, likewise.
        baseline_name: what that predictor does.
        difference: the model's primary figure less the baseline's, on the same draws.
        by_part: the primary metric of each part, where parts are too few for an interval by part.
        notes: how to read it.
    """

    metric: str
    lower_is_better: bool
    figures: dict[str, Figure]
    baseline: dict[str, Figure]
    baseline_name: str
    difference: Figure
    by_part: dict[str, float]
    notes: tuple[str, ...]

    @property
    def better(self) -> bool:
        """The whole interval lies on the good side of the baseline's figure, and the whole interval
        of the difference on that of 0.

        The second matters where a draw may leave a class out: the mean over fewer classes is
        higher for both.
        """
        ours, trivial = self.figures[self.metric], self.baseline[self.metric].value
        return self._is_beyond(ours, trivial) and self._is_beyond(self.difference, 0.0)

    def _is_beyond(self, figure: Figure, bound: float) -> bool:
        if self.lower_is_better:
            return figure.high is not None and figure.high < bound
        return figure.low is not None and figure.low > bound


@torch.no_grad()
def predict(network: nn.Module, images_nhwc: Tensor) -> NDArray[np.float64]:
    """Run a network in fp32, in eval mode, on the device it is on.

    Args:
        network: (N, H, W, C) uint8 to (N, *shape) float32.
        images_nhwc: (N, H, W, C) uint8.

    Returns:
        (N, *shape) float64.
    """
    network.eval()
    device = next(network.parameters()).device
    values = [network(images.to(device)).cpu() for images in torch.split(images_nhwc, _AT_ONCE)]
    joined: NDArray[np.float64] = torch.cat(values).double().numpy()
    return joined


def measure(yardstick: Yardstick, parts: NDArray[np.str_]) -> Judgement:
    """Every figure with its interval: by part, or by image where parts are few.

    Args:
        yardstick: of N samples.
        parts: (N,) part ids.
    """
    names = np.unique(parts)
    few = len(names) < FEWEST_PARTS
    drawn, by = _what_is_drawn(parts)
    ours, trivial = yardstick.ours[yardstick.metric], yardstick.trivial[yardstick.metric]
    return Judgement(
        metric=yardstick.metric,
        lower_is_better=yardstick.lower_is_better,
        figures=_figures(yardstick.ours, drawn, by),
        baseline=_figures(yardstick.trivial, drawn, by),
        baseline_name=yardstick.baseline_name,
        difference=_figure(lambda weights: ours(weights) - trivial(weights), drawn, by),
        by_part=_by_part(ours, parts, names) if few else {},
        notes=(_few_parts_note(len(names)),) if few else (),
    )


def measure_each(statistics: Mapping[str, Statistic], parts: NDArray[np.str_]) -> dict[str, Figure]:
    """Figures beside those of a yardstick, with intervals as `measure` draws them; one that these
    samples leave undefined is left out.

    Args:
        statistics: of N samples, by name.
        parts: (N,) part ids.
    """
    return _figures(statistics, *_what_is_drawn(parts))


def _what_is_drawn(parts: NDArray[np.str_]) -> tuple[NDArray[np.str_], str]:
    if len(np.unique(parts)) < FEWEST_PARTS:
        return np.arange(len(parts)).astype(str), "image"
    return parts, "part"


def _few_parts_note(count: int) -> str:
    return (
        f"the test fold has {count} part(s), fewer than {FEWEST_PARTS}: an interval by part would "
        "mean nothing, so it is drawn by image. It leaves out how parts differ; see the figure of "
        "each part"
    )


def _by_part(
    statistic: Statistic, parts: NDArray[np.str_], names: NDArray[np.str_]
) -> dict[str, float]:
    found = {str(name): float(statistic((parts == name).astype(np.float64))) for name in names}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _figures(
    statistics: Mapping[str, Statistic], drawn: NDArray[np.str_], by: str
) -> dict[str, Figure]:
    found = {name: _figure(statistic, drawn, by) for name, statistic in statistics.items()}
    return {name: figure for name, figure in found.items() if not math.isnan(figure.value)}


def _figure(statistic: Statistic, drawn: NDArray[np.str_], by: str) -> Figure:
    value, count = float(statistic(np.ones(len(drawn)))), len(np.unique(drawn))
    if count < 2 or math.isnan(value):
        return Figure(
            value=value, low=None, high=None, confidence=_CONFIDENCE, drawn_by=by, drawn=count
        )
    interval = by_part_interval(statistic, drawn, confidence=_CONFIDENCE)
    return Figure(
        value=interval.value,
        low=interval.low,
        high=interval.high,
        confidence=interval.confidence,
        drawn_by=by,
        drawn=interval.resampled,
    )
