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
    sign = 1.0 if rule.worse == "higher" else -1.0
    if sign * score <= sign * rule.ok_limit:
        return Evaluation.OK, Reason.WITHIN_LIMIT, rule.ok_limit
    if sign * score > sign * rule.not_ok_limit:
        return Evaluation.NOT_OK, Reason.BEYOND_LIMIT, rule.not_ok_limit
    return Evaluation.NOT_DECIDABLE, Reason.BETWEEN_LIMITS, rule.not_ok_limit
