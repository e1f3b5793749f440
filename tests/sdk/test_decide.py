"""The rule: pure, total, and never OK for what is not a number."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.contract import LimitRule
from lineside.decide import decide, find_loosening
from lineside.verdict import Evaluation, Reason

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


@st.composite
def rules(draw: st.DrawFn) -> LimitRule:
    first, second = sorted([draw(finite), draw(finite)])
    if draw(st.booleans()):
        return LimitRule(ok_limit=first, not_ok_limit=second)
    return LimitRule(ok_limit=second, not_ok_limit=first, worse="lower")


SEVERITY = {Evaluation.OK: 0, Evaluation.NOT_DECIDABLE: 1, Evaluation.NOT_OK: 2}


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
    better, worse = sorted(scores, reverse=rule.worse == "lower")
    assert SEVERITY[decide(better, rule)[0]] <= SEVERITY[decide(worse, rule)[0]]


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


small = st.integers(-3, 3).map(float)


@st.composite
def small_rules(draw: st.DrawFn) -> LimitRule:
    """So few limits that equal ones and changes of either one alone are common."""
    first, second = sorted([draw(small), draw(small)])
    if draw(st.booleans()):
        return LimitRule(ok_limit=first, not_ok_limit=second)
    return LimitRule(ok_limit=second, not_ok_limit=first, worse="lower")


@given(sealed=small_rules(), proposed=small_rules())
def test_a_rule_tightens_exactly_when_it_judges_no_score_milder(
    sealed: LimitRule, proposed: LimitRule
) -> None:
    scores = [half / 2 for half in range(-8, 9)]
    milder = [
        s for s in scores if SEVERITY[decide(s, proposed)[0]] < SEVERITY[decide(s, sealed)[0]]
    ]
    told = find_loosening(sealed, proposed)
    assert (told == "") == (sealed.worse == proposed.worse and not milder)


@given(rule=rules())
def test_the_sealed_rule_itself_is_no_loosening(rule: LimitRule) -> None:
    assert find_loosening(rule, rule) == ""


@pytest.mark.parametrize(
    ("proposed", "words"),
    [
        (LimitRule(ok_limit=0.3, not_ok_limit=0.4), "ok_limit 0.3 raises the sealed 0.2"),
        (LimitRule(ok_limit=0.2, not_ok_limit=0.5), "not_ok_limit 0.5 raises the sealed 0.4"),
        (LimitRule(ok_limit=0.2, not_ok_limit=0.1, worse="lower"), "lower being worse"),
        (LimitRule(ok_limit=0.2, not_ok_limit=0.4, unit="mm"), "'mm'"),
        (LimitRule(ok_limit=-math.inf, not_ok_limit=0.4), "ok_limit -inf is not a finite"),
    ],
)
def test_why_a_rule_may_not_be_used_is_told(proposed: LimitRule, words: str) -> None:
    assert words in find_loosening(LimitRule(ok_limit=0.2, not_ok_limit=0.4), proposed)


def test_where_lower_is_worse_a_lower_limit_loosens() -> None:
    sealed = LimitRule(ok_limit=0.9, not_ok_limit=0.5, worse="lower")
    lower = LimitRule(ok_limit=0.8, not_ok_limit=0.5, worse="lower")
    assert "ok_limit 0.8 lowers the sealed 0.9" in find_loosening(sealed, lower)
    assert find_loosening(lower, sealed) == ""
