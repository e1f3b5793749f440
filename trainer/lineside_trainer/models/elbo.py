"""The two terms of the evidence lower bound (Ulger et al., eq. 1 to 3), an image at a time."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from lineside_trainer.models.autoencoder import Latent, kl_divergences

Reduction = Literal["sum", "mean"]


def reconstruction_errors(
    reconstructions_nchw: Tensor, images_nchw: Tensor, reduction: Reduction
) -> Tensor:
    """Squared errors of each image (eq. 2; its 1/N is the mean over a batch, left to the caller).

    Args:
        reconstructions_nchw: (N, C, H, W) in -1..1.
        images_nchw: likewise.
        reduction: over pixels and channels.

    Returns:
        (N,) float32.
    """
    squared = (reconstructions_nchw.float() - images_nchw).square()
    return reduce_units(squared, reduction)


def divergences(latent: Latent, reduction: Reduction) -> Tensor:
    """KL(q(z|X) || N(0, I)) of each image.

    Args:
        latent: of a variational autoencoder.
        reduction: over latent units.

    Returns:
        (N,) float32.
    """
    return reduce_units(kl_divergences(latent), reduction)


def reduce_units(values: Tensor, reduction: Reduction) -> Tensor:
    """(N, ...) to (N,).

    With "sum" both terms are those of a likelihood: -log N(X; X~, 1/2) less a constant, in nats.
    "mean" divides them by different counts, C*H*W pixels and 10*H*W/64 latents, so that `beta`
    weighs the divergence 6.4*C times as much: 19.2 with three channels, so beta 3 is 57.6 of "sum".
    """
    flat = values.flatten(1)
    return flat.sum(dim=1) if reduction == "sum" else flat.mean(dim=1)


def loss_units(size_hw: tuple[int, int], channels: int, reduction: Reduction) -> int:
    """How often a loss of this reduction holds the error of one pixel's channel.

    GradCon's two weights are defined beside the mean squared error (Kwon et al. 2020; in their code
    of images in 0..1, of which ours in -1..1 is four times as much). Times this they stand beside a
    sum with the same say.
    """
    return size_hw[0] * size_hw[1] * channels if reduction == "sum" else 1
