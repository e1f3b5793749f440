"""`study.json`: what a study found, in one document for people and programs."""

from __future__ import annotations

import msgspec

from lineside_trainer.study.paired import Difference


class PieceFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One piece.

    Attributes:
        id: its folder below the study's.
        kind: pretrain, train or trivial.
        name: of the pre-training or row.
        seed: of every draw but the split.
        split_seed: of the split.
        label_share: of the training labels.
        state: "done", "missing", "failed" or "to do".
        why: where it is missing or failed.
        command: what does this piece alone, typed in the study's folder.
        value: primary metric on the test samples; None of a pre-training.
        baseline: of the trivial predictor on the same samples.
        figures: every metric on the test samples.
        validation: primary metric on the validation samples.
        parameters: trained ones.
        images: learnt from.
        epochs: done.
        seconds: of all epochs.
        data_sha256: over pixels, targets and split.
        transductive: images that it is judged on were seen before.
        precision: fp32 or bf16.
        machine: in words.
        versions: by distribution.
    """

    id: str
    kind: str
    name: str
    seed: int
    split_seed: int
    label_share: float
    state: str
    why: str = ""
    command: str = ""
    value: float | None = None
    baseline: float | None = None
    figures: dict[str, float] = {}
    validation: float | None = None
    parameters: int = 0
    images: int = 0
    epochs: int = 0
    seconds: float = 0.0
    data_sha256: str = ""
    transductive: bool = False
    precision: str = ""
    machine: str = ""
    versions: dict[str, str] = {}


class OverSeeds(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of each of the line's `seeds`, in their order.

    Attributes:
        mean: over them.
        std: sample standard deviation (n - 1); None of one seed.
        values: one a seed.
    """

    mean: float
    std: float | None
    values: list[float]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the table: one row at one share of the labels.

    Attributes:
        name: of the row.
        label: what people call it.
        label_share: of the training labels.
        seeds: that are done.
        test: primary metric on the test samples.
        validation: on the validation samples.
        others: other metrics on the test samples, by name.
        ratio: to the trivial predictor, seed by seed.
        to_best_percent: how much worse than the best line at this share, in percent of it, over the
            seeds that both have; None where they share none.
        to_reference: paired difference to the reference row.
        parameters: trained ones; 0 of the trivial lines.
        pretraining_minutes: mean over seeds.
        tuning_minutes: likewise.
        note: what is missing or failed; "" where all seeds are done.
    """

    name: str
    label: str
    label_share: float
    seeds: list[int]
    test: OverSeeds | None
    validation: OverSeeds | None
    ratio: OverSeeds | None
    others: dict[str, OverSeeds] = {}
    to_best_percent: float | None = None
    to_reference: Difference | None = None
    parameters: int = 0
    pretraining_minutes: float = 0.0
    tuning_minutes: float = 0.0
    note: str = ""


class StudyFigures(msgspec.Struct, frozen=True, kw_only=True):
    """`study.json`.

    Attributes:
        title: of the study.
        about: what a reader must know.
        metric: the primary one; "" while nothing is done.
        lower_is_better: of it.
        baseline_name: the trivial predictor.
        epochs_factor: all epochs were multiplied by it.
        seeds: asked for.
        split_seeds: paired with them; empty for one split.
        reference: the row that others are compared with.
        command: as typed.
        lines: of the table.
        pieces: each run.
    """

    title: str
    about: str
    metric: str
    lower_is_better: bool
    baseline_name: str
    epochs_factor: float
    seeds: list[int]
    split_seeds: list[int]
    reference: str
    command: str
    lines: list[Line]
    pieces: list[PieceFigures]
