"""Masked autoencoding as the loop sees it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lineside.contract import InputSpec
from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import Experiment
from lineside_trainer.models import Normalise, build_backbone
from lineside_trainer.models.vit import SHAPES, VitBackbone, unpatchify
from lineside_trainer.pretrain.mae import (
    Decoder,
    MaskedAutoencoder,
    draw_mask,
    masked_mse,
    normalise_patches,
    removed_count,
)
from lineside_trainer.pretrain.method import Method


class MaeLearner(Method):
    """The paper's method. Its settings are `pretrain.mae`.

    Raises:
        ExperimentError: a network that is no ViT, a mask that hides nothing or everything, a
            decoder that cannot be.
    """

    judged_by = "masked MSE"
    judged_in_words = "reconstruction error (masked MSE, 1 = variance of the pixels)"
    examples_in_words = "masked and reconstructed"

    def __init__(
        self, experiment: Experiment, model_input: InputSpec, normalise: Normalise
    ) -> None:
        super().__init__(experiment, model_input, normalise)
        settings = experiment.pretrain.mae
        backbone = build_backbone(experiment.model, model_input)
        if not isinstance(backbone, VitBackbone):
            raise ExperimentError(
                f"model.arch: {experiment.model.arch!r} has no patches to leave out: a masked "
                f"autoencoder needs one of {', '.join(SHAPES)}"
            )
        removed_count(backbone.grid.count, settings.mask_ratio)
        decoder = Decoder(
            depth=settings.decoder_depth,
            width=settings.decoder_width,
            heads=settings.decoder_heads,
        )
        self.net = MaskedAutoencoder(backbone, decoder)
        self.mask_ratio = settings.mask_ratio
        self.normalise_patches = settings.normalise_patches

    @property
    def backbone(self) -> VitBackbone:
        """What tuning starts from."""
        return self.net.backbone

    def loss(
        self,
        images_nhwc: Tensor,
        targets: Tensor,  # noqa: ARG002
        generator: torch.Generator,
    ) -> Tensor:
        images_nchw = self.normalise(images_nhwc)
        removed = self._mask(images_nchw, generator)
        return masked_mse(self._target(images_nchw), self.net(images_nchw, removed), removed)

    def judge(
        self,
        images_nhwc: Tensor,
        targets: Tensor,  # noqa: ARG002
        generator: torch.Generator,
    ) -> Tensor:
        """(N,) reconstruction error of each image's hidden patches."""
        images_nchw = self.normalise(images_nhwc)
        removed = self._mask(images_nchw, generator)
        prediction: Tensor = self.net(images_nchw, removed)
        errors = (prediction - self._target(images_nchw)).square().mean(dim=2)
        return (errors * removed).sum(dim=1) / removed.sum(dim=1)

    def layers(self) -> Sequence[Sequence[nn.Parameter]]:
        inside = self.backbone.layers()
        known = {id(parameter) for layer in inside for parameter in layer}
        return [*inside, [p for p in self.net.parameters() if id(p) not in known]]

    def examples(self, images_nhwc: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Original, masked (hidden patches gray) and completed images."""
        grid = self.backbone.grid
        images_nchw = self.normalise(images_nhwc)
        removed = self._mask(images_nchw, generator)
        patches = self.net.patches(images_nchw)
        prediction = self.net(images_nchw, removed)
        if self.normalise_patches:
            # Mean and std of the hidden patch were never told: the true ones make it comparable.
            std = (patches.var(dim=-1, keepdim=True) + 1e-6).sqrt()
            prediction = prediction * std + patches.mean(dim=-1, keepdim=True)
        hidden = removed[:, :, None]
        shown = (patches, patches * ~hidden, torch.where(hidden, prediction, patches))
        captions = ("original", "masked", "reconstructed")
        pictures = (self.normalise.undo(unpatchify(patches, grid)) for patches in shown)
        return dict(zip(captions, pictures, strict=True))

    def _mask(self, images_nchw: Tensor, generator: torch.Generator) -> Tensor:
        count = self.backbone.grid.count
        return draw_mask(len(images_nchw), count, self.mask_ratio, generator).to(images_nchw.device)

    def _target(self, images_nchw: Tensor) -> Tensor:
        patches = self.net.patches(images_nchw)
        return normalise_patches(patches) if self.normalise_patches else patches
