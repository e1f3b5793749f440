"""`lineside pretrain`, without its command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from lineside_trainer.ancestry.initial import (
    InitialWeights,
    find_initial,
    load_backbone,
    save_backbone,
    seen_images,
)
from lineside_trainer.conduct import conduct
from lineside_trainer.data import write_split
from lineside_trainer.experiment import Experiment
from lineside_trainer.learning.fit import FitResult
from lineside_trainer.learning.lesson import Lesson, learn
from lineside_trainer.learning.processes import this_place
from lineside_trainer.prepared import Prepared, prepare_data
from lineside_trainer.pretrain import Method, build_method, check_method
from lineside_trainer.runs.results import PretrainResult
from lineside_trainer.runs.runfolder import RESULT, SPLIT, write_document
from lineside_trainer.runs.summary import summarise
from lineside_trainer.telling.pretraining_report import report_pretraining

_TRANSDUCTIVE = "TRANSDUCTIVE: pre-training saw every image, also those that runs are judged on"


def pretrain(experiment: Experiment, out: Path, *, resume: bool) -> PretrainResult:
    """Pre-train on the training fold and write the run's folder.

    Args:
        experiment: `data`, `model`, `pretrain` and `run` count.
        out: the run's folder.
        resume: go on where it stopped; a finished run is left as it is.

    Raises:
        ExperimentError: settings that cannot be, or a folder that is in use.
        DataError: images that cannot be used.
        TrainerError: it went wrong on the way.
        StorageError: the disk is full, read-only or gone.
    """
    return conduct(
        "pretrain",
        experiment,
        out,
        resume=resume,
        kind=PretrainResult,
        work=lambda: _pretrain(experiment, out, resume=resume),
    )


def _pretrain(experiment: Experiment, out: Path, *, resume: bool) -> PretrainResult:
    initial = find_initial(experiment, "pretrain")
    check_method(experiment)
    prepared = prepare_data(experiment, target=None, folder=out)
    if this_place().is_first:
        write_split(out / SPLIT, prepared.split, prepared.table)
    lesson = plan_lesson(experiment, prepared)
    torch.manual_seed(experiment.run.seed)
    learner = build_method(experiment, prepared.input, prepared.normalise())
    learner.check_images(len(lesson.training), len(lesson.judging))
    notes = load_backbone(learner.backbone, initial) if initial else ()
    fitted = learn(learner, prepared, lesson, run=experiment.run, folder=out, resume=resume)
    rows = np.union1d(lesson.training, lesson.judging)
    transductive = experiment.pretrain.transductive
    seen = seen_images(prepared, rows, initial, transductive=transductive)
    save_backbone(out, learner.backbone, seen)
    result = _result(experiment, prepared, learner, fitted, lesson, initial, notes)
    report_pretraining(out, experiment, result, prepared, learner, fitted)
    write_document(out / RESULT, result)
    return result


def plan_lesson(experiment: Experiment, prepared: Prepared) -> Lesson:
    """Training and judging rows are both of the training fold: its quantisation samples, which no
    step learns from, choose the epoch, so that validation images stay unseen. Assurance images are
    seen by nobody, not even where all others are: a promise would be worth nothing."""
    settings, split = experiment.pretrain, prepared.split
    everything = np.setdiff1d(np.arange(len(prepared.table)), split.indices["assurance"])
    return Lesson(
        title=f"pre-training ({settings.method})",
        training=everything if settings.transductive else split.indices["training"],
        judging=split.indices["quantisation"],
        settings=settings.fit,
        augment=settings.augment,
    )


def _result(
    experiment: Experiment,
    prepared: Prepared,
    learner: Method,
    fitted: FitResult,
    lesson: Lesson,
    initial: InitialWeights | None,
    notes: tuple[str, ...],
) -> PretrainResult:
    settings = experiment.pretrain
    return PretrainResult(
        method=settings.method,
        arch=experiment.model.arch,
        judged_by=learner.judged_by,
        init=settings.init,
        weights=initial.weights_file if initial else "",
        weights_sha256=initial.sha256 if initial else "",
        run=summarise(
            prepared,
            learner.layers(),
            fitted,
            experiment=experiment,
            settings=settings.fit,
            counts={"pre-training": len(lesson.training), "judging": len(lesson.judging)},
            notes=(*((_TRANSDUCTIVE,) if settings.transductive else ()), *notes),
            transductive=settings.transductive or (initial is not None and initial.transductive),
        ),
    )
