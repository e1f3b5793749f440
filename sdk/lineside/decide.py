"""Score to evaluation, by rule. Pure."""

from __future__ import annotations

import math

from lineside.contract import LimitRule
from lineside.verdict import Evaluation, Reason


def decide(score: float, rule: LimitRule) -> tuple[Evaluation, Reason, float]:
    """Apply the rule.

    Args:
        score: in the rule's unit.
        rule: the sealed limits.

    Returns:
        The evaluation, why, and the limit that the score was held against.
    """
    if not math.isfinite(score):
        return Evaluation.NOT_DECIDABLE, Reason.SCORE_NOT_FINITE, rule.not_ok_limit
    badness = rule.sign * score
    if badness <= rule.sign * rule.ok_limit:
        return Evaluation.OK, Reason.WITHIN_LIMIT, rule.ok_limit
    if badness > rule.sign * rule.not_ok_limit:
        return Evaluation.NOT_OK, Reason.BEYOND_LIMIT, rule.not_ok_limit
    return Evaluation.NOT_DECIDABLE, Reason.BETWEEN_LIMITS, rule.not_ok_limit


def find_loosening(sealed: LimitRule, proposed: LimitRule) -> str:
    """What a proposed rule would let pass that the sealed one does not.

    A tighter rule judges no score milder: ``OK`` may become ``NOT_DECIDABLE`` or ``NOT_OK``, and
    ``NOT_DECIDABLE`` may become ``NOT_OK``, never the other way. So a guarantee on escapes outlives
    it; the share of parts that go to review may grow.

    Args:
        sealed: the rule of the bundle.
        proposed: what a station would use instead.

    Returns:
        "" where it tightens or changes nothing; else why it may not be used, with both figures.
    """
    if (proposed.worse, proposed.unit) != (sealed.worse, sealed.unit):
        return (
            f"the rule is for scores in {proposed.unit!r}, {proposed.worse} being worse; sealed is "
            f"{sealed.unit!r}, {sealed.worse} being worse"
        )
    for field in ("ok_limit", "not_ok_limit"):
        before, now = getattr(sealed, field), getattr(proposed, field)
        if not math.isfinite(now):
            return f"{field} {now} is not a finite number"
        if sealed.sign * now > sealed.sign * before:
            beyond = "raises" if sealed.worse == "higher" else "lowers"
            return f"{field} {now:g} {beyond} the sealed {before:g}: a station may only tighten"
    return ""
