"""Regression (Röhrich et al., sec. 5.3): one value an image, squared error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.contract import HeadSpec, InputSpec, OutputSpec, RegressionHead
from lineside.metrics import squared_errors, weighted_mean
from lineside_trainer.errors import DataError, ExperimentError
from lineside_trainer.evaluate import Picture, Yardstick
from lineside_trainer.evaluate.figures import draw_predictions, draw_residuals
from lineside_trainer.experiment import Experiment, TrainSettings
from lineside_trainer.models import Backbone, Normalise, build_backbone
from lineside_trainer.models.regressor import Regressor
from lineside_trainer.runs.predictions import Said
from lineside_trainer.tasks.task import FloatArray, Task

OUTPUT = "value"


class RegressionTask(Task):
    """Learns `train.target`, standardised by the training fold.

    Args:
        experiment: `model` and `train` count here.
        model_input: image size and channels.
        normalise: of the training fold.
        targets: (N,) float64 of the training fold, in the target's unit.

    Raises:
        DataError: the target never changes: there is nothing to learn.
    """

    labels = "number"
    judged_by = "MSE"

    def __init__(
        self,
        experiment: Experiment,
        model_input: InputSpec,
        normalise: Normalise,
        targets: NDArray[np.float64],
        classes: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        assert not classes, "numbers are read as numbers"
        settings = experiment.train
        std = float(targets.std())
        if std == 0.0:
            raise DataError(
                f"train.target: {settings.target!r} is {targets[0]:g} in all {len(targets)} "
                "training images; there is nothing to learn"
            )
        backbone = build_backbone(
            experiment.model,
            model_input,
            pool=settings.pool,
            drop_path=settings.drop_path,
            patch_drop=settings.patch_drop,
        )
        self.net = Regressor(
            normalise,
            backbone,
            head_width=settings.head_width,
            target_mean=float(targets.mean()),
            target_std=std,
        )
        self._settings = settings
        self._mean = float(targets.mean())

    @classmethod
    def check_settings(cls, settings: TrainSettings) -> None:
        """Refuse what belongs to classes.

        Raises:
            ExperimentError: good classes are named.
        """
        if settings.good:
            raise ExperimentError(
                "train.good: a regression knows no classes: take --task classification, or leave "
                "it away and give --limit"
            )

    @property
    def network(self) -> nn.Module:
        return self.net

    @property
    def backbone(self) -> Backbone:
        return self.net.backbone

    def loss(
        self,
        images_nhwc: Tensor,
        targets: Tensor,
        generator: torch.Generator,  # noqa: ARG002
    ) -> Tensor:
        """Squared error of the standardised target: 1 is what the mean predictor gets."""
        return self.raw_loss(self.net.raw(images_nhwc), targets)

    def raw_loss(self, raw: Tensor, targets: Tensor) -> Tensor:
        wanted = (targets - self.net.target_mean) / self.net.target_std
        return (raw[:, 0] - wanted).square().mean()

    def judge(
        self,
        images_nhwc: Tensor,
        targets: Tensor,
        generator: torch.Generator,  # noqa: ARG002
    ) -> Tensor:
        """(N,) squared errors in the target's unit squared."""
        values: Tensor = self.net(images_nhwc)
        return (values - targets).square()

    def layers(self) -> Sequence[Sequence[nn.Parameter]]:
        return self.net.layers()

    def outputs(self) -> tuple[OutputSpec, ...]:
        return (OutputSpec(name=OUTPUT, unit=self._settings.unit),)

    def head(self) -> HeadSpec:
        return RegressionHead(output=OUTPUT, target=self._settings.target)

    def yardstick(self, targets: FloatArray, outputs: FloatArray) -> Yardstick:
        """MSE in the unit squared and MAE, beside those of always saying the training mean."""
        always_mean = np.full_like(targets, self._mean)
        return Yardstick(
            metric="mse",
            lower_is_better=True,
            ours={
                "mse": weighted_mean(squared_errors(targets, outputs)),
                "mae": weighted_mean(np.abs(targets - outputs)),
            },
            trivial={
                "mse": weighted_mean(squared_errors(targets, always_mean)),
                "mae": weighted_mean(np.abs(targets - always_mean)),
            },
            baseline_name="mean predictor",
        )

    def say(self, target: float, output: FloatArray) -> Said:
        return Said(target=repr(float(target)), predicted=repr(float(output)))

    def draw(self, folder: Path, targets: FloatArray, outputs: FloatArray) -> tuple[Picture, ...]:
        unit = self._settings.unit
        name = self._settings.target + ("" if unit == "1" else f" [{unit}]")
        predictions, residuals = folder / "predictions.png", folder / "residuals.png"
        draw_predictions(predictions, targets, outputs, name=name)
        draw_residuals(residuals, targets, outputs, name=name)
        return (
            Picture(file=predictions, caption="Predicted against true on the test samples."),
            Picture(file=residuals, caption="Residuals on the test samples."),
        )
