"""Where a network looked: Grad-CAM (Selvaraju et al. 2017; Röhrich et al., sec. 5.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn import functional

from lineside.contract import ClassificationHead, HeadSpec
from lineside_trainer.errors import ExperimentError
from lineside_trainer.models.headed import Headed

Score = Callable[[Tensor], Tensor]
"""(N, outputs) float32, as `Headed.raw` gives them, to the (N,) values that maps explain."""

_AT_ONCE: Final = 64


def explained_score(
    head: HeadSpec, *, worse: Literal["higher", "lower"], chosen: str | None = None
) -> Score:
    """What a map of such a head explains.

    A number is explained in the direction of its bad end, so that a map shows what speaks for
    damage. Of classes it is the logit of the chosen one, or of each image's likeliest.

    Args:
        head: of the network.
        worse: which end of a number's scale is the bad one.
        chosen: a class; None takes the likeliest.

    Raises:
        ExperimentError: a class that the network does not know.
    """
    classes = head.classes if isinstance(head, ClassificationHead) else ()
    if chosen is not None and chosen not in classes:
        known = f"there are {', '.join(classes)}" if classes else "the run learnt a number"
        raise ExperimentError(f"--class: {chosen!r} is no class of this run; {known}")
    if chosen is not None:
        index = classes.index(chosen)
        return lambda raw: raw[:, index]
    if classes:
        return lambda raw: raw.amax(dim=1)
    sign = 1.0 if worse == "higher" else -1.0
    return lambda raw: sign * raw[:, 0]


def grad_cam(network: Headed, score: Score, images_nhwc: Tensor) -> Tensor:
    """Maps of what raised each image's score.

    Selvaraju et al., eqs. 1 and 2: each channel of the watched layer is weighted by the mean of
    its gradient, and of the weighted sum only what is positive counts, because the rest speaks
    against the score. Of a classification the score is a logit: a probability's gradient vanishes
    where the network is sure (their sec. 3 takes the value before the softmax too).

    Args:
        network: put into eval mode; nothing in it changes otherwise.
        score: what is explained, each image's own.
        images_nhwc: (N, H, W, C) uint8, as the network takes them.

    Returns:
        (N, H, W) float32 on the CPU: each map over its own maximum, so in 0..1; all zeros where
        nothing in the image raised the score.
    """
    network.eval()
    maps = [_maps(network, score, part) for part in torch.split(images_nhwc, _AT_ONCE)]
    return torch.cat(maps)


def _maps(network: Headed, score: Score, images_nhwc: Tensor) -> Tensor:
    device = next(network.parameters()).device
    activation, gradient = _watch(network, score, images_nhwc.to(device))
    weights = gradient.mean(dim=(2, 3), keepdim=True)  # eq. 1
    cells = functional.relu((weights * activation).sum(dim=1, keepdim=True))  # eq. 2
    size_hw = images_nhwc.shape[1:3]
    grown = functional.interpolate(cells, size=size_hw, mode="bilinear", align_corners=False)
    highest = grown.amax(dim=(2, 3), keepdim=True)
    scaled = torch.where(highest > 0, grown / highest.clamp(min=1e-30), 0.0)
    return scaled[:, 0].cpu()


def _watch(network: Headed, score: Score, images_nhwc: Tensor) -> tuple[Tensor, Tensor]:
    """The watched layer's output and the score's gradient by it, both (N, channels, h, w)."""
    kept: list[Tensor] = []

    def cut(_module: torch.nn.Module, _inputs: object, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[-1].clone()  # layers behind may work in place, which a leaf does not allow

    backbone = network.backbone
    handle = backbone.watched.register_forward_hook(cut)
    try:
        with torch.enable_grad():
            total = score(network.raw(images_nhwc)).sum()
            (gradient,) = torch.autograd.grad(total, kept[-1])
    finally:
        handle.remove()
    return backbone.as_map(kept[-1].detach()), backbone.as_map(gradient)
