"""`lineside train`, without its command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lineside.contract import Contract, LimitRule
from lineside.durable import make_folder
from lineside_trainer.ancestry.forerunners import Forerunners, read_forerunners
from lineside_trainer.ancestry.initial import (
    InitialWeights,
    check_unseen,
    find_initial,
    load_backbone,
)
from lineside_trainer.ancestry.teaching import taught_rows
from lineside_trainer.anomaly import check_anomaly, tune_anomaly
from lineside_trainer.candidate import write_candidate
from lineside_trainer.class_coverage import check_classes
from lineside_trainer.conduct import conduct
from lineside_trainer.data import write_split
from lineside_trainer.data.label_share import take_label_share
from lineside_trainer.data.split import ASSURANCE
from lineside_trainer.errors import ExperimentError
from lineside_trainer.evaluate import Picture
from lineside_trainer.evaluate.judgement import Judgement, measure, predict
from lineside_trainer.experiment import Experiment, TrainSettings
from lineside_trainer.learning.fit import FitResult
from lineside_trainer.learning.lesson import Lesson, learn
from lineside_trainer.learning.processes import this_place
from lineside_trainer.prepared import Prepared, prepare_data
from lineside_trainer.probe import NOTE as PROBE_NOTE
from lineside_trainer.probe import check_probe, learn_probe, standardise_probe
from lineside_trainer.runs.predictions import (
    PREDICTED_SETS,
    PREDICTIONS,
    Prediction,
    write_predictions,
)
from lineside_trainer.runs.provenance import candidate_provenance
from lineside_trainer.runs.results import Run, TrainResult
from lineside_trainer.runs.runfolder import (
    CANDIDATE,
    FIGURES,
    RESULT,
    SPLIT,
    write_document,
)
from lineside_trainer.runs.summary import summarise
from lineside_trainer.tasks import ANOMALY, Task, build_task, check_task, good_classes
from lineside_trainer.telling.doubts import tell_doubts
from lineside_trainer.telling.example_maps import draw_example_maps
from lineside_trainer.telling.tuning_report import report_tuning

FloatArray = NDArray[np.float64]


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
    _check(experiment)
    work = tune_anomaly if experiment.train.task == ANOMALY else _train
    return conduct(
        "train",
        experiment,
        out,
        resume=resume,
        kind=TrainResult,
        work=lambda: work(experiment, out, resume=resume),
    )


def _check(experiment: Experiment) -> None:
    settings = experiment.train
    check_task(settings)
    if settings.task == ANOMALY:
        check_anomaly(experiment)
        return
    if not settings.target:
        raise ExperimentError("train.target: nothing to learn is named; give --target COLUMN")
    check_probe(settings)


def _train(experiment: Experiment, out: Path, *, resume: bool) -> TrainResult:
    settings = experiment.train
    initial = find_initial(experiment, "train")
    before = read_forerunners(settings)
    prepared = prepare_data(experiment, target=settings.target, folder=out)
    if this_place().is_first:
        write_split(out / SPLIT, prepared.split, prepared.table)
    notes = check_unseen(prepared, initial) if initial else ()
    notes += before.check(prepared)
    lesson = make_lesson(experiment, prepared)
    learner, fit_notes = _learner(experiment, prepared, lesson, initial)
    contract = make_contract(experiment, prepared, learner)
    taught = before.lead(learner, contract, prepared, lesson, experiment, out)
    fitted = (
        learn_probe(learner, prepared, lesson, run=experiment.run, folder=out, resume=resume)
        if settings.probe
        else learn(taught, prepared, lesson, run=experiment.run, folder=out, resume=resume)
    )
    outputs = _predict(prepared, learner, out)
    tuned = _Tuned(
        prepared=prepared,
        lesson=lesson,
        learner=learner,
        fitted=fitted,
        judgement=judge(prepared, learner, "test", outputs["test"]),
        initial=initial,
        before=before,
        notes=(*notes, *fit_notes),
    )
    result = _result(experiment, tuned)
    check = write_candidate(
        out / CANDIDATE, learner.network, contract, prepared, candidate_provenance(result)
    )
    doubts = tell_doubts(out, prepared)
    maps = draw_example_maps(out / FIGURES, learner, prepared, outputs["test"], settings)
    pictures = (*_draw(prepared, learner, outputs["test"], out), maps, *doubts.pictures)
    report_tuning(out, experiment, result, fitted, pictures, check, doubts.tables)
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


def make_lesson(experiment: Experiment, prepared: Prepared) -> Lesson:
    """Which labelled images are learnt from and which choose the epoch.

    Raises:
        DataError: no labels in a set, or too few different ones.
    """
    settings, table = experiment.train, prepared.table
    prepared.labelled("test")  # found missing now, and not after hours of training
    share = take_label_share(
        prepared.labelled("training"),
        table.parts,
        table.targets,
        share=settings.label_share,
        seeds=(experiment.data.split_seed, experiment.run.seed),
        every_kind=bool(table.classes),
    )
    good = good_classes(settings, table.classes) if table.classes else ()
    coverage = check_classes(prepared, share.rows, good)
    notes = (share.note, PROBE_NOTE if settings.probe else "", *coverage)
    return Lesson(
        title=f"{'probe' if settings.probe else 'tuning'} ({settings.task})",
        training=share.rows,
        taught=taught_rows(prepared, share.rows, settings.teacher),
        judging=prepared.labelled("validation"),
        settings=settings.fit,
        augment=settings.augment,
        notes=tuple(note for note in notes if note),
    )


def _learner(
    experiment: Experiment, prepared: Prepared, lesson: Lesson, initial: InitialWeights | None
) -> tuple[Task, tuple[str, ...]]:
    """The learner as it starts, and notes on what it starts from."""
    torch.manual_seed(experiment.run.seed)
    targets = prepared.table.targets[lesson.training]
    learner = build_task(
        experiment, prepared.input, prepared.normalise(), targets, prepared.table.classes
    )
    notes = load_backbone(learner.backbone, initial) if initial else ()
    if experiment.train.probe:
        standardise_probe(learner, prepared, experiment.run)
    return learner, notes


def _predict(prepared: Prepared, learner: Task, out: Path) -> dict[str, FloatArray]:
    """Outputs by set, of its labelled images; `predictions.csv` holds them in words."""
    outputs: dict[str, FloatArray] = {}
    predictions: list[Prediction] = []
    for name in PREDICTED_SETS:
        rows = prepared.labelled(name)
        outputs[name] = predict(learner.network, prepared.store.rows(torch.from_numpy(rows)))
        predictions += tell(prepared, learner, name, outputs[name])
    write_predictions(out / PREDICTIONS, predictions)
    return outputs


def tell(prepared: Prepared, task: Task, name: str, outputs: FloatArray) -> list[Prediction]:
    """Outputs in words, for `predictions.csv`.

    Args:
        prepared: the images.
        task: says them.
        name: of the sample set.
        outputs: (N, *output) of its N labelled images, in their order.
    """
    table = prepared.table
    return [
        Prediction(
            file=table.records[row].name,
            part=table.records[row].part,
            set=name,
            said=task.say(float(table.targets[row]), output),
        )
        for row, output in zip(prepared.labelled(name), outputs, strict=True)
    ]


def judge(prepared: Prepared, task: Task, name: str, outputs: FloatArray) -> Judgement:
    """Every figure of a sample set; arguments as of `tell`."""
    rows = prepared.labelled(name)
    yardstick = task.yardstick(prepared.table.targets[rows], outputs)
    return measure(yardstick, prepared.table.parts[rows])


def _draw(prepared: Prepared, learner: Task, outputs: FloatArray, out: Path) -> tuple[Picture, ...]:
    make_folder(out / FIGURES)
    targets = prepared.table.targets[prepared.labelled("test")]
    return learner.draw(out / FIGURES, targets, outputs)


@dataclass(frozen=True, kw_only=True)
class _Tuned:
    """All that a result tells of."""

    prepared: Prepared
    lesson: Lesson
    learner: Task
    fitted: FitResult
    judgement: Judgement
    initial: InitialWeights | None
    before: Forerunners
    notes: tuple[str, ...]


def _result(experiment: Experiment, tuned: _Tuned) -> TrainResult:
    settings, judgement, initial = experiment.train, tuned.judgement, tuned.initial
    return TrainResult(
        task=settings.task,
        arch=experiment.model.arch,
        target=settings.target,
        unit=settings.unit,
        metric=judgement.metric,
        lower_is_better=judgement.lower_is_better,
        judged_by=tuned.learner.judged_by,
        test=judgement.figures,
        baseline=judgement.baseline,
        baseline_name=judgement.baseline_name,
        better_than_baseline=judgement.better,
        test_by_part=judgement.by_part,
        unlabelled=len(tuned.prepared.table.unlabelled),
        init=settings.init,
        weights=initial.weights_file if initial else "",
        weights_sha256=initial.sha256 if initial else "",
        candidate=CANDIDATE,
        run=_run(experiment, tuned),
        teacher=tuned.before.teacher_run,
        slimmed_from=tuned.before.wide_run,
    )


def _run(experiment: Experiment, tuned: _Tuned) -> Run:
    prepared, lesson, initial = tuned.prepared, tuned.lesson, tuned.initial
    counts = {name: len(prepared.split.indices[name]) for name in ("quantisation", "golden")}
    counts["training"] = len(lesson.training)
    if len(lesson.taught):
        counts["taught without a label"] = len(lesson.taught)
    counts |= {name: len(prepared.labelled(name)) for name in ("validation", "test")}
    if len(prepared.split.indices[ASSURANCE]):
        counts[ASSURANCE] = len(prepared.split.indices[ASSURANCE])
    return summarise(
        prepared,
        tuned.learner.layers(),
        tuned.fitted,
        experiment=experiment,
        settings=experiment.train.fit,
        counts=counts,
        notes=(*tuned.notes, *lesson.notes, *tuned.learner.notes, *tuned.judgement.notes),
        transductive=tuned.before.transductive or (initial is not None and initial.transductive),
    )
