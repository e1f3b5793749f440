"""The rule: pure, total, and never OK for what is not a number."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.contract import LimitRule
from lineside.decide import decide
from lineside.verdict import Evaluation, Reason

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


@st.composite
def rules(draw: st.DrawFn) -> LimitRule:
    first, second = sorted([draw(finite), draw(finite)])
    if draw(st.booleans()):
        return LimitRule(ok_limit=first, not_ok_limit=second)
    return LimitRule(ok_limit=second, not_ok_limit=first, worse="lower")


@given(rule=rules(), score=st.sampled_from([math.nan, math.inf, -math.inf]))
def test_what_is_not_finite_is_never_ok(rule: LimitRule, score: float) -> None:
    evaluation, reason, _ = decide(score, rule)
    assert (evaluation, reason) == (Evaluation.NOT_DECIDABLE, Reason.SCORE_NOT_FINITE)


@given(rule=rules(), score=finite)
def test_the_limit_named_is_the_one_that_decided(rule: LimitRule, score: float) -> None:
    evaluation, reason, limit = decide(score, rule)
    sign = 1 if rule.worse == "higher" else -1
    beyond = sign * score > sign * limit
    if evaluation is Evaluation.OK:
        assert (reason, limit, beyond) == (Reason.WITHIN_LIMIT, rule.ok_limit, False)
    elif evaluation is Evaluation.NOT_OK:
        assert (reason, limit, beyond) == (Reason.BEYOND_LIMIT, rule.not_ok_limit, True)
    else:
        assert evaluation is Evaluation.NOT_DECIDABLE
        assert (reason, limit) == (Reason.BETWEEN_LIMITS, rule.not_ok_limit)
        assert sign * rule.ok_limit < sign * score <= sign * rule.not_ok_limit


@given(rule=rules(), scores=st.tuples(finite, finite))
def test_a_worse_score_is_never_judged_better(rule: LimitRule, scores: tuple[float, float]) -> None:
    severity = {Evaluation.OK: 0, Evaluation.NOT_DECIDABLE: 1, Evaluation.NOT_OK: 2}
    better, worse = sorted(scores, reverse=rule.worse == "lower")
    assert severity[decide(better, rule)[0]] <= severity[decide(worse, rule)[0]]


@given(rule=rules())
def test_the_limit_itself_is_still_good(rule: LimitRule) -> None:
    assert decide(rule.ok_limit, rule)[0] is Evaluation.OK


@given(limit=finite, score=finite)
def test_without_a_gap_everything_is_decided(limit: float, score: float) -> None:
    rule = LimitRule(ok_limit=limit, not_ok_limit=limit)
    assert decide(score, rule)[0] in (Evaluation.OK, Evaluation.NOT_OK)


@pytest.mark.parametrize(("worse", "ok_limit"), [("higher", 2.0), ("lower", 0.0)])
def test_limits_that_cross_are_refused(worse: str, ok_limit: float) -> None:
    with pytest.raises(ValueError, match="cross"):
        LimitRule(ok_limit=ok_limit, not_ok_limit=1.0, worse=worse)  # type: ignore[arg-type]
