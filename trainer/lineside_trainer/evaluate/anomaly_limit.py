"""Limits that validation scores propose: the best F1, or a quantile of the good parts.

Ulger et al., sec. III-C: "a hyperparameter and determined on the validation set".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lineside.metrics import best_f1, midway
from lineside_trainer.errors import DataError

FloatArray = NDArray[np.float64]

SHARE: Final = 0.01
"""Of good parts that a quantile lets lie beyond the limit."""

FEWEST_GOOD: Final = 2
"""One score says nothing of how scores of good parts differ."""

_MARGIN: Final = 1e-3
"""Of the spread of all scores: how far a limit stays above the highest one. A score that lies on
its limit would change sides with the rounding of another engine."""

_SCORE: Final = "score"
_PEAK: Final = "highest map value"


@dataclass(frozen=True, kw_only=True)
class LimitProposal:
    """A limit and where it is from.

    Attributes:
        limit: scores above it are flagged.
        rule: what proposed it.
        good_parts: with a good validation image.
        bad_parts: with a bad one.
        sentence: all of this for people.
    """

    limit: float
    rule: Literal["best_f1", "quantile", "given"]
    good_parts: int
    bad_parts: int
    sentence: str


def given_limit(limit: float) -> LimitProposal:
    """One that somebody told, e.g. `train.limit`."""
    return LimitProposal(
        limit=limit, rule="given", good_parts=0, bad_parts=0, sentence=f"limit {limit:.6g}: given"
    )


def propose_limit(
    scores: ArrayLike, bad: ArrayLike, parts: ArrayLike | None = None, *, share: float = SHARE
) -> LimitProposal:
    """The best F1 of the validation images where some are bad, else a quantile of the good parts.

    Args:
        scores: (N,) of validation images; higher is more anomalous.
        bad: (N,) bool.
        parts: (N,) the part each image belongs to; without them every image is a part.
        share: of good parts that may lie beyond the limit where no bad image is known.

    Raises:
        DataError: a score is not finite, or too few parts are good.
        ValueError: a share that is none.
    """
    given, member, names = _checked(scores, bad, parts, share, of=_SCORE)
    good_parts = len(np.unique(names[~member]))
    if not member.any():
        return _quantile(
            given, names, share, why="no bad validation image is known, so it lies ", of=_SCORE
        )
    best, bad_parts = best_f1(member, given), len(np.unique(names[member]))
    blind = ": every image is flagged, the scores do not tell them apart"
    return LimitProposal(
        limit=best.limit,
        rule="best_f1",
        good_parts=good_parts,
        bad_parts=bad_parts,
        sentence=(
            f"limit {best.limit:.6g}: the best F1 ({best.value:.3f}) of the validation images of "
            f"{good_parts} good and {bad_parts} bad parts, midway between two scores"
            f"{blind if (given > best.limit).all() else ''}"
        ),
    )


def region_limit(
    peaks: ArrayLike, parts: ArrayLike | None = None, *, share: float = SHARE
) -> LimitProposal:
    """Beyond which a map's values make a region: a quantile of the good parts' highest values.

    Args:
        peaks: (N,) the highest value in each good validation image's map.
        parts: (N,) the part each image belongs to; without them every image is a part.
        share: of good parts whose map may show a region all the same.

    Raises:
        DataError: a peak is not finite, or there are too few parts.
        ValueError: a share that is none.
    """
    bad = np.zeros(len(np.asarray(peaks)), dtype=np.bool_)
    given, _, names = _checked(peaks, bad, parts, share, of=_PEAK)
    return _quantile(given, names, share, why="it lies ", of=_PEAK)


def check_good_parts(
    bad: ArrayLike, parts: ArrayLike | None = None, *, share: float = SHARE
) -> None:
    """Refuse validation images that cannot propose a limit, before hours of training.

    Raises:
        DataError: too few parts are good.
    """
    member = np.asarray(bad, np.bool_)
    names = np.arange(len(member)) if parts is None else np.asarray(parts)
    good = len(np.unique(names[~member]))
    if good < FEWEST_GOOD:
        raise DataError(
            f"the validation samples hold {good or 'no'} good part{'s' if good != 1 else ''}: a "
            f"limit needs {FEWEST_GOOD} at least, and {needed_parts(share)} if no more than "
            f"{share:.3g} of the good parts may lie beyond it; move good parts there, or give "
            "the limit yourself"
        )


def _checked(
    scores: ArrayLike, bad: ArrayLike, parts: ArrayLike | None, share: float, *, of: str
) -> tuple[FloatArray, NDArray[np.bool_], NDArray[np.generic]]:
    if not 0.0 < share < 1.0:
        raise ValueError(f"share: {share:g}; a share above 0 and below 1 is needed")
    given, member = np.asarray(scores, np.float64), np.asarray(bad, np.bool_)
    if not np.isfinite(given).all():
        strange = int((~np.isfinite(given)).sum())
        raise DataError(
            f"{strange} of {len(given)} validation images: the {of} is not finite, so no limit "
            "parts it from others; train with a lower learning rate (fit.lr), and without weights "
            "that are beyond measure (train.anomaly)"
        )
    check_good_parts(member, parts, share=share)
    return given, member, np.arange(len(given)) if parts is None else np.asarray(parts)


def needed_parts(share: float) -> int:
    """How many good parts it takes before a quantile can promise such a share."""
    # Less a hair: 1 / 0.01 must not be 101 by rounding.
    return math.ceil(1.0 / share - 1e-9) - 1


def _quantile(
    scores: FloatArray, names: NDArray[np.generic], share: float, *, why: str, of: str
) -> LimitProposal:
    """Split conformal (Papadopoulos et al. 2002; Lei et al. 2018, sec. 2.2): of n good parts, the
    ceil((n + 1) (1 - share))-th lowest score leaves no more than that share of new good parts
    beyond it on average, where parts are exchangeable. The sample's own quantile would leave more.
    """
    highest = np.sort(_highest_of_parts(scores, names))
    count = len(highest)
    rank = math.ceil((count + 1) * (1.0 - share) - 1e-9)
    kept = min(rank, count)
    limit = _above(highest, kept - 1)
    return LimitProposal(
        limit=limit,
        rule="quantile",
        good_parts=count,
        bad_parts=0,
        sentence=f"limit {limit:.6g}: {why}{_told(count, rank, share, of)}",
    )


def _told(count: int, rank: int, share: float, of: str) -> str:
    if rank <= count:
        return (
            f"above the {of} of {rank} of {count} good parts: of new good parts no "
            f"more than {share:.3g} are expected beyond it"
        )
    return (
        f"above the {of} of all {count} good parts, and {1.0 / (count + 1):.2g} of new ones are "
        f"expected beyond it; for {share:.3g} it takes {needed_parts(share)}"
    )


def _highest_of_parts(scores: FloatArray, names: NDArray[np.generic]) -> FloatArray:
    """A part is as anomalous as its worst image."""
    found, place = np.unique(names, return_inverse=True)
    highest = np.full(len(found), -np.inf)
    np.maximum.at(highest, place, scores)
    return highest


def _above(rising: FloatArray, place: int) -> float:
    score = float(rising[place])
    higher = rising[rising > score]
    if len(higher):
        return midway(score, float(higher[0]))
    margin = _MARGIN * float(rising[-1] - rising[0])
    return max(score + margin, math.nextafter(score, math.inf))
