"""From images to parts: which part is good or bad, and by which score the rule judges it. Pure.

Rates are of parts, because images of one part are not independent: ten pictures of one crack are
one chance to miss it. A part has several images in one of two ways:

- **together**: they are views of one inspection, and the part is ``OK`` only when all of them are.
  Its worst image decides; it is bad when any of its images is.
- **each**: every image is an inspection of its own, e.g. of a joint that ages. A bad part escapes
  when *any* of its bad images is judged ``OK``: its mildest bad image decides. Its good images
  count as a good part, by the worst of them.

What holds for *each* holds for *together* as well: where no bad image is ``OK``, no bad part is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.bundle import PartCounts
from lineside.bundle.evidence import PartImages
from lineside.candidate import SampleSet
from lineside.contract import HeadSpec, LabelledHead, LimitRule

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PartScores:
    """What the rule decides by, one figure a part; the higher, the worse, whatever `worse` says.

    Attributes:
        engine, precision: of the form that computed the scores.
        bad: (B,) float64, finite: of bad parts.
        good: (G,) float64, finite: of good parts.
    """

    engine: str
    precision: str
    bad: FloatArray
    good: FloatArray


def bad_images(targets: FloatArray, head: HeadSpec, truth: LimitRule) -> FloatArray:
    """Which images show a bad part, by what is known of it.

    Args:
        targets: (N,) float64, NaN where unknown; of a head with classes the place of the class.
        head: of the contract.
        truth: of a regression: targets beyond its `ok_limit` are bad. A head with classes does
            not look at it: bad is what is none of the good ones.

    Returns:
        (N,) float64: 1 bad, 0 good, NaN unknown.
    """
    if isinstance(head, LabelledHead):
        good = [head.classes.index(name) for name in head.good]
        bad = ~np.isin(targets, good)
    else:
        bad = truth.sign * targets > truth.sign * truth.ok_limit
    return np.where(np.isnan(targets), np.nan, bad.astype(np.float64))


def known_bad(samples: SampleSet, head: HeadSpec) -> bool:
    """Whether the classes say of any of these images that it shows a bad part."""
    nothing = LimitRule(ok_limit=0.0, not_ok_limit=0.0)
    return isinstance(head, LabelledHead) and bool(
        (bad_images(samples.targets, head, nothing) == 1.0).any()
    )


def mixed_part(bad: FloatArray, parts: Sequence[str]) -> str:
    """The first part with good and with bad images, "" where there is none.

    Args:
        bad: (N,) as `bad_images` gives it.
        parts: N part ids.
    """
    seen: dict[str, float] = {}
    for part, kind in zip(parts, bad.tolist(), strict=True):
        if not np.isnan(kind) and seen.setdefault(part, kind) != kind:
            return part
    return ""


def part_scores(
    scores: FloatArray,
    bad: FloatArray,
    parts: Sequence[str],
    *,
    rule: LimitRule,
    part_images: PartImages,
    engine: str,
    precision: str,
) -> PartScores:
    """Condense the scores of images to those of parts; images of unknown kind are left out.

    Args:
        scores: (N,) float64, finite, in the rule's unit.
        bad: (N,) as `bad_images` gives it.
        parts: N part ids.
        rule: says which scores are the worse ones.
        part_images: as above.
        engine, precision: of the form that gave the scores.
    """
    known = ~np.isnan(bad)
    names, home = np.unique(np.asarray(parts, dtype=np.str_)[known], return_inverse=True)
    worst = np.full((2, len(names)), -np.inf)  # of each part's good images, of its bad ones
    kind = bad[known].astype(np.int64)
    badness = rule.sign * scores[known]
    np.maximum.at(worst, (kind, home), badness)
    mildest = np.full(len(names), np.inf)
    np.minimum.at(mildest, home[kind == 1], badness[kind == 1])
    is_bad, has_good = np.isfinite(mildest), np.isfinite(worst[0])
    if part_images == "together":
        mildest, has_good = worst.max(axis=0), ~is_bad
    return PartScores(
        engine=engine, precision=precision, bad=mildest[is_bad], good=worst[0][has_good]
    )


def count_parts(scored: PartScores, rule: LimitRule) -> PartCounts:
    """How the rule judges these parts."""
    ok_limit, not_ok_limit = rule.sign * rule.ok_limit, rule.sign * rule.not_ok_limit
    bad, good = scored.bad, scored.good
    return PartCounts(
        engine=scored.engine,
        precision=scored.precision,
        bad=len(bad),
        escaped=int((bad <= ok_limit).sum()),
        bad_reviewed=int(((bad > ok_limit) & (bad <= not_ok_limit)).sum()),
        good=len(good),
        overkilled=int((good > not_ok_limit).sum()),
        good_reviewed=int(((good > ok_limit) & (good <= not_ok_limit)).sum()),
    )


def samples_sha256(samples: SampleSet) -> str:
    """SHA-256 (64 hex) of a sample set: each frame's size and pixels, its target, its part."""
    digest = hashlib.sha256()
    for frame, target, part in zip(
        samples.frames_hwc, samples.targets.tolist(), samples.parts, strict=True
    ):
        digest.update(f"{frame.shape} {frame.dtype.str} {target!r} {part!r}\n".encode())
        digest.update(np.ascontiguousarray(frame).tobytes())
    return digest.hexdigest()
