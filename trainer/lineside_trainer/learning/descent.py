"""AdamW's parameter groups and the learning rate over the steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import nn, optim

from lineside_trainer.experiment import FitSettings

Layers = Sequence[Sequence[nn.Parameter]]


def make_optimizer(layers: Layers, settings: FitSettings) -> optim.AdamW:
    """AdamW with layer-wise learning-rate decay (Clark et al. 2020, sec. 3.2).

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
    return optim.AdamW(groups, betas=(0.9, settings.beta2), fused=True)


def rate_factor(step: int, steps: int, warmup_share: float) -> float:
    """Share of the highest rate at a step: linear rise, then a cosine to zero."""
    warmup = max(1, round(steps * warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


def _is_matrix(parameter: nn.Parameter) -> bool:
    # Class token, mask token and positions are (1, n, width): no matrices in this sense.
    return parameter.ndim > 1 and parameter.ndim != 3
