"""Siamese learning as the loop sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from lineside.contract import InputSpec
from lineside_trainer.data.views import draw_views, make_view
from lineside_trainer.errors import DataError, ExperimentError, TrainerError
from lineside_trainer.experiment import Experiment
from lineside_trainer.models import Backbone, Normalise, build_backbone
from lineside_trainer.pretrain.method import Method
from lineside_trainer.pretrain.simsiam import (
    LEAST_JUDGED,
    DispersionMeter,
    SiameseNet,
    siamese_loss,
)
from lineside_trainer.runs.logbook import Row

EMBEDDING_STD: Final = "embedding_std"
EMBEDDING_RANK: Final = "embedding_rank"
LEAST_BATCH: Final = 8
"""Batch norm over fewer images says more of the neighbours than of the image."""
SETTLED_STEPS: Final = 50
"""Before, batch norm's running figures are still those of an untrained network: 0.9^50 is 0.5 %."""


class SimSiamLearner(Method):
    """The method for convolutional networks. Its settings are `pretrain.simsiam`.

    The last epoch is kept: the loss says how alike two views of an image are, not how well images
    are told apart, and is lowest where nothing is learnt.

    Differs from the original: AdamW instead of SGD, and the predictor's learning rate falls like
    all others' (67.7 against 68.1 % there, table 1).

    Raises:
        ExperimentError: a network that cannot be, or a batch too small for batch norm.
    """

    keeps_last = True
    judged_by = "negative cosine"
    judged_in_words = "negative cosine of two views (-1 = same direction)"
    examples_in_words = "two views"

    def __init__(
        self, experiment: Experiment, model_input: InputSpec, normalise: Normalise
    ) -> None:
        super().__init__(experiment, model_input, normalise)
        settings = experiment.pretrain.simsiam
        if experiment.pretrain.fit.batch_size < LEAST_BATCH:
            raise ExperimentError(
                f"pretrain.fit.batch_size: {experiment.pretrain.fit.batch_size} images are too few "
                f"for the batch norm of simsiam; take --batch-size {LEAST_BATCH} at least, "
                "better 64"
            )
        backbone = build_backbone(experiment.model, model_input)
        width = settings.width or backbone.width
        bottleneck = settings.bottleneck or max(1, width // 4)
        self.net = SiameseNet(backbone, width=width, bottleneck=bottleneck)
        self.settings = settings
        self.healthy_std = width**-0.5
        self._meter = DispersionMeter()

    @property
    def backbone(self) -> Backbone:
        """What tuning starts from."""
        return self.net.backbone

    @property
    def healthy(self) -> dict[str, float]:
        return {EMBEDDING_STD: self.healthy_std}

    def check_images(self, training: int, judging: int) -> None:
        if training < LEAST_BATCH or judging < LEAST_JUDGED:
            raise DataError(
                f"{training} images to learn from and {judging} to judge by are too few for "
                f"simsiam: its batch norm needs {LEAST_BATCH} in a step, and {LEAST_JUDGED} others "
                "must show whether images are still told apart; add images, or take mae"
            )

    def loss(
        self,
        images_nhwc: Tensor,
        targets: Tensor,  # noqa: ARG002
        generator: torch.Generator,
    ) -> Tensor:
        one, other = (self.net(view) for view in self._views(images_nhwc, generator))
        return siamese_loss(one, other).mean()

    def judge(
        self,
        images_nhwc: Tensor,
        targets: Tensor,  # noqa: ARG002
        generator: torch.Generator,
    ) -> Tensor:
        """(N,) negative cosine of each image's two views."""
        one, other = (self.net(view) for view in self._views(images_nhwc, generator))
        self._meter.add(one[0])
        return siamese_loss(one, other)

    def layers(self) -> Sequence[Sequence[nn.Parameter]]:
        last = [*self.net.projector.parameters(), *self.net.predictor.parameters()]
        return [*self.backbone.layers(), last]

    def vitals(self) -> dict[str, float]:
        """How the judging images' embeddings are spread, see `simsiam.Dispersion`."""
        spread = self._meter.take()
        return {} if spread is None else {EMBEDDING_STD: spread.std, EMBEDDING_RANK: spread.rank}

    def heed(self, rows: Sequence[Row]) -> None:
        """Stop where the images' embeddings have lain together for some epochs.

        Raises:
            TrainerError: the network has collapsed.
        """
        patience = self.settings.collapse_epochs
        limit = self.settings.collapse_below * self.healthy_std
        settled = [row for row in rows[-patience:] if row.step >= SETTLED_STEPS]
        last = [row.vitals.get(EMBEDDING_STD, self.healthy_std) for row in settled]
        if len(last) < patience or max(last) >= limit:
            return
        raise TrainerError(
            f"simsiam has collapsed: different images get much the same embedding ({EMBEDDING_STD} "
            f"{last[-1]:.2g} after epoch {rows[-1].epoch + 1}, below {limit:.2g} for {patience} "
            f"epochs; healthy is about {self.healthy_std:.2g}). Lower --lr or raise "
            "pretrain.fit.warmup_share, take a larger --batch-size, or stronger "
            "pretrain.simsiam.views; then begin a new run. Where the images are indeed all alike, "
            "pretrain.simsiam.collapse_below = 0 looks away"
        )

    def examples(self, images_nhwc: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Images and two views of each."""
        one, other = self._pixels(images_nhwc, generator)
        return {"original": images_nhwc.float(), "a view": one, "another": other}

    def _views(self, images_nhwc: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        one, other = self._pixels(images_nhwc, generator)
        return self.normalise(one), self.normalise(other)

    def _pixels(self, images_nhwc: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        draws = draw_views(len(images_nhwc), generator)
        views = self.settings.views
        return (
            make_view(images_nhwc, views, draws[0]),
            make_view(images_nhwc, views, draws[1]),
        )
