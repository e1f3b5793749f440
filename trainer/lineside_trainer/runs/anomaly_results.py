"""What `result.json` says of anomaly scores: tables II and III of Ulger et al., from one place."""

from __future__ import annotations

import msgspec

from lineside_trainer.runs.figure import Figure


class Redrawn(msgspec.Struct, frozen=True, kw_only=True):
    """A figure over redrawn test sets.

    Attributes:
        mean: over those that define it.
        std: sample standard deviation (n - 1); None where only one does.
    """

    mean: float
    std: float | None


class AtShare(msgspec.Struct, frozen=True, kw_only=True):
    """Figures at the limit, of a test set with another share of bad images.

    Attributes:
        share: of bad images, 0..1.
        precision: flagged bad images over all flagged ones; None where nothing is flagged.
        recall: flagged bad images over all bad ones.
        f1: their harmonic mean.
    """

    share: float
    precision: Redrawn | None
    recall: Redrawn
    f1: Redrawn


class AnomalyScore(msgspec.Struct, frozen=True, kw_only=True):
    """One score on the test images; None where they leave a figure undefined.

    Attributes:
        limit: scores above it are flagged.
        limit_rule: "best_f1" or "quantile" of the validation images, or "given".
        limit_from: the same for people.
        auroc: how often a bad image's score lies above a good one's.
        average_precision: precision averaged over recall.
        precision: flagged bad images over all flagged ones.
        recall: flagged bad images over all bad ones.
        f1: their harmonic mean.
        overkill: flagged good images over all good ones.
        at_share: the same at the paper's share of bad images.
    """

    limit: float
    limit_rule: str
    limit_from: str
    auroc: Figure | None = None
    average_precision: Figure | None = None
    precision: Figure | None = None
    recall: Figure | None = None
    f1: Figure | None = None
    overkill: Figure | None = None
    at_share: AtShare | None = None


class Leak(msgspec.Struct, frozen=True, kw_only=True):
    """What a score tells that needs no model.

    Attributes:
        auroc: in the better of both directions, so that chance lies above 0.5; None where there
            are no good, or no bad images.
        higher_is_bad: which direction that is.
    """

    auroc: float | None
    higher_is_bad: bool


class Leaks(msgspec.Struct, frozen=True, kw_only=True):
    """What needs no model, on the test images.

    Attributes:
        scores: by name: "size", "blur", "brightness"; of three channels "colour" too.
        all_anomalous_f1: F1 of calling every image anomalous; None without a bad image.
    """

    scores: dict[str, Leak]
    all_anomalous_f1: float | None


class AnomalyResult(msgspec.Struct, frozen=True, kw_only=True):
    """Of `lineside train --task anomaly`.

    Attributes:
        exported: the score that the candidate gives, a key of `scores`.
        scores: by name, e.g. "recon", "elbo", "gradcon".
        leaks: what needs no model.
        counts: images, by "validation good", "validation bad", "test good", "test bad".
        notes: why a figure is missing, and what makes one doubtful.
    """

    exported: str
    scores: dict[str, AnomalyScore]
    leaks: Leaks
    counts: dict[str, int]
    notes: tuple[str, ...]
