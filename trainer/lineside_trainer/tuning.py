"""`lineside train`, without its command line."""

from __future__ import annotations

from pathlib import Path

import torch

from lineside.contract import Contract, LimitRule
from lineside_trainer.candidate import write_candidate
from lineside_trainer.data import write_split
from lineside_trainer.errors import ExperimentError
from lineside_trainer.evaluate.judgement import judge, predict
from lineside_trainer.experiment import Experiment, TrainSettings
from lineside_trainer.fit import FitResult
from lineside_trainer.initial import InitialWeights, check_unseen, load_backbone, read_initial
from lineside_trainer.learning import Lesson, learn
from lineside_trainer.prepared import Prepared, prepare_data
from lineside_trainer.results import TrainResult
from lineside_trainer.runfolder import (
    CANDIDATE,
    RESULT,
    SPLIT,
    claimed_run,
    read_document,
    write_document,
)
from lineside_trainer.summary import summarise
from lineside_trainer.tasks import Task, build_task
from lineside_trainer.tuning_report import Tested, report_tuning


def train(experiment: Experiment, out: Path, *, resume: bool) -> TrainResult:
    """Tune, test, and write the run's folder with its candidate.

    Args:
        experiment: `data`, `model`, `train` and `run` count.
        out: the run's folder.
        resume: go on where it stopped; a finished run is left as it is.

    Raises:
        ExperimentError: settings that cannot be, or a folder that is in use.
        DataError: images or targets that cannot be used.
        TrainerError: it went wrong on the way.
        StorageError: the disk is full, read-only or gone.
    """
    if not experiment.train.target:
        raise ExperimentError("train.target: nothing to learn is named; give --target COLUMN")
    with claimed_run(out, experiment, resume=resume):
        if (out / RESULT).exists():
            return read_document(out / RESULT, TrainResult)
        return _train(experiment, out, resume=resume)


def _train(experiment: Experiment, out: Path, *, resume: bool) -> TrainResult:
    settings = experiment.train
    initial = read_initial(Path(settings.init)) if settings.init else None
    prepared = prepare_data(experiment, target=settings.target, folder=out)
    write_split(out / SPLIT, prepared.split, prepared.table)
    notes = check_unseen(prepared, initial) if initial else ()
    lesson = _lesson(settings, prepared)
    learner = _learner(experiment, prepared, lesson, initial)
    contract = make_contract(experiment, prepared, learner)
    fitted = learn(learner, prepared, lesson, run=experiment.run, folder=out, resume=resume)
    tested = _test(prepared, learner)
    result = _result(experiment, prepared, learner, fitted, tested, initial, notes)
    check = write_candidate(
        out / CANDIDATE, learner.network, contract, prepared, _provenance(result)
    )
    report_tuning(out, experiment, result, fitted, tested, check)
    write_document(out / RESULT, result)
    return result


def make_contract(experiment: Experiment, prepared: Prepared, learner: Task) -> Contract:
    """What the candidate promises."""
    settings = experiment.train
    return Contract(
        product=settings.product or Path(experiment.data.folder).resolve().name,
        frame=prepared.table.frame,
        input=prepared.input,
        outputs=learner.outputs(),
        head=learner.head(),
        proposed_rule=_rule(settings),
    )


def _rule(settings: TrainSettings) -> LimitRule | None:
    if settings.limit is None:
        return None
    return LimitRule(
        ok_limit=settings.limit,
        not_ok_limit=settings.limit,
        worse=settings.worse,
        unit=settings.unit,
    )


def _lesson(settings: TrainSettings, prepared: Prepared) -> Lesson:
    prepared.labelled("test")  # found missing now, and not after hours of training
    return Lesson(
        title=f"tuning ({settings.task})",
        training=prepared.labelled("training"),
        judging=prepared.labelled("validation"),
        settings=settings.fit,
        augment=settings.augment,
    )


def _learner(
    experiment: Experiment, prepared: Prepared, lesson: Lesson, initial: InitialWeights | None
) -> Task:
    torch.manual_seed(experiment.run.seed)
    targets = prepared.table.targets[lesson.training]
    learner = build_task(experiment, prepared.input, prepared.normalise(), targets)
    if initial:
        load_backbone(learner.backbone, initial)
    return learner


def _test(prepared: Prepared, learner: Task) -> Tested:
    rows = prepared.labelled("test")
    targets = prepared.table.targets[rows]
    predicted = predict(learner.network, prepared.store.rows(torch.from_numpy(rows)))
    mean = float(prepared.table.targets[prepared.labelled("training")].mean())
    judgement = judge(targets, predicted, prepared.table.parts[rows], mean=mean)
    return Tested(targets=targets, predicted=predicted, mean=mean, judgement=judgement)


def _result(
    experiment: Experiment,
    prepared: Prepared,
    learner: Task,
    fitted: FitResult,
    tested: Tested,
    initial: InitialWeights | None,
    notes: tuple[str, ...],
) -> TrainResult:
    settings, judgement = experiment.train, tested.judgement
    counts = {name: len(prepared.split.indices[name]) for name in ("quantisation", "golden")}
    labelled = ("training", "validation", "test")
    counts |= {name: len(prepared.labelled(name)) for name in labelled}
    run = summarise(
        prepared,
        learner,
        fitted,
        experiment=experiment,
        settings=settings.fit,
        counts=counts,
        notes=(*notes, *judgement.notes),
        transductive=initial is not None and initial.seen.transductive,
    )
    return TrainResult(
        task=settings.task,
        arch=experiment.model.arch,
        target=settings.target,
        unit=settings.unit,
        test_mse=judgement.mse,
        mean_predictor_mse=judgement.baseline,
        mean_predictor=tested.mean,
        below_mean_predictor=judgement.below,
        test_mse_by_part=judgement.by_part,
        unlabelled=len(prepared.table.unlabelled),
        init=settings.init,
        candidate=CANDIDATE,
        run=run,
    )


def _provenance(result: TrainResult) -> dict[str, str]:
    run = result.run
    return {
        "task": result.task,
        "arch": result.arch,
        "target": result.target,
        "data_sha256": run.data_sha256,
        "seed": str(run.seed),
        "split_seed": str(run.split_seed),
        "epochs": str(run.epochs),
        "transductive": str(run.transductive).lower(),
        "test_mse": f"{result.test_mse.value:.6g}",
        "mean_predictor_mse": f"{result.mean_predictor_mse.value:.6g}",
        **{f"version_{name}": version for name, version in run.versions.items()},
    }
