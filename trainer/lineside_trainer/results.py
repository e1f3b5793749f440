"""`result.json`: what a run found, in one flat document for people and programs."""

from __future__ import annotations

import msgspec


class Ends(msgspec.Struct, frozen=True, kw_only=True):
    """Where a curve began, ended, and was best; `best_epoch` counts from 0."""

    first: float
    last: float
    best: float
    best_epoch: int


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A figure with its interval.

    Attributes:
        value: on all samples.
        low: lower end; None where one sample gives no interval.
        high: upper end; likewise.
        confidence: e.g. 0.95.
        drawn_by: "part", or "image" where there are too few parts.
        drawn: how many of them.
    """

    value: float
    low: float | None
    high: float | None
    confidence: float
    drawn_by: str
    drawn: int


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What every run can say.

    Attributes:
        images: usable ones.
        counts: images by sample set, as they were used.
        rejected: files that were used for nothing, by name, with the reason.
        notes: what a reader must know to judge the figures.
        transductive: images that it is judged on were seen in pre-training.
        epochs: done.
        batch_size: images a step.
        training_loss: mean of each epoch's steps.
        validation: mean judgement of each epoch.
        seconds: of all epochs.
        images_per_s: training images, median over epochs.
        parameters: trained ones.
        device: "cpu" or "cuda".
        precision: "fp32" or "bf16".
        seed: of every draw but the split.
        split_seed: of the split.
        data_sha256: over pixels, targets and split.
        versions: by distribution.
        machine: in words.
        command: as typed.
    """

    images: int
    counts: dict[str, int]
    rejected: dict[str, str]
    notes: tuple[str, ...]
    transductive: bool
    epochs: int
    batch_size: int
    training_loss: Ends
    validation: Ends
    seconds: float
    images_per_s: float
    parameters: int
    device: str
    precision: str
    seed: int
    split_seed: int
    data_sha256: str
    versions: dict[str, str]
    machine: str
    command: str


class PretrainResult(msgspec.Struct, frozen=True, kw_only=True):
    """Of `lineside pretrain`."""

    method: str
    arch: str
    run: Run


class TrainResult(msgspec.Struct, frozen=True, kw_only=True):
    """Of `lineside train`.

    Attributes:
        task: what was learnt.
        target: which column.
        unit: of the target.
        metric: the primary one, a key of `test` and `baseline`.
        lower_is_better: of the primary one.
        judged_by: what `run.validation` holds, and chose the epoch that was kept.
        test: figures on the test samples by metric, the primary one first.
        baseline: of the trivial predictor on the same samples, where it has such a figure.
        baseline_name: what that predictor does.
        better_than_baseline: the whole interval of the primary metric lies on the good side of the
            trivial predictor's figure.
        test_by_part: the primary metric of each part, where parts are few; else empty.
        unlabelled: images without a target.
        init: the pre-training run's folder, "" without one.
        candidate: folder of the candidate.
        run: the rest.
    """

    task: str
    arch: str
    target: str
    unit: str
    metric: str
    lower_is_better: bool
    judged_by: str
    test: dict[str, Figure]
    baseline: dict[str, Figure]
    baseline_name: str
    better_than_baseline: bool
    test_by_part: dict[str, float]
    unlabelled: int
    init: str
    candidate: str
    run: Run
