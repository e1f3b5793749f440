"""Adam's parameter groups and the learning rate over the steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import nn, optim

from lineside_trainer.experiment import FitSettings

Layers = Sequence[Sequence[nn.Parameter]]


def make_optimizer(layers: Layers, settings: FitSettings) -> optim.Adam:
    """Adam or AdamW with layer-wise learning-rate decay (Clark et al. 2020, sec. 3.2).

    Args:
        layers: parameters from the input to the output; the last layer learns at ``lr``.
        settings: of the fit.
    """
    groups: list[dict[str, Any]] = []
    for depth, parameters in enumerate(layers):
        scale = settings.layer_decay ** (len(layers) - 1 - depth)
        # Biases, norms and positions shrink for nothing: decay is for matrices.
        for is_matrix, decay in ((True, settings.weight_decay), (False, 0.0)):
            chosen = [p for p in parameters if (_is_matrix(p)) is is_matrix]
            if chosen:
                groups.append({"params": chosen, "lr": settings.lr * scale, "weight_decay": decay})
    kind = optim.AdamW if settings.optimizer == "adamw" else optim.Adam
    return kind(groups, betas=(0.9, settings.beta2), fused=True)


def rate_factor(step: int, steps: int, warmup_share: float) -> float:
    """Share of the highest rate at a step: linear rise, then a cosine to zero."""
    warmup = max(1, round(steps * warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


def plateau_rate(judgements: Sequence[float], settings: FitSettings) -> float:
    """Share of the highest rate after so many epochs.

    Args:
        judgements: the validation figure of every epoch so far; smaller is better.
        settings: `plateau_factor` and `plateau_patience` count.
    """
    best, without_better, plateaus = math.inf, 0, 0
    for judgement in judgements:
        better = judgement < best
        best, without_better = min(best, judgement), 0 if better else without_better + 1
        if without_better == settings.plateau_patience:
            plateaus, without_better = plateaus + 1, 0
    return settings.plateau_factor**plateaus


def _is_matrix(parameter: nn.Parameter) -> bool:
    # Class token, mask token and positions are (1, n, width): no matrices in this sense.
    return parameter.ndim > 1 and parameter.ndim != 3
