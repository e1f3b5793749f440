"""`result.json`: what a run found, in one flat document for people and programs."""

from __future__ import annotations

import msgspec

from lineside_trainer.runs.anomaly_results import AnomalyResult

# One room further down, because what the line above brings holds figures too.
from lineside_trainer.runs.figure import Figure as Figure


class Ends(msgspec.Struct, frozen=True, kw_only=True):
    """Where a curve began, ended, and was best; `best_epoch` counts from 0."""

    first: float
    last: float
    best: float
    best_epoch: int


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
    """Of `lineside pretrain`; `init`, `weights` and `weights_sha256` as in `TrainResult`.

    Attributes:
        method: how it learnt.
        arch: what learnt.
        judged_by: what `run.validation` holds.
        run: the rest.
    """

    method: str
    arch: str
    judged_by: str = "masked MSE"  # runs of before there was another method say nothing of it
    init: str = ""
    weights: str = ""
    weights_sha256: str = ""
    run: Run


class TrainedRun(msgspec.Struct, frozen=True, kw_only=True):
    """Which run it was.

    Attributes:
        run: its folder.
        sha256: of its `best.pt`, 64 hex.
        arch: its network.
        parameters: trained ones.
        metric: by which its task is judged.
        test: that figure on its own test samples.
    """

    run: str
    sha256: str
    arch: str
    parameters: int
    metric: str
    test: float


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
            trivial predictor's figure, and that of their difference on the good side of 0.
        test_by_part: the primary metric of each part, where parts are few; else empty.
        unlabelled: images without a target.
        init: the pre-training run's folder, "" without one.
        weights: the file of weights that it started from, "" without one.
        weights_sha256: of that file, or of the one in `init`, 64 hex; "" started from noise.
        candidate: folder of the candidate.
        run: the rest.
        teacher: what it learnt from beside the labels; None where there was no teacher.
        slimmed_from: the wider network that it was cut from; None where it was not.
        anomaly: every score's figures; None of other tasks.
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
    weights: str = ""
    weights_sha256: str = ""
    candidate: str
    run: Run
    teacher: TrainedRun | None = None
    slimmed_from: TrainedRun | None = None
    anomaly: AnomalyResult | None = None


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A figure over several seeds.

    Attributes:
        mean: over the runs.
        std: sample standard deviation (n - 1); None of one run.
        least: lowest.
        most: highest.
        runs: how many.
    """

    mean: float
    std: float | None
    least: float
    most: float
    runs: int


class SeedRun(msgspec.Struct, frozen=True, kw_only=True):
    """One of several seeds, in short; its own folder says the rest.

    Attributes:
        seed: of every draw but the split.
        split_seed: of the split.
        folder: of its run, inside this one.
        validation: mean judgement of the epoch that was kept; smaller is better.
        test: figures by metric; empty of a pre-training.
        better_than_baseline: as in `TrainResult`; None of a pre-training.
        epochs: done.
        seconds: of all epochs.
    """

    seed: int
    split_seed: int
    folder: str
    validation: float
    test: dict[str, float]
    better_than_baseline: bool | None
    epochs: int
    seconds: float


class PretrainSeedsResult(msgspec.Struct, frozen=True, kw_only=True):
    """Of `lineside pretrain --seeds N`.

    Attributes:
        method: of every run.
        arch: likewise.
        judged_by: what `validation` holds.
        validation: mean judgement of the epochs that were kept.
        runs: each seed.
        notes: what a reader must know.
        transductive: see `Run`.
        parameters: trained ones.
        machine: in words.
        command: as typed.
    """

    method: str
    arch: str
    judged_by: str
    validation: Spread
    runs: tuple[SeedRun, ...]
    notes: tuple[str, ...]
    transductive: bool
    parameters: int
    machine: str
    command: str


class TrainSeedsResult(msgspec.Struct, frozen=True, kw_only=True):
    """Of `lineside train --seeds N`.

    Attributes:
        task: what was learnt.
        target: which column.
        unit: of the target.
        metric: the primary one, a key of `test` and `baseline`.
        lower_is_better: of the primary one.
        judged_by: what `validation` holds.
        test: figures on the test samples over the runs, by metric, the primary one first.
        baseline: of the trivial predictor.
        baseline_name: what that predictor does.
        better_than_baseline: in how many runs the whole interval is on its good side.
        validation: mean judgement of the epochs that were kept.
        chosen_seed: of the run with the best validation figure, whose candidate is offered.
        candidate: folder of that candidate's copy.
        init: of all runs, "" without one.
        weights: as in `TrainResult`.
        runs: each seed.
        notes: what a reader must know.
        transductive: see `Run`.
        parameters: trained ones.
        machine: in words.
        command: as typed.
    """

    task: str
    arch: str
    target: str
    unit: str
    metric: str
    lower_is_better: bool
    judged_by: str
    test: dict[str, Spread]
    baseline: dict[str, Spread]
    baseline_name: str
    better_than_baseline: int
    validation: Spread
    chosen_seed: int
    candidate: str
    init: str
    weights: str = ""
    runs: tuple[SeedRun, ...]
    notes: tuple[str, ...]
    transductive: bool
    parameters: int
    machine: str
    command: str
