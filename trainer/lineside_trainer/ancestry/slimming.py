"""Go on from a finished run with its most important heads and hidden units alone."""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import ModelSettings, TrainSettings
from lineside_trainer.models.slim import (
    choose_kept,
    measure_importance,
    prune_weights,
    slim_size,
)
from lineside_trainer.prepared import IntArray, Prepared
from lineside_trainer.runs.trained import Trained
from lineside_trainer.tasks import Task

SETTING: Final = "train.slim.run"

_MOST_MEASURED: Final = 512
"""Images that importance is a mean over (Michel et al. 2019 and Molchanov et al. 2019 find a small
part of the training set enough)."""

_AT_ONCE: Final = 64


def check_slimming(settings: TrainSettings) -> None:
    """Refuse two beginnings.

    Raises:
        ExperimentError: an `init` besides.
    """
    if settings.slim.run and settings.init:
        raise ExperimentError(
            f"{SETTING}, train.init: a run goes on from one of them; leave the other away"
        )


def keep_important(
    task: Task, wide: Trained, prepared: Prepared, labelled: IntArray, model: ModelSettings
) -> None:
    """Fill a slim task with the rows and columns of the wide one that its loss feels most.

    Args:
        task: of the slim network, with any weights.
        wide: the run to go on from.
        prepared: images and targets.
        labelled: (M,) rows of the training samples with a target.
        model: of the slim network.

    Raises:
        ExperimentError: the run's network is no wider one of the same kind.
    """
    _check_wider(wide, model)
    source = wide.task().requires_grad_(True)
    net = source.backbone.net
    assert isinstance(net, VisionTransformer), "checked with model.heads and model.mlp_share"
    measured = measure_importance(net, partial(_loss, source), _batches(prepared, labelled))
    heads, units = slim_size(model)
    weights = prune_weights(
        source.state_dict(),
        choose_kept(measured, heads=heads, units=units),
        head_width=net.blocks[0].attn.head_dim,  # type: ignore[union-attr, arg-type]
        prefix=_name_of(net, source) + ".",
    )
    try:
        task.load_state_dict(weights)
    except RuntimeError as error:
        raise ExperimentError(
            f"{SETTING}: {wide.folder} holds another network than the one asked for; leave --arch, "
            "--patch, --image-size and train.head_width away, and they are taken over"
        ) from error


def _check_wider(wide: Trained, model: ModelSettings) -> None:
    before = wide.experiment.model
    if before.arch != model.arch:
        raise ExperimentError(
            f"{SETTING}: {wide.folder} is a {before.arch}, and model.arch is {model.arch!r}; leave "
            "--arch away"
        )
    (heads, units), (had_heads, had_units) = slim_size(model), slim_size(before)
    if heads > had_heads or units > had_units or (heads, units) == (had_heads, had_units):
        raise ExperimentError(
            f"{SETTING}: {wide.folder} has {had_heads} heads and {had_units} hidden units in a "
            f"block, {heads} and {units} are asked for; give --heads, --mlp or both, less than it "
            "has"
        )


def _loss(task: Task, images_nhwc: Tensor, targets: Tensor) -> Tensor:
    return task.loss(images_nhwc, targets, torch.Generator())


def _batches(prepared: Prepared, rows: IntArray) -> list[tuple[Tensor, Tensor]]:
    if len(rows) > _MOST_MEASURED:
        rows = rows[np.linspace(0, len(rows) - 1, _MOST_MEASURED).round().astype(np.int64)]
    targets = torch.from_numpy(prepared.table.targets.astype(np.float32))
    parts = torch.split(torch.from_numpy(rows), _AT_ONCE)
    return [(prepared.store.rows(part), targets[part]) for part in parts]


def _name_of(net: VisionTransformer, task: Task) -> str:
    names: dict[int, str] = {id(module): name for name, module in task.named_modules()}
    return names[id(net)]
