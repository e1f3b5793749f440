"""An autoencoder that has learnt to reconstruct good parts (Ulger et al.)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from lineside_trainer.ancestry.initial import InitialWeights
from lineside_trainer.anomaly.built import Built
from lineside_trainer.anomaly.goodness import Goodness
from lineside_trainer.anomaly.learnt import take_over
from lineside_trainer.anomaly.seen import Shown
from lineside_trainer.evaluate import Picture
from lineside_trainer.evaluate.anomaly_pictures import (
    Reconstructed,
    choose_typical,
    draw_reconstructions,
)
from lineside_trainer.evaluate.latents import draw_latents
from lineside_trainer.experiment import AnomalySettings, Experiment
from lineside_trainer.learning.fit import FitResult
from lineside_trainer.learning.lesson import Lesson, learn
from lineside_trainer.models.autoencoder import Autoencoder
from lineside_trainer.models.autoencoder_detector import (
    AutoencoderDetector,
    Reading,
    read_autoencoder,
)
from lineside_trainer.prepared import Prepared
from lineside_trainer.tasks.autoencoding import AutoencoderLearner


class BuiltAutoencoder(Built):
    """Three scores of one network; the exported one is chosen beforehand.

    Args:
        learner: that has learnt.
        fitted: how.
        settings: which score, and how it is reduced.
    """

    def __init__(
        self, learner: AutoencoderLearner, fitted: FitResult, settings: AnomalySettings
    ) -> None:
        self.layers, self.fitted, self.chosen = learner.layers(), fitted, settings.score
        self.judged_by = "negative ELBO" if learner.autoencoder.variational else "squared error"
        self._autoencoder, self._settings = learner.autoencoder, settings
        self.detector = AutoencoderDetector(
            learner.autoencoder,
            score=settings.score,
            gamma=settings.gamma,
            reduction=settings.reduction,
        ).eval()
        self.notes = (
            f"squared errors and divergences are a {settings.reduction} over pixels and latents: "
            "that fixes what beta means (docs/anomalies.md)",
        )

    def other_scores(self, images_nhwc: Tensor) -> dict[str, Tensor]:
        return self._read(images_nhwc).scores

    def draw(self, folder: Path, shown: Shown) -> tuple[Picture, ...]:
        return tuple(self._draw(folder, shown))

    def _draw(self, folder: Path, shown: Shown) -> Iterator[Picture]:
        rows = torch.from_numpy(shown.test.rows)
        reading = self._read(shown.prepared.store.rows(rows))
        examples = [
            Reconstructed(
                scored=shown.scored(place),
                reconstruction_hwc=reading.reconstructions_nhwc[place].numpy(),
            )
            for place in choose_typical(shown.test.bad, shown.chosen)
        ]
        file = folder / "reconstructions.png"
        draw_reconstructions(file, examples, limit=shown.limit, score=self.chosen)
        yield Picture(
            file=file,
            caption="Test images and their reconstructions, good and bad ones from the lowest to "
            "the highest score (as Ulger et al., fig. 4).",
        )
        latents = reading.latent_means.double().numpy()
        told = draw_latents(
            folder / "latents.png", latents, shown.test.bad, runs=self._settings.tsne_runs
        )
        self.notes += told.notes
        yield from told.pictures

    def _read(self, images_nhwc: Tensor) -> Reading:
        settings = self._settings
        return read_autoencoder(
            self._autoencoder, images_nhwc, gamma=settings.gamma, reduction=settings.reduction
        )


def learn_to_reconstruct(
    experiment: Experiment,
    prepared: Prepared,
    goodness: Goodness,
    initial: InitialWeights | None,
    out: Path,
    *,
    resume: bool,
) -> Built:
    """Train on good images alone; good validation images choose the epoch.

    Raises:
        ExperimentError: an earlier run that learnt from other images, or another network.
        DataError: fewer images than a batch.
        TrainerError: it went wrong on the way.
        StorageError: the disk is full, read-only or gone.
    """
    assert initial is None, "checked with the settings"
    settings, arch = experiment.train, experiment.model.arch
    torch.manual_seed(experiment.run.seed)
    model_input = prepared.input
    autoencoder = Autoencoder(arch, size_hw=model_input.size_hw, channels=model_input.channels)
    learner = AutoencoderLearner(autoencoder, settings.anomaly)
    lesson = Lesson(
        title=f"good parts ({arch})",
        training=goodness.good_rows(prepared.split.indices["training"]),
        judging=goodness.good_rows(prepared.split.indices["validation"]),
        settings=settings.fit,
        augment=settings.augment,
    )
    fitted = (
        take_over(learner, Path(settings.anomaly.run), prepared)
        if settings.anomaly.run
        else learn(learner, prepared, lesson, run=experiment.run, folder=out, resume=resume)
    )
    learner.eval()
    return BuiltAutoencoder(learner, fitted, settings.anomaly)
