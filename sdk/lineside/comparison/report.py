"""What came out of a comparison, counted: by image where they differ, by part who is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from lineside.comparison.folder import ImageFolder
from lineside.comparison.judging import Flip, Judged, median_us, worst
from lineside.inspector import Inspector
from lineside.metrics import rate_interval, sign_test
from lineside.verdict import Evaluation, Verdict

# An evaluation that newer software gives would be UNDEFINED: for a person it decides nothing.
SHOWN = (Evaluation.OK, Evaluation.NOT_OK, Evaluation.NOT_DECIDABLE)
SIGNIFICANT = 0.05


class BundleSide(msgspec.Struct, frozen=True, kw_only=True):
    """One of both bundles.

    Attributes:
        model: first 16 hex digits of its hash.
        unit: of its scores.
        ok_limit, not_ok_limit: as sealed.
        p50_us: median time inside ``inspect``; ``None`` where nothing was inferred.
    """

    file: str
    model: str
    version: str
    engine: str
    unit: str
    ok_limit: float
    not_ok_limit: float
    p50_us: float | None


class RateOfParts(msgspec.Struct, frozen=True, kw_only=True):
    """A count of parts with its exact 95 % interval (Clopper & Pearson 1934)."""

    count: int
    parts: int
    low: float
    high: float


class Paired(msgspec.Struct, frozen=True, kw_only=True):
    """Of the same parts, by both.

    Attributes:
        new, installed: each with its interval.
        only_new, only_installed: parts that only this one got wrong.
        p: McNemar's exact test of these two, two-sided.
    """

    new: RateOfParts
    installed: RateOfParts
    only_new: tuple[str, ...]
    only_installed: tuple[str, ...]
    p: float


class Reviewed(msgspec.Struct, frozen=True, kw_only=True):
    """Against what humans said; a part's evaluation is the worst of its images.

    Attributes:
        escapes: bad parts judged ``OK``, of bad parts.
        overkill: good parts judged ``NOT_OK``, of good parts.
        undecided: good and bad parts that are left to a human, of all reviewed parts.
    """

    escapes: Paired
    overkill: Paired
    undecided: Paired


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `lineside bundle compare` says.

    Attributes:
        agreement: images by what the new bundle says, and within that by what the installed says.
        reviewed: ``None`` where no human spoke of any part.
        other_product, outside: images that were left out, see `ImageFolder`.
    """

    product: str
    images: int
    new: BundleSide
    installed: BundleSide
    agreement: dict[str, dict[str, int]]
    flips: tuple[Flip, ...]
    reviewed: Reviewed | None
    advice: str
    other_product: int = 0
    outside: int = 0

    @property
    def is_worse(self) -> bool:
        """The new bundle passes a bad part that the installed one stops."""
        return self.reviewed is not None and bool(self.reviewed.escapes.only_new)


def compare(
    new: Inspector, installed: Inspector, folder: ImageFolder, judged: Sequence[Judged]
) -> Comparison:
    """Count what both said.

    Args:
        folder: what was judged.
        judged: all of its images, by `judge_both`.
    """
    flips = tuple(_flip(one) for one in judged if one.flips)
    reviewed = _review(judged)
    return Comparison(
        product=new.bundle.manifest.identity.product,
        images=len(judged),
        new=_side(new, [one.new for one in judged]),
        installed=_side(installed, [one.installed for one in judged]),
        agreement=_agreement(judged),
        flips=flips,
        reviewed=reviewed,
        advice=_advise(reviewed, flips, same=new.bundle.hash == installed.bundle.hash),
        other_product=folder.other_product,
        outside=folder.outside,
    )


def _side(inspector: Inspector, verdicts: Sequence[Verdict]) -> BundleSide:
    bundle, rule = inspector.bundle, inspector.limits.sealed
    return BundleSide(
        file=str(bundle.path),
        model=bundle.model_id,
        version=bundle.manifest.identity.version,
        engine=f"{inspector.engine.name}/{inspector.engine.precision}",
        unit=rule.unit,
        ok_limit=rule.ok_limit,
        not_ok_limit=rule.not_ok_limit,
        p50_us=median_us(verdicts),
    )


def _agreement(judged: Sequence[Judged]) -> dict[str, dict[str, int]]:
    counts = {row.name: {column.name: 0 for column in SHOWN} for row in SHOWN}
    for one in judged:
        counts[_shown(one.new)][_shown(one.installed)] += 1
    return counts


def _shown(verdict: Verdict) -> str:
    found = verdict.evaluation
    return (found if found in SHOWN else Evaluation.NOT_DECIDABLE).name


def _flip(one: Judged) -> Flip:
    words = {None: "", True: Evaluation.NOT_OK.name, False: Evaluation.OK.name}
    return Flip(
        file=one.image.name,
        part=one.image.part,
        new=one.new.evaluation.name,
        installed=one.installed.evaluation.name,
        new_score=one.new.score,
        installed_score=one.installed.score,
        disposition=words[one.image.bad],
    )


def _review(judged: Sequence[Judged]) -> Reviewed | None:
    # A part that was bad and is good after repair is two: what a human said goes into the key.
    by_part: dict[tuple[str, bool], list[Judged]] = {}
    for one in judged:
        if one.image.bad is not None:
            by_part.setdefault((one.image.part, one.image.bad), []).append(one)
    if not by_part:
        return None
    bad = {key: ones for key, ones in by_part.items() if key[1]}
    good = {key: ones for key, ones in by_part.items() if not key[1]}
    return Reviewed(
        escapes=_pair(bad, Evaluation.OK),
        overkill=_pair(good, Evaluation.NOT_OK),
        undecided=_pair(by_part, Evaluation.NOT_DECIDABLE),
    )


def _pair(parts: Mapping[tuple[str, bool], Sequence[Judged]], counted: Evaluation) -> Paired:
    new = {key for key, ones in parts.items() if worst([one.new for one in ones]) is counted}
    installed = {
        key for key, ones in parts.items() if worst([one.installed for one in ones]) is counted
    }
    return Paired(
        new=_rate(len(new), len(parts)),
        installed=_rate(len(installed), len(parts)),
        only_new=tuple(sorted(part for part, _ in new - installed)),
        only_installed=tuple(sorted(part for part, _ in installed - new)),
        p=sign_test(len(new - installed), len(installed - new)),
    )


def _rate(count: int, parts: int) -> RateOfParts:
    low, high = rate_interval(count, parts)
    return RateOfParts(count=count, parts=parts, low=low, high=high)


def _advise(reviewed: Reviewed | None, flips: Sequence[Flip], *, same: bool) -> str:
    if same:
        return "Both files hold the same bundle: there is nothing to choose."
    if reviewed is None:
        return (
            f"Nobody has said who is right: have somebody look at the {len(flips)} flip(s), send "
            "what is found as dispositions, and collect again."
            if flips
            else "Both say the same of every image; nobody has said whether it is right."
        )
    more = ""
    if _is_more(reviewed.undecided):
        more = " It leaves more parts to a human."
    return _advise_reviewed(reviewed) + more


def _advise_reviewed(reviewed: Reviewed) -> str:
    escapes, overkill = reviewed.escapes, reviewed.overkill
    if escapes.only_new:
        return (
            f"NEW passes {len(escapes.only_new)} bad part(s) that INSTALLED stops: look at them "
            "before you install it."
        )
    if _is_more(overkill):
        return "NEW rejects more good parts than INSTALLED: install it only if that is worth it."
    better = [
        words
        for words, pair in (("stops more bad", escapes), ("rejects fewer good", overkill))
        if pair.p < SIGNIFICANT
    ]
    if better:
        return (
            f"NEW {' and '.join(better)} parts than INSTALLED here, and passes no bad part that "
            "INSTALLED stops."
        )
    return (
        f"No difference is shown on {escapes.new.parts} bad and {overkill.new.parts} good reviewed "
        "part(s); more dispositions could show one."
    )


def _is_more(pair: Paired) -> bool:
    """Shown to be more of the new bundle's."""
    return pair.p < SIGNIFICANT and len(pair.only_new) > len(pair.only_installed)
