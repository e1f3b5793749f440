"""Rankings by a score, one limit, and test sets redrawn: by hand, and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineside.contract import LimitRule
from lineside.decide import decide
from lineside.metrics import (
    at_prevalence,
    auroc,
    best_f1,
    by_part_interval,
    f1,
    midway,
    precision,
    precision_recall_curve,
    recall,
    roc_curve,
)
from lineside.verdict import Evaluation

Ranked = tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]

# Few values, so that equal scores are common; far apart and negative ones too.
scores = st.sampled_from([-1.0, 0.0, 0.5, 1.0]) | st.floats(-1e6, 1e6, allow_subnormal=False)


@st.composite
def ranked(draw: st.DrawFn, *, least: int = 2) -> Ranked:
    """Both kinds, scores, and whole weights above 0."""
    count = draw(st.integers(least, 14))
    bad = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    bad[0], bad[-1] = True, False
    weights = np.array(draw(st.lists(st.integers(1, 3), min_size=count, max_size=count)), float)
    return bad, np.array(draw(st.lists(scores, min_size=count, max_size=count))), weights


@given(ranked())
def test_auroc_counts_pairs_and_agrees_with_another_implementation(sample: Ranked) -> None:
    bad, values, weights = sample
    won = np.sign(values[bad][:, None] - values[~bad]) / 2 + 0.5
    pairs = np.outer(weights[bad], weights[~bad])
    ours = float(auroc(bad, values, weights))
    assert ours == pytest.approx((won * pairs).sum() / pairs.sum(), abs=1e-12)
    assert ours == pytest.approx(oracle.roc_auc_score(bad, values, sample_weight=weights))
    assert float(auroc(bad, -values, weights)) == pytest.approx(1.0 - ours, abs=1e-12)


@pytest.mark.parametrize(
    ("bad", "values", "area"),
    [
        ([1, 1, 0], [3, 2, 1], 1.0),
        ([0, 0, 1], [3, 2, 1], 0.0),
        ([1, 0, 1, 0], [4, 3, 2, 1], 0.75),
        ([1, 0], [2, 2], 0.5),  # equal scores: half
        ([1, 1], [1, 2], math.nan),
        ([0, 0], [1, 2], math.nan),
    ],
)
def test_auroc_by_hand(bad: list[int], values: list[float], area: float) -> None:
    assert float(auroc(bad, values)) == pytest.approx(area, nan_ok=True)


@given(ranked(), st.integers(0, 3))
def test_weights_of_auroc_are_repetitions(sample: Ranked, more: int) -> None:
    bad, values, weights = sample
    both = np.stack([weights, weights + more * bad])
    for row, found in zip(both.astype(int), auroc(bad, values, both), strict=True):
        assert found == pytest.approx(float(auroc(np.repeat(bad, row), np.repeat(values, row))))


def test_auroc_has_an_interval_by_part() -> None:
    bad = np.arange(60) % 3 == 0
    values = np.random.default_rng(0).standard_normal(60) + bad
    interval = by_part_interval(lambda w: auroc(bad, values, w), np.arange(60) // 2)
    assert interval.low < float(auroc(bad, values)) == interval.value < interval.high


@given(ranked())
def test_curves_are_those_of_another_implementation(sample: Ranked) -> None:
    bad, values, weights = sample
    roc = roc_curve(bad, values, weights)
    false_alarm, hit, _ = oracle.roc_curve(
        bad, values, sample_weight=weights, drop_intermediate=False
    )
    np.testing.assert_allclose(roc.false_alarm, false_alarm)
    np.testing.assert_allclose(roc.recall, hit)
    curve = precision_recall_curve(bad, values, weights)
    theirs, found, _ = oracle.precision_recall_curve(bad, values, sample_weight=weights)
    # Theirs runs from the lowest score, and ends in a point where nothing is flagged.
    np.testing.assert_allclose(curve.precision, theirs[-2::-1])
    np.testing.assert_allclose(curve.recall, found[-2::-1])


@given(ranked())
def test_every_point_of_a_curve_is_what_its_limit_gives(sample: Ranked) -> None:
    bad, values, weights = sample
    roc = roc_curve(bad, values, weights)
    for limit, hit in zip(roc.limits, roc.recall, strict=True):
        assert float(recall(bad, values, limit, weights)) == pytest.approx(hit)
    curve = precision_recall_curve(bad, values, weights)
    for limit, exact in zip(curve.limits, curve.precision, strict=True):
        assert float(precision(bad, values, limit, weights)) == pytest.approx(exact)


@given(ranked(), scores)
def test_figures_at_a_limit_are_those_of_decide(sample: Ranked, limit: float) -> None:
    bad, values, weights = sample
    rule = LimitRule(ok_limit=limit, not_ok_limit=limit, worse="higher", unit="1")
    flagged = np.array([decide(v, rule)[0] is Evaluation.NOT_OK for v in values])
    how = {"sample_weight": weights, "zero_division": math.nan}
    assert float(recall(bad, values, limit, weights)) == pytest.approx(
        oracle.recall_score(bad, flagged, **how)
    )
    assert float(precision(bad, values, limit, weights)) == pytest.approx(
        oracle.precision_score(bad, flagged, **how), nan_ok=True
    )
    assert float(f1(bad, values, limit, weights)) == pytest.approx(
        oracle.f1_score(bad, flagged, sample_weight=weights)
    )


def test_what_is_undefined_is_no_number() -> None:
    assert math.isnan(float(precision([True, False], [1, 2], 2)))  # 2 is not above 2
    assert float(recall([True, False], [1, 2], 2)) == 0.0
    assert float(f1([True, False], [1, 2], 2)) == 0.0
    assert float(precision([False, False], [1, 2], 1)) == 0.0
    assert math.isnan(float(recall([False, False], [1, 2], 1)))
    assert math.isnan(float(f1([False, False], [1, 2], 1)))
    assert math.isnan(best_f1([False], [1]).value)
    assert math.isnan(best_f1([False], [1]).limit)


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_not_quietly_ok(score: float) -> None:
    for figure in (precision, recall, f1):
        with pytest.raises(ValueError, match="not finite"):
            figure([True, False], [score, 1.0], 0.5)
    for ranking in (auroc, roc_curve, precision_recall_curve, best_f1):
        with pytest.raises(ValueError, match="not finite"):
            ranking([True, False], [score, 1.0])
    with pytest.raises(ValueError, match="limit"):
        recall([True, False], [0.0, 1.0], math.nan)


@given(ranked())
def test_no_limit_has_a_higher_f1_and_no_lower_one_as_high(sample: Ranked) -> None:
    bad, values, weights = sample
    best = best_f1(bad, values, weights)
    assert float(f1(bad, values, best.limit, weights)) == pytest.approx(best.value)
    assert best.limit not in values or midway(*_neighbours(values, best.limit)) == best.limit
    for limit in (*values, values.min() - 1.0):
        found = float(f1(bad, values, limit, weights))
        assert found <= best.value + 1e-12
        # Fewest escapes: whoever flags more has a lower F1.
        if (values > limit).sum() > (values > best.limit).sum():
            assert found < best.value


def _neighbours(values: NDArray[np.float64], limit: float) -> tuple[float, float]:
    return float(values[values <= limit].max()), float(values[values > limit].min())


def test_best_f1_by_hand() -> None:
    found = best_f1([0, 0, 1, 0, 1, 1], [1, 2, 3, 4, 5, 7])
    assert found.value == pytest.approx(2 * 0.75 / 1.75)  # 3, 4, 5 and 7 flagged
    assert found.limit == 2.5
    # 6 for one hit of two, 0.667; so have 2.5 for two of four and all but one escape less
    assert best_f1([0, 0, 1], [1, 2, 3]).limit == 2.5
    assert best_f1([1, 0], [1, 3]).limit == 0.0  # all flagged: as far below 1 as 2 is above
    assert best_f1([1, 1], [5, 5]).limit < 5.0
    assert best_f1([1, 0, 0], [3, 2, 1], [1, 0, 1]).limit == 2.0  # 2 is not there


@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300))
def test_midway_parts_any_two_numbers(one: float, other: float) -> None:
    lower, upper = sorted([one, other])
    if lower < upper:
        assert lower <= midway(lower, upper) < upper
    near = math.nextafter(lower, math.inf)
    assert lower <= midway(lower, near) < near


def test_at_a_prevalence_precision_follows_and_recall_stays() -> None:
    bad = np.arange(1000) < 40
    values = np.where(bad, np.arange(1000) % 4 < 3, np.arange(1000) % 10 == 0).astype(float)
    # 30 of 40 bad and 96 of 960 good ones are flagged.
    found = at_prevalence(bad, values, 0.5, prevalence=0.44, draws=2000)
    assert found.recall.mean == pytest.approx(0.75, abs=0.01)
    expected = 0.44 * 0.75 / (0.44 * 0.75 + 0.56 * 0.1)
    assert found.precision.mean == pytest.approx(expected, abs=0.01)
    assert found.f1.mean == pytest.approx(2 * expected * 0.75 / (expected + 0.75), abs=0.01)
    # Binomial: sqrt(0.75 x 0.25 / 40) = 0.068; 2000 draws know it to 1.6 %, 4 sigmas.
    assert found.recall.std == pytest.approx(math.sqrt(0.75 * 0.25 / 40), rel=0.065)
    assert found.recall.draws == 2000


def test_the_share_of_a_test_set_itself_changes_nothing_but_the_draw() -> None:
    bad = np.array([1, 1, 0, 0, 0], dtype=bool)
    flag_all = at_prevalence(bad, np.ones(5), 0.0, prevalence=0.4, draws=50)
    assert flag_all.precision.mean == pytest.approx(0.4)
    assert flag_all.precision.std == pytest.approx(0.0, abs=1e-12)
    assert flag_all.f1.mean == pytest.approx(2 * 0.4 / 1.4)


@given(st.integers(0, 2**31), st.floats(0.01, 0.99))
def test_draws_are_seeded_and_names_of_parts_do_not_matter(seed: int, share: float) -> None:
    bad = np.array([1, 0, 0, 1, 0, 0], dtype=bool)
    values = np.array([3.0, 1.0, 4.0, 1.0, 2.0, 0.0])
    numbers = np.array([0, 0, 1, 1, 2, 2])
    names = np.array([f"part-{n}" for n in numbers])
    one = at_prevalence(bad, values, 1.5, prevalence=share, parts=numbers, draws=70, seed=seed)
    assert one == at_prevalence(
        bad, values, 1.5, prevalence=share, parts=names, draws=70, seed=seed
    )
    assert one.share == share


def test_whole_parts_are_drawn_so_that_alike_images_do_not_narrow_the_spread() -> None:
    bad = np.arange(80) < 40
    values = (np.arange(80) % 2).astype(float)
    once = at_prevalence(bad, values, 0.5, prevalence=0.44)
    four = {"prevalence": 0.44, "parts": np.repeat(np.arange(80), 4)}
    alike = at_prevalence(np.repeat(bad, 4), np.repeat(values, 4), 0.5, **four)
    assert alike.recall.std == pytest.approx(once.recall.std)
    loose = at_prevalence(np.repeat(bad, 4), np.repeat(values, 4), 0.5, prevalence=0.44)
    assert loose.recall.std < 0.6 * once.recall.std  # half, of four times as many


def test_without_good_or_bad_images_there_is_no_such_test_set() -> None:
    for bad in (np.zeros(4, bool), np.ones(4, bool)):
        found = at_prevalence(bad, np.arange(4.0), 1.5, prevalence=0.44, draws=10)
        assert math.isnan(found.f1.mean) and found.f1.draws == 0
    nothing = at_prevalence([True, False], [0.0, 1.0], 2.0, prevalence=0.44, draws=10)
    assert math.isnan(nothing.precision.mean) and nothing.f1.mean == 0.0
    for share in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="prevalence"):
            at_prevalence([True, False], [0.0, 1.0], 2.0, prevalence=share)
    with pytest.raises(ValueError, match="draws"):
        at_prevalence([True, False], [0.0, 1.0], 2.0, prevalence=0.5, draws=0)
