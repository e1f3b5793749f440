"""Where a network looked: Grad-CAM (Selvaraju et al. 2017; Röhrich et al., sec. 5.3) and HiResCAM
(Draelos and Carin 2020)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lineside.contract import ClassificationHead, HeadSpec
from lineside_trainer.data import Augmentation
from lineside_trainer.errors import ExperimentError
from lineside_trainer.models.backbone import Backbone
from lineside_trainer.models.headed import Headed

Score = Callable[[Tensor], Tensor]
"""(N, outputs) float32, as `Headed.raw` gives them, to the (N,) values that maps explain."""

Mirror = tuple[int, ...]
"""Axes of (N, H, W, …) along which a copy is mirrored; () is the image itself."""

AS_IT_IS: Final[tuple[Mirror, ...]] = ((),)

REFERENCE_IMAGES: Final = 128
"""As many training images are a reference: their mean hardly moves with more."""

_ROWS: Final[Mirror] = (1,)
_COLUMNS: Final[Mirror] = (2,)
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


def grad_cam(
    network: Headed,
    score: Score,
    images_nhwc: Tensor,
    *,
    reference_nhwc: Tensor | None = None,
    mirrors: Sequence[Mirror] = AS_IT_IS,
) -> Tensor:
    """Maps of what raised each image's score, by the last layer that has places.

    Selvaraju et al., eqs. 1 and 2: each channel of the watched layer is weighted by the mean of
    its gradient, and of the weighted sum only what is positive counts, because the rest speaks
    against the score. Of a classification the score is a logit: a probability's gradient vanishes
    where the network is sure (their sec. 3 takes the value before the softmax too).

    Two things differ where they are asked for. Eq. 2 takes an activation of 0 for a feature's
    absence. The norm of a transformer has no such zero, and a regression's head balances what all
    images share by its bias: without a reference, ever the same background fills the map. So the
    reference's mean activation at each place is the zero. And single tokens of a transformer that
    gather what belongs to the whole image shine anywhere; in mirrored copies they lie elsewhere,
    so that the mean over copies keeps what the picture holds.

    Args:
        network: put into eval mode; nothing in it changes otherwise.
        score: what is explained, each image's own.
        images_nhwc: (N, H, W, C) uint8, as the network takes them.
        reference_nhwc: (M, H, W, C) uint8, training images; None takes 0, as the papers do.
        mirrors: the copies of each image whose maps are averaged, mirrored back.

    Returns:
        (N, H, W) float32 on the CPU: each map over its own maximum, so in 0..1; all zeros where
        nothing in the image raised the score.
    """
    return _draw(network, score, images_nhwc, reference_nhwc, mirrors, _LAST)


def hires_cam(
    network: Headed,
    score: Score,
    images_nhwc: Tensor,
    *,
    reference_nhwc: Tensor | None = None,
    mirrors: Sequence[Mirror] = AS_IT_IS,
) -> Tensor:
    """Maps of what raised each image's score, by an early layer.

    Draelos and Carin 2020: as Grad-CAM, but each place is weighted by the gradient at this very
    place, so that the map's sum is what the layer adds to the score, to first order. Theirs is the
    last layer of a network whose head is linear. Here it is the second block or stage: deep in a
    transformer what belongs to one place stands in tokens of others, and the last map of a CNN has
    2x2 places of a picture of 64 px. Measured on synthetic joints, where the cracks are known:
    `benchmarks/explain_joints.py`.

    Args, Returns: as `grad_cam`.
    """
    return _draw(network, score, images_nhwc, reference_nhwc, mirrors, _EARLY)


@dataclass(frozen=True, kw_only=True)
class _Way:
    """Which layer is read, and what weights its activation; both of (N, channels, h, w)."""

    layer: Callable[[Backbone], nn.Module]
    weights: Callable[[Tensor], Tensor]


_LAST: Final = _Way(
    layer=lambda backbone: backbone.watched,
    weights=lambda gradient: gradient.mean(dim=(2, 3), keepdim=True),  # eq. 1
)
_EARLY: Final = _Way(layer=lambda backbone: backbone.early, weights=lambda gradient: gradient)


def _draw(
    network: Headed,
    score: Score,
    images_nhwc: Tensor,
    reference_nhwc: Tensor | None,
    mirrors: Sequence[Mirror],
    way: _Way,
) -> Tensor:
    """(N, H, W), the mean over mirrored copies, over its own maximum."""
    network.eval()
    sums = []
    for axes in mirrors:
        zero = _zero(network, reference_nhwc, axes, way)
        sums.append(_sums(network, score, images_nhwc.flip(axes), zero, way).flip(axes))
    cells = functional.relu(torch.stack(sums).mean(dim=0))[:, None]
    grown = functional.interpolate(
        cells, size=images_nhwc.shape[1:3], mode="bilinear", align_corners=False
    )
    highest = grown.amax(dim=(2, 3), keepdim=True)
    return torch.where(highest > 0, grown / highest.clamp(min=1e-30), 0.0)[:, 0]


def spread_places(count: int, most: int) -> list[int]:
    """Places of at most so many of `count` in a row, evenly from the first to the last."""
    return sorted(
        {round(place) for place in torch.linspace(0, count - 1, min(count, most)).tolist()}
    )


def learnt_mirrors(augment: Augmentation) -> tuple[Mirror, ...]:
    """The copies that training showed the network, so that none is strange to it."""
    upright: tuple[Mirror, ...] = ((), _ROWS) if augment.flip_vertical else ((),)
    turned = tuple((*axes, *_COLUMNS) for axes in upright) if augment.flip_horizontal else ()
    return (*upright, *turned)


def _sums(
    network: Headed, score: Score, images_nhwc: Tensor, zero: Tensor | float, way: _Way
) -> Tensor:
    """Eq. 2 before its ReLU: (N, h, w) on the CPU."""
    found = []
    for part in torch.split(images_nhwc, _AT_ONCE):
        activation, gradient = _watch(network, score, part, way)
        found.append((way.weights(gradient) * (activation - zero)).sum(dim=1).cpu())
    return torch.cat(found)


@torch.no_grad()
def _zero(
    network: Headed, reference_nhwc: Tensor | None, axes: Mirror, way: _Way
) -> Tensor | float:
    """(1, channels, h, w): the mean activation over the reference, mirrored like the images."""
    if reference_nhwc is None:
        return 0.0
    backbone, sums = network.backbone, list[Tensor]()
    kept: list[Tensor] = []
    layer = way.layer(backbone)
    handle = layer.register_forward_hook(lambda _m, _i, output: kept.append(output))
    try:
        for part in torch.split(reference_nhwc.flip(axes), _AT_ONCE):
            network.raw(part.to(_device(network)))
            sums.append(backbone.as_map(kept.pop()).sum(dim=0, keepdim=True))
    finally:
        handle.remove()
    return torch.stack(sums).sum(dim=0) / len(reference_nhwc)


def _watch(network: Headed, score: Score, images_nhwc: Tensor, way: _Way) -> tuple[Tensor, Tensor]:
    """The layer's output and the score's gradient by it, both (N, channels, h, w)."""
    kept: list[Tensor] = []

    def cut(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[-1].clone()  # layers behind may work in place, which a leaf does not allow

    backbone = network.backbone
    handle = way.layer(backbone).register_forward_hook(cut)
    try:
        with torch.enable_grad():
            total = score(network.raw(images_nhwc.to(_device(network)))).sum()
            (gradient,) = torch.autograd.grad(total, kept[-1])
    finally:
        handle.remove()
    return backbone.as_map(kept[-1].detach()), backbone.as_map(gradient)


def _device(network: Headed) -> torch.device:
    return next(network.parameters()).device
