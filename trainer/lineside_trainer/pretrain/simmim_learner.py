"""Simple masked image modelling as the loop sees it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lineside.contract import InputSpec
from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import Experiment
from lineside_trainer.models import Backbone, Normalise, build_backbone
from lineside_trainer.pretrain.masks import draw_hidden
from lineside_trainer.pretrain.method import Method
from lineside_trainer.pretrain.simmim import (
    MaskedImageModel,
    choose_mask_patch_px,
    enlarge,
    has_tokens,
    hidden_count,
    masked_l1,
)


class SimMimLearner(Method):
    """The method for networks with stages. Its settings are `pretrain.simmim`.

    Raises:
        ExperimentError: a network without patches, a mask that hides nothing or everything, or that
            fits neither image nor network.
    """

    judged_by = "masked L1"
    judged_in_words = "reconstruction error (masked L1, in standard deviations of the pixels)"
    examples_in_words = "masked and reconstructed"

    def __init__(
        self, experiment: Experiment, model_input: InputSpec, normalise: Normalise
    ) -> None:
        super().__init__(experiment, model_input, normalise)
        settings, size_hw = experiment.pretrain.simmim, model_input.size_hw
        backbone = build_backbone(experiment.model, model_input)
        if not has_tokens(backbone):
            raise ExperimentError(
                f"model.arch: {experiment.model.arch!r} has no patches to hide: simmim needs "
                "vit_tiny, vit_small, vit_base, swin_tiny, swin_base or another Swin of timm's"
            )
        self.net = MaskedImageModel(backbone, size_hw, model_input.channels)
        unit_px = self.net.token_px
        self.mask_patch_px = choose_mask_patch_px(size_hw, unit_px, settings.mask_patch_px)
        self._rows_cols = (size_hw[0] // self.mask_patch_px, size_hw[1] // self.mask_patch_px)
        self._hidden = hidden_count(self._rows_cols[0] * self._rows_cols[1], settings.mask_ratio)

    @property
    def backbone(self) -> Backbone:
        """What tuning starts from."""
        return self.net.backbone

    def loss(
        self,
        images_nhwc: Tensor,
        targets: Tensor,  # noqa: ARG002
        generator: torch.Generator,
    ) -> Tensor:
        images_nchw = self.normalise(images_nhwc)
        hidden = self._mask(images_nchw, generator)
        return masked_l1(images_nchw, self._predict(images_nchw, hidden), self._pixels_of(hidden))

    def judge(
        self,
        images_nhwc: Tensor,
        targets: Tensor,  # noqa: ARG002
        generator: torch.Generator,
    ) -> Tensor:
        """(N,) mean absolute error of each image's hidden pixels."""
        images_nchw = self.normalise(images_nhwc)
        hidden = self._mask(images_nchw, generator)
        errors = (self._predict(images_nchw, hidden) - images_nchw).abs().mean(dim=1)
        pixels = self._pixels_of(hidden)
        figures: Tensor = (errors * pixels).sum(dim=(1, 2)) / pixels.sum(dim=(1, 2))
        return figures

    def layers(self) -> Sequence[Sequence[nn.Parameter]]:
        last = [self.net.mask_token, *self.net.to_pixels.parameters()]
        return [*self.backbone.layers(), last]

    def examples(self, images_nhwc: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Original, masked (hidden pixels gray) and completed images."""
        images_nchw = self.normalise(images_nhwc)
        hidden = self._mask(images_nchw, generator)
        places = self._pixels_of(hidden)[:, None]
        completed = torch.where(places, self._predict(images_nchw, hidden), images_nchw)
        return {
            "original": self.normalise.undo(images_nchw),
            "masked": self.normalise.undo(images_nchw * ~places),
            "reconstructed": self.normalise.undo(completed),
        }

    def _mask(self, images_nchw: Tensor, generator: torch.Generator) -> Tensor:
        """(N, rows, cols) bool over mask patches."""
        rows, cols = self._rows_cols
        drawn = draw_hidden(len(images_nchw), rows * cols, self._hidden, generator)
        return drawn.reshape(-1, rows, cols).to(images_nchw.device)

    def _predict(self, images_nchw: Tensor, hidden: Tensor) -> Tensor:
        prediction: Tensor = self.net(
            images_nchw, enlarge(hidden, self.mask_patch_px // self.net.token_px)
        )
        return prediction

    def _pixels_of(self, hidden: Tensor) -> Tensor:
        """(N, H, W) bool over pixels."""
        return enlarge(hidden, self.mask_patch_px)
