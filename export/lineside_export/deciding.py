"""From what was wished for to the rule that is sealed, with its evidence.

Two steps that never mix: limits are chosen on the validation parts; then, where a promise was asked
for, the assurance parts say how far the OK limit must be tightened. The guarantee never loosens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from msgspec.structs import replace

from lineside.bundle import Decision, EscapeGuarantee
from lineside.bundle.evidence import PartImages, Way
from lineside.contract import HeadSpec, LimitRule
from lineside.metrics.binomial import rate_bound
from lineside_export.candidate import Candidate
from lineside_export.errors import CandidateError, ExportError, GuaranteeError
from lineside_export.guarantee import Proof, limit_grid, parts_needed, prove
from lineside_export.headrule import head_rule
from lineside_export.limits import (
    Costs,
    Tally,
    at_least_recall,
    best_f1,
    least_cost,
    overkill_bound,
    overkill_limit,
    tally,
    within_overkill,
)
from lineside_export.parity import Measurement
from lineside_export.partscores import (
    FloatArray,
    PartScores,
    bad_images,
    count_parts,
    mixed_part,
    part_scores,
    samples_sha256,
)

OVERKILL_CONFIDENCE: Final = 0.95
_CHOSEN_BY: Final[dict[Way, tuple[float, ...]]] = {
    "fixed": (),
    "best-f1": (1.0,),
    "recall": (1.0,),
    "cost": (0.0, 1.0),
    "overkill": (0.0,),
}
"""Which parts must be among the validation ones: bad ones 1, good ones 0."""


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What is to be proven.

    Attributes:
        max_escape: bad parts judged ``OK`` / bad parts, above 0 and below 1.
        confidence: likewise.
        date: `YYYY-MM-DD`, sealed with it.
    """

    max_escape: float
    confidence: float
    date: str


@dataclass(frozen=True, kw_only=True)
class RuleWish:
    """How the limits shall be set.

    Attributes:
        start: the limits given or proposed; of a regression also what targets are bad beyond.
        way: ``fixed`` takes them as they are.
        min_recall: of ``recall``: bad parts beyond the limit / bad parts.
        costs: of ``cost``.
        max_overkill: good parts judged ``NOT_OK`` / good parts: of ``overkill`` both limits are
            where that holds on the validation parts; of the other ways the NOT_OK limit is moved
            out until it does, and ``None`` leaves it.
        part_images: see `partscores`; ``None``: together, unless a part has good and bad images.
        promise: ``None``: nothing is to be proven.
    """

    start: LimitRule
    way: Way = "fixed"
    min_recall: float | None = None
    costs: Costs | None = None
    max_overkill: float | None = None
    part_images: PartImages | None = None
    promise: Promise | None = None

    @property
    def numbers(self) -> dict[str, float]:
        """What was asked for, by name, for the manifest."""
        costs = self.costs
        found = {
            "min_recall": self.min_recall,
            "max_overkill": self.max_overkill,
            "cost_escape": costs.escape if costs else None,
            "cost_overkill": costs.overkill if costs else None,
            "cost_review": costs.review if costs else None,
        }
        return {name: value for name, value in found.items() if value is not None}


def counted_by(candidate: Candidate, wish: RuleWish) -> tuple[PartImages, str]:
    """How images make a part, and the part that says so, "" where none does or it was told.

    The validation parts alone say it: what is promised is fixed before assurance parts are counted.
    """
    if wish.part_images is not None:
        return wish.part_images, ""
    mixed = _mixed(candidate, "validation", wish)
    return ("each", mixed) if mixed else ("together", "")


def check_wish(candidate: Candidate, wish: RuleWish) -> None:
    """Refuse at once what no score could fulfil; looks at targets only.

    Raises:
        ExportError: there are no parts to choose by.
        GuaranteeError: too few bad assurance parts, however good the model is.
        CandidateError: no assurance samples, though a promise is asked for.
    """
    bad = _bad(candidate, "validation", wish)
    needs = _CHOSEN_BY[wish.way]
    needs = (*needs, 0.0) if wish.max_overkill is not None else needs
    for kind in needs:
        if not (bad == kind).any():
            raise ExportError(_why_no_choice(wish.way, "bad" if kind else "good", bad))
    if wish.promise is None:
        return
    if not len(candidate.samples.get("assurance", ())):
        raise CandidateError(
            f"{candidate.folder}: --max-escape is proven on assurance samples, and there are none: "
            "train again with data.assurance_share, e.g. 0.3, or name assurance parts in the split "
            "column"
        )
    _refuse_unlike_parts(candidate, wish)
    parts = np.asarray(candidate.samples["assurance"].parts)
    count = len(np.unique(parts[_bad(candidate, "assurance", wish) == 1.0]))
    if parts_needed(0, **_asked(wish.promise)) > count:
        why = _why_too_few(wish.promise, bad=count, escaped=0)
        raise _refusal(wish.promise, count, 0, why + _hint(candidate, wish))


def _why_no_choice(way: Way, kind: str, bad: FloatArray) -> str:
    told = f"no {kind} part is among the validation samples with a known target, so "
    remedy = f"give --rule fixed with a --limit, or more {kind} parts"
    if kind == "bad" and way in ("best-f1", "recall") and (bad == 0.0).any():
        figure = "F1" if way == "best-f1" else "recall"
        told += f"there is no {figure}: it counts the bad parts that a limit finds"
        return f"{told}; give --rule overkill, which goes by good parts alone, or {remedy[5:]}"
    return f"{told}no limit can be chosen on them: {remedy}"


def _refuse_unlike_parts(candidate: Candidate, wish: RuleWish) -> None:
    mixed = _mixed(candidate, "assurance", wish)
    if mixed and wish.part_images is None and counted_by(candidate, wish)[0] == "together":
        raise ExportError(
            f"assurance part {mixed!r} has good and bad images, and no validation part has: say "
            "whether the images of a part are views of one inspection (--part-images together) or "
            "inspections each (--part-images each)"
        )


def scored_parts(
    candidate: Candidate, name: str, measured: Sequence[Measurement], wish: RuleWish
) -> tuple[PartScores, ...]:
    """A sample set's parts as each form scores them.

    Args:
        candidate: has the set.
        name: of the set.
        measured: one for each form.
        wish: says what is bad, and how images make a part.
    """
    bad, parts = _bad(candidate, name, wish), candidate.samples[name].parts
    part_images, _ = counted_by(candidate, wish)
    return tuple(
        part_scores(
            found.scores,
            bad,
            parts,
            rule=wish.start,
            part_images=part_images,
            engine=found.engine,
            precision=found.precision,
        )
        for found in measured
    )


def choose_limits(scored: Sequence[PartScores], wish: RuleWish, head: HeadSpec) -> LimitRule:
    """The limits by the wish, without any promise.

    Args:
        scored: the validation parts, by each form to be sealed.
        wish: with parts to choose by, as `check_wish` has seen.
        head: of the contract: a probability has limits of its own.

    Raises:
        ExportError: no limit does what was wished for.
    """
    if wish.way == "fixed" and wish.max_overkill is None:
        return wish.start
    bounds, sign = head_rule(head).bounds, wish.start.sign
    found = tally(scored, bounds)
    if wish.way == "overkill":
        assert wish.max_overkill is not None, "the command line has a default"
        ok = not_ok = _allowed(overkill_limit(scored, wish.max_overkill, bounds), wish)
    else:
        ok, not_ok = _by_way(found, wish, sign)
        if wish.max_overkill is not None:
            not_ok = max(not_ok, _allowed(within_overkill(found, wish.max_overkill), wish))
    # Adding 0.0 makes a plain zero of a negative one.
    return replace(wish.start, ok_limit=sign * ok + 0.0, not_ok_limit=sign * not_ok + 0.0)


def _allowed(limit: float | None, wish: RuleWish) -> float:
    if limit is None:
        raise ExportError(
            f"no NOT_OK limit rejects at most {100 * (wish.max_overkill or 0.0):g} % of the good "
            "validation parts: too many look as bad as can be; train a better model"
        )
    return limit


def examine_limits(
    rule: LimitRule,
    promise: Promise,
    *,
    validation: Sequence[PartScores],
    assurance: Sequence[PartScores],
) -> Proof:
    """Which OK limits, up to the rule's own, keep the promise.

    Args:
        rule: chosen without the assurance parts.
        promise: what to prove.
        validation: gives the grid.
        assurance: of the same forms; at least one bad part.
    """
    grid = limit_grid(validation, rule.sign * rule.ok_limit)
    return prove(grid, assurance, **_asked(promise))


def tighten(
    candidate: Candidate,
    rule: LimitRule,
    wish: RuleWish,
    proof: Proof,
    assurance: Sequence[PartScores],
) -> tuple[LimitRule, EscapeGuarantee]:
    """The rule that keeps the promise, and the evidence for it.

    Args:
        candidate: whose assurance samples it is.
        rule: as it was tested.
        wish: with the promise that was.
        proof: what came out.
        assurance: what it came out of.

    Raises:
        GuaranteeError: not even the safest limit keeps it.
    """
    promise = wish.promise
    assert promise is not None, "limits are examined for one"
    if not proof.proven:
        why = _why_missed(promise, bad=proof.bad, escaped=int(proof.escaped[0]))
        raise _refusal(promise, proof.bad, int(proof.escaped[0]), why + _hint(candidate, wish))
    tightened = replace(rule, ok_limit=rule.sign * proof.loosest + 0.0)
    samples = candidate.samples["assurance"]
    bound = rate_bound(
        int(proof.escaped[proof.proven - 1]), proof.bad, confidence=promise.confidence
    )
    return tightened, EscapeGuarantee(
        max_escape=promise.max_escape,
        confidence=promise.confidence,
        ok_limit=tightened.ok_limit,
        escape_bound=bound,
        limits_tested=len(proof.limits),
        limits_proven=proof.proven,
        assurance=tuple(count_parts(found, tightened) for found in assurance),
        unknown_samples=int(np.isnan(samples.targets).sum()),
        assurance_sha256=samples_sha256(samples),
        date=promise.date,
    )


def describe_decision(
    candidate: Candidate, wish: RuleWish, rule: LimitRule, validation: Sequence[PartScores]
) -> Decision:
    """How the limits came about, with what the sealed rule does to the validation parts."""
    part_images, _ = counted_by(candidate, wish)
    good = len(validation[0].good)
    known = bool(len(validation[0].bad) + good)
    bound = None
    if wish.way == "overkill" and wish.max_overkill is not None:
        bound = overkill_bound(wish.max_overkill, good, confidence=OVERKILL_CONFIDENCE)
    return Decision(
        way=wish.way,
        wishes=wish.numbers,
        part_images=part_images,
        validation=tuple(count_parts(found, rule) for found in validation) if known else (),
        overkill_bound=bound,
    )


def _bad(candidate: Candidate, name: str, wish: RuleWish) -> FloatArray:
    return bad_images(candidate.samples[name].targets, candidate.contract.head, wish.start)


def _mixed(candidate: Candidate, name: str, wish: RuleWish) -> str:
    return mixed_part(_bad(candidate, name, wish), candidate.samples[name].parts)


def _asked(promise: Promise) -> dict[str, float]:
    return {"max_escape": promise.max_escape, "confidence": promise.confidence}


def _by_way(found: Tally, wish: RuleWish, sign: float) -> tuple[float, float]:
    if wish.way == "cost":
        assert wish.costs is not None, "the command line asks for them"
        return least_cost(found, wish.costs)
    if wish.way == "best-f1":
        limit: float | None = best_f1(found)
    elif wish.way == "recall":
        assert wish.min_recall is not None, "the command line asks for it"
        limit = at_least_recall(found, wish.min_recall)
    else:
        return sign * wish.start.ok_limit, sign * wish.start.not_ok_limit
    if limit is None:
        raise ExportError(
            f"no limit finds {100 * (wish.min_recall or 0.0):g} % of the bad validation parts: "
            "some look as good as can be; lower --min-recall, or train a better model"
        )
    return limit, limit


def _refusal(promise: Promise, bad: int, escaped: int, why: str) -> GuaranteeError:
    needed = parts_needed(escaped, **_asked(promise))
    return GuaranteeError(
        f"an escape rate of at most {100 * promise.max_escape:g} % with "
        f"{100 * promise.confidence:g} % confidence cannot be promised: {why}. No bundle was "
        "written",
        bad_parts=bad,
        escaped=escaped,
        parts_missing=max(0, needed - bad),
    )


def _why_missed(promise: Promise, *, bad: int, escaped: int) -> str:
    if escaped < promise.max_escape * bad:
        return _why_too_few(promise, bad=bad, escaped=escaped)
    return (
        f"of {bad} bad assurance parts {escaped} are judged OK at the safest limit. That is "
        f"{100 * escaped / bad:.3g} %, so more parts like these would not help: train a model that "
        "tells them apart, or promise less"
    )


def _why_too_few(promise: Promise, *, bad: int, escaped: int) -> str:
    """How many there were, how many of them pass, how many more it takes."""
    needed = parts_needed(escaped, **_asked(promise))
    told = f"even if none of them is judged OK, {needed} are needed"
    if escaped:
        told = f"with {escaped} of them judged OK at the safest limit, {needed} are needed"
    # What so many parts prove at best may be told: it does not hang on how they were judged, so
    # whoever asks for that instead has not looked at the answer.
    best = rate_bound(0, bad, confidence=promise.confidence)
    return (
        f"there are {bad} bad assurance parts; {told}: bring {needed - bad} more bad parts "
        "(data.assurance_share of the trainer, or its split column), or promise less: so few prove "
        f"{100 * best:.3g} % if none of them escapes"
    )


def _hint(candidate: Candidate, wish: RuleWish) -> str:
    _, mixed = counted_by(candidate, wish)
    if not mixed:
        return ""
    return (
        f". Part {mixed!r} has good and bad images, so each image counts as an inspection: if they "
        "are views of one, give --part-images together"
    )
