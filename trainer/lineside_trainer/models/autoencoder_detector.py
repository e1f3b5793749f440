"""An autoencoder as a detector: three scores (Ulger et al., sec. III-B) and one map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor, nn

from lineside_trainer.errors import ExperimentError
from lineside_trainer.models.autoencoder import (
    SLOPE,
    Autoencoder,
    EncoderLayer,
    Latent,
    scale_pixels,
    unscale_pixels,
)
from lineside_trainer.models.detector import MAP, SCORE, Detector
from lineside_trainer.models.elbo import Reduction, divergences, loss_units, reduce_units
from lineside_trainer.models.gradcon import (
    GradientLoss,
    SealedDecoder,
    fold_norm,
)

Score = Literal["recon", "elbo", "gradcon"]
_READ_AT_ONCE: Final = 64
SCORES: Final[tuple[Score, ...]] = ("recon", "elbo", "gradcon")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """All that an autoencoder says of images, for a report.

    Attributes:
        scores: by name, (N,) float32 each; a CAE has no "elbo".
        reconstructions_nhwc: (N, H, W, C) float32 in 0..255.
        latent_means: (N, 10 * H/8 * W/8) float32.
    """

    scores: dict[str, Tensor]
    reconstructions_nhwc: Tensor
    latent_means: Tensor


class AutoencoderDetector(Detector):
    """Raw pixels to one of the scores, and to the squared error of every pixel.

    Scores are the loss per pixel and channel, in squares of -1..1, whatever the size of the image.

    A snapshot: what the autoencoder learns afterwards changes nothing here. The latent is its mean,
    not a draw, so that an image always has the same score; sec. III-B draws. On joints in 32x32 it
    also tells better: AUROC of the error 0.875, and 0.849 with the mean of two draws.

    Args:
        autoencoder: that has learnt, on the CPU.
        score: "recon" (eq. 2), "elbo" (eq. 3 with its sign turned: divergence and error, and no
            beta) or "gradcon" (error and `gamma` times eq. 4, whose minus stands).
        gamma: weight of the gradients in "gradcon".
        reduction: what `beta` meant in training, and so how much the divergence weighs in "elbo".

    Raises:
        ExperimentError: "elbo" of a CAE, or "gradcon" before any step of training.
    """

    def __init__(
        self, autoencoder: Autoencoder, *, score: Score, gamma: float, reduction: Reduction
    ) -> None:
        super().__init__()
        check_score(autoencoder, score)
        self.map_hw = autoencoder.size_hw
        self._score, self._gamma, self._reduction = score, gamma, reduction
        self._units = loss_units(autoencoder.size_hw, autoencoder.channels, reduction)
        self.encoder = SealedEncoder(autoencoder, with_variance=score == "elbo")
        self.decoder = SealedDecoder(autoencoder.decoder_layers())
        layers, references = autoencoder.decoder_layers(), autoencoder.training_gradients
        self.gradients = GradientLoss(layers, references.means()) if score == "gradcon" else None

    def forward(self, image: Tensor, memory: Tensor | None = None) -> dict[str, Tensor]:
        assert memory is None, "an autoencoder has no memory"
        images = scale_pixels(image)
        latent = self.encoder(images)
        decoded = self.decoder(latent.mean)
        squared = (decoded.reconstructions_nchw - images).square()  # (N, C, H, W)
        score = reduce_units(squared, "mean")
        if self._score == "elbo":
            score = score + divergences(latent, self._reduction) / self._units
        if self.gradients is not None:
            score = score + self._gamma * self.gradients(decoded, images)
        return {SCORE: score, MAP: squared.mean(dim=1)}


class SealedEncoder(nn.Module):
    """The encoder as plain convolutions with batch norm folded in.

    Args:
        autoencoder: that has learnt.
        with_variance: whether the log-variance is computed.
    """

    def __init__(self, autoencoder: Autoencoder, *, with_variance: bool) -> None:
        super().__init__()
        self.stages = nn.Sequential(*map(_seal_layer, autoencoder.encoder_layers()))
        self.mean = _seal_conv(autoencoder.mean)
        head = autoencoder.log_variance if with_variance else None
        self.log_variance = None if head is None else _seal_conv(head)

    def forward(self, images_nchw: Tensor) -> Latent:
        """(N, C, H, W) float32 in -1..1 to the mean, and the log-variance where it is asked for."""
        maps = self.stages(images_nchw)
        return Latent(self.mean(maps), self.log_variance(maps) if self.log_variance else None)


def check_score_of(arch: str, score: Score) -> None:
    """Refuse a score that no such network can give, before any image is read.

    Raises:
        ExperimentError: "elbo" of a CAE.
    """
    if score == "elbo" and arch == "cae":
        raise ExperimentError(
            "train.anomaly.score: a CAE has no distribution of latents, so no ELBO; take recon or "
            "gradcon, or --arch vae or beta_vae"
        )


def check_score(autoencoder: Autoencoder, score: Score) -> None:
    """Refuse a score that this network cannot give.

    Raises:
        ExperimentError: "elbo" of a CAE, or "gradcon" before any step of training.
    """
    check_score_of(autoencoder.arch, score)
    if score == "gradcon" and not autoencoder.training_gradients.gathered:
        raise ExperimentError(
            "train.anomaly.score: gradcon compares with the gradients of training, and there has "
            "been none; train first, or take recon"
        )


@torch.no_grad()
def read_autoencoder(
    autoencoder: Autoencoder, images_nhwc: Tensor, *, gamma: float, reduction: Reduction
) -> Reading:
    """Every score of images that this network can give, computed as the exported graph does.

    Args:
        autoencoder: that has learnt, on the CPU.
        images_nhwc: (N, H, W, C) uint8, N at least 1.
        gamma: as of `AutoencoderDetector`.
        reduction: likewise.
    """
    detectors: dict[str, AutoencoderDetector] = {
        score: AutoencoderDetector(autoencoder, score=score, gamma=gamma, reduction=reduction)
        for score in SCORES
        if _can_give(autoencoder, score)
    }
    parts = torch.split(images_nhwc, _READ_AT_ONCE)
    scores = {
        name: torch.cat([detector(part)[SCORE] for part in parts])
        for name, detector in detectors.items()
    }
    encoder, decoder = detectors["recon"].encoder, detectors["recon"].decoder
    means = [encoder(scale_pixels(part)).mean for part in parts]
    shown = torch.cat([decoder(codes).reconstructions_nchw for codes in means])
    return Reading(
        scores=scores,
        reconstructions_nhwc=unscale_pixels(shown),
        latent_means=torch.cat(means).flatten(1),
    )


def _can_give(autoencoder: Autoencoder, score: Score) -> bool:
    try:
        check_score(autoencoder, score)
    except ExperimentError:
        return False
    return True


def _seal_layer(layer: EncoderLayer) -> nn.Sequential:
    sealed = nn.Sequential(
        fold_norm(layer.conv.weight, layer.conv.bias, layer.norm), nn.LeakyReLU(SLOPE)
    )
    if layer.halves:
        sealed.append(nn.MaxPool2d(2))
    return sealed


def _seal_conv(conv: nn.Conv2d) -> nn.Conv2d:
    return fold_norm(conv.weight, conv.bias, None)
