"""One learner on one data set: what both verbs do between reading and reporting."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lineside_trainer.data import Augmentation
from lineside_trainer.errors import DataError
from lineside_trainer.experiment import FitSettings, RunSettings
from lineside_trainer.learning.device import choose_device
from lineside_trainer.learning.fit import FitResult, fit
from lineside_trainer.learning.learner import Learner
from lineside_trainer.learning.loop import FitData
from lineside_trainer.learning.processes import this_place
from lineside_trainer.learning.progress import Progress, tell_unused
from lineside_trainer.prepared import IntArray, Prepared


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What is learnt from, and how.

    Attributes:
        title: for the progress bar.
        training: rows of the table that steps learn from.
        judging: rows that choose the epoch.
        settings: of the fit.
        augment: what training images go through.
        notes: what a reader must know of this choice, for the report.
        taught: rows besides, from which steps learn by what a teacher says of them alone.

    Raises:
        DataError: fewer images than a batch.
    """

    title: str
    training: IntArray
    judging: IntArray
    settings: FitSettings
    augment: Augmentation
    notes: tuple[str, ...] = ()
    taught: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        images, batch = len(np.union1d(self.training, self.taught)), self.settings.batch_size
        if images < batch:
            raise DataError(
                f"{self.title}: {images} images to learn from are fewer than a batch of {batch} "
                f"(fit.batch_size); give --batch-size {images} or less (a smaller one makes more "
                "steps an epoch), or bring more images"
            )


def learn(
    learner: Learner,
    prepared: Prepared,
    lesson: Lesson,
    *,
    run: RunSettings,
    folder: Path,
    resume: bool,
) -> FitResult:
    """Fit on these rows; see `fit.fit` for what stays in the folder and what may go wrong."""
    if this_place().is_first:
        tell_unused(prepared.unused)
    data = prepared.batches(
        lesson.training,
        lesson.judging,
        taught=lesson.taught,
        settings=lesson.settings,
        seed=run.seed,
        device=choose_device(run),
    )
    return learn_from(learner, data, lesson, run=run, folder=folder, resume=resume)


def learn_from(
    learner: Learner,
    data: FitData,
    lesson: Lesson,
    *,
    run: RunSettings,
    folder: Path,
    resume: bool,
) -> FitResult:
    """`learn`, from batches that someone else made."""
    settings = lesson.settings
    with Progress(lesson.title, settings.epochs, shown=this_place().is_first) as progress:
        return fit(
            learner,
            data,
            settings=settings,
            augment=lesson.augment,
            run=run,
            folder=folder,
            resume=resume,
            progress=progress,
        )
