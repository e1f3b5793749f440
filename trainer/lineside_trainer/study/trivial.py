"""The two lines every method must beat: the mean predictor and hand-made features with ridge.

They learn from the very labels, and are judged on the very images, that the study's rows have.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineside_trainer.evaluate.handmade import fit_ridge, intensity_features
from lineside_trainer.experiment import Experiment
from lineside_trainer.prepared import IntArray, Prepared, prepare_data
from lineside_trainer.runs.predictions import PREDICTED_SETS, PREDICTIONS, write_predictions
from lineside_trainer.runs.provenance import machine, versions
from lineside_trainer.runs.results import Figure
from lineside_trainer.runs.runfolder import RESULT, claimed_run, read_document, write_document
from lineside_trainer.tasks import Task, build_task
from lineside_trainer.tuning import judge, make_lesson, tell

FloatArray = NDArray[np.float64]


class TrivialResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the trivial predictors get.

    Attributes:
        metric: the primary one, a key of all four tables.
        lower_is_better: of the primary one.
        handmade: hand-made features with ridge regression on the test samples, by metric.
        baseline: what the task calls trivial, e.g. the mean predictor, on the same samples.
        baseline_name: what that one does.
        handmade_validation: primary metric on the validation samples.
        baseline_validation: likewise.
        features: how many.
        strength: of the ridge.
        labels: training images with a label.
        seconds: it took, reading the images left out.
        seed: of the labels that are taken where not all are.
        split_seed: of the split.
        data_sha256: over pixels, targets and split.
        machine: in words.
        versions: by distribution.
    """

    metric: str
    lower_is_better: bool
    handmade: dict[str, Figure]
    baseline: dict[str, Figure]
    baseline_name: str
    handmade_validation: float
    baseline_validation: float
    features: int
    strength: float
    labels: int
    seconds: float
    seed: int
    split_seed: int
    data_sha256: str
    machine: str
    versions: dict[str, str]


def judge_trivial(experiment: Experiment, out: Path) -> TrivialResult:
    """Fit and judge, or read what an earlier call found.

    Args:
        experiment: `data`, `run` and what is learnt count.
        out: folder of `result.json` and `predictions.csv`.

    Raises:
        ExperimentError: the folder belongs to other settings.
        DataError: images or targets that cannot be used.
        StorageError: the disk is full, read-only or gone.
    """
    with claimed_run(out, experiment, resume=True):
        if (out / RESULT).exists():
            return read_document(out / RESULT, TrivialResult)
        result = _judge(experiment, out)
        write_document(out / RESULT, result)
        return result


def _judge(asked: Experiment, out: Path) -> TrivialResult:
    experiment = _for_any_image(asked)
    prepared = prepare_data(experiment, target=experiment.train.target, folder=out)
    training = make_lesson(experiment, prepared).training
    targets = prepared.table.targets[training]
    # Of the task, only what it says about judging is used.
    task = build_task(
        experiment, prepared.input, prepared.normalise(), targets, prepared.table.classes
    )
    started_s = time.monotonic()
    features = intensity_features(prepared.store.images_nhwc.numpy())
    outputs, strength = _fitted(features, prepared, training, task)
    seconds = time.monotonic() - started_s
    told = [one for name in PREDICTED_SETS for one in tell(prepared, task, name, outputs[name])]
    write_predictions(out / PREDICTIONS, told)
    test, validation = (
        judge(prepared, task, name, outputs[name]) for name in ("test", "validation")
    )
    return TrivialResult(
        metric=test.metric,
        lower_is_better=test.lower_is_better,
        handmade=test.figures,
        baseline=test.baseline,
        baseline_name=test.baseline_name,
        handmade_validation=validation.figures[test.metric].value,
        baseline_validation=validation.baseline[test.metric].value,
        features=features.shape[1],
        strength=strength,
        labels=len(training),
        seconds=seconds,
        seed=experiment.run.seed,
        split_seed=experiment.data.split_seed,
        data_sha256=prepared.digest,
        machine=machine("cpu"),
        versions=versions(),
    )


def _for_any_image(asked: Experiment) -> Experiment:
    """Without the bounds of a network, of which only what the task says about judging is used: one
    image is enough for a step, and none is smaller than a patch."""
    replace = msgspec.structs.replace
    train = replace(asked.train, fit=replace(asked.train.fit, batch_size=1))
    return replace(asked, train=train, model=replace(asked.model, patch_px=1))


def _fitted(
    features: FloatArray, prepared: Prepared, training: IntArray, task: Task
) -> tuple[dict[str, FloatArray], float]:
    """What the ridge says by sample set, as the task's network would say it; and its strength."""
    table = prepared.table
    targets = table.targets[training]
    shape = task.outputs()[0].shape
    classes = shape[0] if shape else 0
    wanted = np.eye(classes)[targets.astype(np.int64)] if classes else targets[:, np.newaxis]
    ridge = fit_ridge(features[training], wanted, table.parts[training])
    outputs = {}
    for name in PREDICTED_SETS:
        said = ridge.predict(features[prepared.labelled(name)])
        outputs[name] = _as_shares(said) if classes else said[:, 0]
    return outputs, ridge.strength


def _as_shares(scores: FloatArray) -> FloatArray:
    """(N, K) one-hot regressions to shares of one: their order stays, within 0 and 1."""
    clipped = np.clip(scores, 1e-6, 1.0)
    shares: FloatArray = clipped / clipped.sum(axis=1, keepdims=True)
    return shares
