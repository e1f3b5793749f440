"""The limit from the validation samples, and what it is worth on the test samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch

from lineside.metrics import auroc
from lineside_trainer.anomaly.goodness import Goodness
from lineside_trainer.anomaly.seen import FloatArray, Seen
from lineside_trainer.evaluate import Judgement, Yardstick, measure
from lineside_trainer.evaluate.anomaly_judgement import (
    ScoredSet,
    anomaly_yardstick,
    judge_anomaly,
    propose_limits,
)
from lineside_trainer.evaluate.anomaly_limit import LimitProposal, given_limit, region_limit
from lineside_trainer.evaluate.leaks import find_leaks, trivial_scores, turned_to_bad
from lineside_trainer.prepared import IntArray, Prepared
from lineside_trainer.runs.anomaly_results import AnomalyResult, Leaks
from lineside_trainer.runs.predictions import PREDICTED_SETS, Prediction, Said

_COLOURS: Final = 1000
"""Good training images that say which colours are usual."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the samples showed.

    Attributes:
        limits: by score's name; the chosen one's is proposed to the exporter.
        region: beyond which map values make a region.
        judgement: of the chosen score on the test samples.
        figures: of every score.
        trivial: (N,) each, of the test samples in their better direction.
    """

    limits: Mapping[str, LimitProposal]
    region: LimitProposal
    judgement: Judgement
    figures: AnomalyResult
    trivial: Mapping[str, FloatArray]

    @property
    def limit(self) -> float:
        """Scores above it are `NOT_OK`."""
        return self.limits[self.figures.exported].limit


def judge_anomalies(
    prepared: Prepared,
    validation: Seen,
    test: Seen,
    learnt_from: IntArray,
    *,
    told: float | None,
) -> Judged:
    """Choose the limits, then judge.

    Args:
        prepared: the images.
        validation: chooses.
        test: is reported.
        learnt_from: rows of the good training images.
        told: a limit for the chosen score that the user gives; None lets validation choose.

    Raises:
        DataError: a score is not finite, or too few validation images are good.
    """
    exported = next(iter(test.scores))
    before, after = (_scored(prepared, seen) for seen in (validation, test))
    limits = propose_limits(before)
    if told is not None:
        limits[exported] = given_limit(told)
    found = _trivial(prepared, test.rows, learnt_from)
    leaks = find_leaks(test.bad, found)
    trivial = turned_to_bad(leaks, found)
    measuring = _yardstick(after, exported, limits[exported].limit, trivial, leaks)
    return Judged(
        limits=limits,
        region=_region(prepared, validation),
        judgement=measure(measuring, after.parts),
        figures=judge_anomaly(before, after, limits, exported=exported, leaks=leaks),
        trivial=trivial,
    )


def _yardstick(
    test: ScoredSet, exported: str, limit: float, trivial: Mapping[str, FloatArray], leaks: Leaks
) -> Yardstick:
    """Where something can be ranked, AUROC is held against the best score that needs no model:
    calling every image anomalous ranks nothing."""
    plain = anomaly_yardstick(test.bad, test.scores[exported], limit)
    known = {name: leak.auroc for name, leak in leaks.scores.items() if leak.auroc is not None}
    if plain.metric != "auroc" or not known:
        return plain
    best = max(known, key=lambda name: known[name])
    return replace(
        plain,
        trivial={
            **plain.trivial,
            "auroc": lambda weights: auroc(test.bad, trivial[best], weights),
        },
        baseline_name=f"{best} alone (all but AUROC: every image called anomalous)",
    )


def tell_anomalies(
    prepared: Prepared, goodness: Goodness, judged: Judged, seen: Sequence[Seen]
) -> list[Prediction]:
    """Every score of every image that was seen, for `predictions.csv`; `PREDICTED_SETS` in order.

    Predicted is "good" or "bad", by the chosen score and its limit.
    """
    table, told = prepared.table, []
    for name, found in zip(PREDICTED_SETS, seen, strict=True):
        chosen = found.scores[judged.figures.exported]
        for place, row in enumerate(found.rows):
            target = goodness.classes[int(table.targets[row])]
            said = Said(
                target=target,
                predicted="bad" if chosen[place] > judged.limit else "good",
                scores={score: float(values[place]) for score, values in found.scores.items()},
                bad=bool(found.bad[place]),
            )
            record = table.records[row]
            told.append(Prediction(file=record.name, part=record.part, set=name, said=said))
    return told


def _scored(prepared: Prepared, seen: Seen) -> ScoredSet:
    return ScoredSet(bad=seen.bad, parts=prepared.table.parts[seen.rows], scores=seen.scores)


def _region(prepared: Prepared, validation: Seen) -> LimitProposal:
    good = ~validation.bad
    peaks = validation.maps[good].reshape(int(good.sum()), -1).max(axis=1)
    return region_limit(peaks, prepared.table.parts[validation.rows[good]])


def _trivial(prepared: Prepared, rows: IntArray, good: IntArray) -> dict[str, FloatArray]:
    sizes = np.array([prepared.table.pixels(int(row)).shape[:2] for row in rows], dtype=np.int64)
    some = good[np.linspace(0, len(good) - 1, min(len(good), _COLOURS)).astype(np.int64)]
    images, usual = (prepared.store.rows(torch.from_numpy(of)).numpy() for of in (rows, some))
    return trivial_scores(sizes, images, usual)
