"""Anomaly scores held against the truth: what tables II and III of Ulger et al. show, and more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lineside.metrics import (
    AtPrevalence,
    OverDraws,
    Statistic,
    at_prevalence,
    auroc,
    average_precision,
    f1,
    precision,
    recall,
)
from lineside_trainer.errors import DataError
from lineside_trainer.evaluate.anomaly_limit import SHARE, LimitProposal, propose_limit
from lineside_trainer.evaluate.judgement import Yardstick, measure_each
from lineside_trainer.evaluate.leaks import warn_of_leaks
from lineside_trainer.runs.anomaly_results import (
    AnomalyResult,
    AnomalyScore,
    AtShare,
    Leaks,
    Redrawn,
)

FloatArray = NDArray[np.float64]

PAPER_SHARE: Final = 66 / 150
"""Of bad images in the test set of Ulger et al., sec. IV-A."""


@dataclass(frozen=True, kw_only=True)
class ScoredSet:
    """Images of one sample set with their scores.

    Attributes:
        bad: (N,) bool.
        parts: (N,) part ids.
        scores: (N,) each, by name; higher is more anomalous.
    """

    bad: NDArray[np.bool_]
    parts: NDArray[np.str_]
    scores: Mapping[str, FloatArray]


def propose_limits(validation: ScoredSet, *, share: float = SHARE) -> dict[str, LimitProposal]:
    """``propose_limit`` for every score.

    Raises:
        DataError: a score is not finite, or too few parts are good.
    """
    return {
        name: propose_limit(scores, validation.bad, validation.parts, share=share)
        for name, scores in validation.scores.items()
    }


def judge_anomaly(
    validation: ScoredSet,
    test: ScoredSet,
    limits: Mapping[str, LimitProposal],
    *,
    exported: str,
    leaks: Leaks,
    seed: int = 0,
) -> AnomalyResult:
    """Every score's figures on the test images, at limits that the validation images proposed.

    Args:
        validation: counted only.
        test: judged.
        limits: one for each score of the test images.
        exported: the score that the candidate gives.
        leaks: of the test images.
        seed: of redrawn test sets.

    Raises:
        DataError: a score of a test image is not finite.
    """
    _check_finite(test)
    scores = {
        name: _judge(test, values, limits[name], seed) for name, values in test.scores.items()
    }
    area = scores[exported].auroc
    warning = warn_of_leaks(leaks, None if area is None else area.value)
    return AnomalyResult(
        exported=exported,
        scores=scores,
        leaks=leaks,
        counts=_counts("validation", validation) | _counts("test", test),
        notes=tuple(note for note in (*_missing(validation, test, limits), warning) if note),
    )


def anomaly_statistics(
    bad: NDArray[np.bool_], scores: FloatArray, limit: float
) -> dict[str, Statistic]:
    """Every figure of one score as a function of the images' weights, AUROC first.

    Args:
        bad: (N,) bool.
        scores: (N,) finite; higher is more anomalous.
        limit: scores above it are flagged.
    """
    return {
        "auroc": lambda weights: auroc(bad, scores, weights),
        "average_precision": lambda weights: average_precision(bad, scores, weights),
        "precision": lambda weights: precision(bad, scores, limit, weights),
        "recall": lambda weights: recall(bad, scores, limit, weights),
        "f1": lambda weights: f1(bad, scores, limit, weights),
        # The share of good images that are flagged is a recall of good ones.
        "overkill": lambda weights: recall(~bad, scores, limit, weights),
    }


def anomaly_yardstick(bad: NDArray[np.bool_], scores: FloatArray, limit: float) -> Yardstick:
    """The exported score beside who calls every image anomalous.

    AUROC is the primary figure. Without a bad image it is the overkill, without a good one the
    recall: nothing else is defined.

    Args:
        bad: (N,) bool.
        scores: (N,) finite; higher is more anomalous.
        limit: scores above it are flagged.
    """
    ours = _telling(anomaly_statistics(bad, scores, limit), bad)
    metric = next(iter(ours))
    return Yardstick(
        metric=metric,
        lower_is_better=metric == "overkill",
        ours=ours,
        trivial=_telling(anomaly_statistics(bad, np.ones(len(bad)), 0.0), bad),
        baseline_name="predictor that calls every image anomalous",
    )


def _telling(statistics: dict[str, Statistic], bad: NDArray[np.bool_]) -> dict[str, Statistic]:
    if not bad.any():
        # Without a bad image every flag is a false one: a precision of 0 is no finding.
        return {"overkill": statistics["overkill"]}
    if bad.all():
        # Ranking or flagging bad images among themselves is none either.
        return {"recall": statistics["recall"]}
    return statistics


def _judge(test: ScoredSet, scores: FloatArray, limit: LimitProposal, seed: int) -> AnomalyScore:
    statistics = _telling(anomaly_statistics(test.bad, scores, limit.limit), test.bad)
    return AnomalyScore(
        limit=limit.limit,
        limit_rule=limit.rule,
        limit_from=limit.sentence,
        at_share=_at_share(test, scores, limit.limit, seed),
        **measure_each(statistics, test.parts),
    )


def _at_share(test: ScoredSet, scores: FloatArray, limit: float, seed: int) -> AtShare | None:
    if test.bad.all() or not test.bad.any():
        return None
    found: AtPrevalence = at_prevalence(
        test.bad, scores, limit, prevalence=PAPER_SHARE, parts=test.parts, seed=seed
    )
    return AtShare(
        share=found.share,
        precision=_redrawn(found.precision) if found.precision.draws else None,
        recall=_redrawn(found.recall),
        f1=_redrawn(found.f1),
    )


def _redrawn(over: OverDraws) -> Redrawn:
    return Redrawn(mean=over.mean, std=over.std if over.draws > 1 else None)


def _check_finite(test: ScoredSet) -> None:
    for name, values in test.scores.items():
        strange = int((~np.isfinite(values)).sum())
        if strange:
            raise DataError(
                f"{strange} of {len(values)} test images: the score {name!r} is not finite, so it "
                "can be held against no limit; train with a lower learning rate"
            )


def _counts(name: str, samples: ScoredSet) -> dict[str, int]:
    bad = int(samples.bad.sum())
    return {f"{name} good": len(samples.bad) - bad, f"{name} bad": bad}


def _missing(
    validation: ScoredSet, test: ScoredSet, limits: Mapping[str, LimitProposal]
) -> tuple[str, ...]:
    proposed = any(limit.rule != "given" for limit in limits.values())
    return (
        ""
        if validation.bad.any() or not proposed
        else "no validation image is bad, so no F1 could choose the limit: it is a quantile of the "
        "good parts, and how many bad parts escape it "
        + ("is known from the test images alone" if test.bad.any() else "is not known"),
        ""
        if test.bad.any()
        else "no test image is bad, so AUROC, average precision, precision, recall and F1 are "
        "undefined and not printed: only how many good images are flagged is known",
        ""
        if not test.bad.all()
        else "no test image is good, so AUROC, average precision, precision, overkill and F1 say "
        "nothing and are not printed: only how many bad images are found is known",
    )
