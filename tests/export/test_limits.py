"""Parts out of images, and limits chosen on them: each way against trying every limit."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.candidate import SampleSet
from lineside.contract import ClassificationHead, LimitRule, RegressionHead
from lineside.decide import decide
from lineside.verdict import Evaluation
from lineside_export.limits import (
    Costs,
    at_least_recall,
    best_f1,
    least_cost,
    overkill_allowed,
    overkill_bound,
    overkill_limit,
    tally,
    within_overkill,
)
from lineside_export.partscores import (
    PartScores,
    bad_images,
    count_parts,
    mixed_part,
    part_scores,
    samples_sha256,
)

NUMBER = RegressionHead(target="x")
CLASSES = ClassificationHead(target="c", classes=("crack", "good", "spare"), good=("good", "spare"))
HIGHER = LimitRule(ok_limit=0.2, not_ok_limit=0.3)
LOWER = LimitRule(ok_limit=0.2, not_ok_limit=0.1, worse="lower")
NAN = float("nan")

steps = st.integers(-3, 3).map(float)
some = st.lists(steps, min_size=1, max_size=12)


def scored(bad: list[float], good: list[float]) -> PartScores:
    return PartScores(
        engine="a", precision="int8", bad=np.array(bad, float), good=np.array(good, float)
    )


def test_what_is_bad_comes_from_targets() -> None:
    targets = np.array([0.1, 0.2, 0.21, NAN])
    np.testing.assert_equal(bad_images(targets, NUMBER, HIGHER), [0, 0, 1, NAN])
    np.testing.assert_equal(bad_images(targets, NUMBER, LOWER), [1, 0, 0, NAN])
    classes = np.array([0.0, 1.0, 2.0, NAN])
    np.testing.assert_equal(bad_images(classes, CLASSES, HIGHER), [1, 0, 0, NAN])


@st.composite
def images(draw: st.DrawFn) -> tuple[list[float], list[float], list[str]]:
    count = draw(st.integers(1, 20))
    parts = draw(st.lists(st.sampled_from("pqrs"), min_size=count, max_size=count))
    bad = draw(st.lists(st.sampled_from([0.0, 1.0, NAN]), min_size=count, max_size=count))
    return draw(st.lists(steps, min_size=count, max_size=count)), bad, parts


@given(images(), st.sampled_from(["higher", "lower"]), steps, st.integers(0, 2))
def test_counts_are_those_of_the_verdicts(
    drawn: tuple[list[float], list[float], list[str]], worse: str, limit: float, gap: int
) -> None:
    """Against the definition: every image is judged, then the verdicts of a part are joined."""
    scores, bad, parts = drawn
    beyond = limit + gap if worse == "higher" else limit - gap
    rule = LimitRule(ok_limit=limit, not_ok_limit=beyond, worse=worse)  # type: ignore[arg-type]
    verdicts = [decide(score, rule)[0] for score in scores]
    rows = list(zip(parts, bad, verdicts, strict=True))
    names = sorted(set(parts))
    of_bad = {p: [v for q, b, v in rows if q == p and b == 1] for p in names}
    of_good = {p: [v for q, b, v in rows if q == p and b == 0] for p in names}

    def counted(part_images: str) -> tuple[int, ...]:
        found = count_parts(
            part_scores(
                np.array(scores),
                np.array(bad),
                parts,
                rule=rule,
                part_images=part_images,  # type: ignore[arg-type]
                engine="a",
                precision="int8",
            ),
            rule,
        )
        reviewed = (found.bad_reviewed, found.good_reviewed)
        return (found.bad, found.escaped, found.good, found.overkilled, *reviewed)

    bad_parts = [p for p in names if of_bad[p]]
    good_each = [p for p in names if of_good[p]]
    good_together = [p for p in good_each if not of_bad[p]]
    all_ok = [p for p in bad_parts if {*of_bad[p], *of_good[p]} == {Evaluation.OK}]
    any_ok = [p for p in bad_parts if Evaluation.OK in of_bad[p]]
    rejected = [p for p in good_each if Evaluation.NOT_OK in of_good[p]]
    together, each = counted("together"), counted("each")
    assert together[:3] == (len(bad_parts), len(all_ok), len(good_together))
    assert each[:4] == (len(bad_parts), len(any_ok), len(good_each), len(rejected))
    # What is promised image by image holds for views of one part as well.
    assert together[1] <= each[1]


def test_a_part_of_both_kinds_is_found() -> None:
    bad = np.array([0.0, NAN, 0.0, 1.0, 1.0])
    assert mixed_part(bad, ["a", "b", "b", "b", "a"]) == "b"
    assert mixed_part(bad[:3], ["a", "b", "b"]) == ""


@given(bad=some, good=some)
def test_best_f1_is_best_and_the_safest_of_its_equals(bad: list[float], good: list[float]) -> None:
    def f1(limit: float) -> float:
        hits, calls = sum(b > limit for b in bad), sum(g > limit for g in good)
        return 2 * hits / (hits + calls + len(bad))

    found = best_f1(tally([scored(bad, good)]))
    tried = [x / 2 for x in range(-8, 8)]
    assert f1(found) >= max(map(f1, tried)) - 1e-12
    safer = [x for x in tried if any(x < score <= found for score in [*bad, *good])]
    assert all(f1(limit) < f1(found) for limit in safer)


@given(bad=some, good=some, share=st.sampled_from([0.0, 0.5, 0.9, 1.0]))
def test_a_recall_is_reached_by_the_loosest_limit(
    bad: list[float], good: list[float], share: float
) -> None:
    limit = at_least_recall(tally([scored(bad, good)]), share)
    assert limit is not None
    assert sum(b > limit for b in bad) >= share * len(bad) - 1e-9
    tried = [x / 2 for x in range(-8, 8)]
    looser = [x for x in tried if any(limit < score <= x for score in [*bad, *good])]
    assert all(sum(b > x for b in bad) < share * len(bad) for x in looser)


def test_a_recall_that_a_probability_cannot_reach_is_none() -> None:
    found = tally([scored([0.0, 0.9], [0.1])], (0.0, 1.0))
    assert at_least_recall(found, 1.0) is None
    assert at_least_recall(found, 0.5) is not None


@given(
    bad=some,
    good=some,
    costs=st.tuples(*[st.integers(0, 20).map(float)] * 3),
)
def test_the_least_cost_is_the_least_of_all_pairs(
    bad: list[float], good: list[float], costs: tuple[float, float, float]
) -> None:
    escape, overkill, review = costs

    def cost(ok: float, not_ok: float) -> float:
        between = sum(ok < s <= not_ok for s in [*bad, *good])
        return (
            escape * sum(b <= ok for b in bad)
            + overkill * sum(g > not_ok for g in good)
            + review * between
        )

    wish = Costs(escape=escape, overkill=overkill, review=review)
    ok, not_ok = least_cost(tally([scored(bad, good)]), wish)
    assert ok <= not_ok
    tried = combinations_with_replacement([x / 2 for x in range(-8, 8)], 2)
    assert cost(ok, not_ok) == min(cost(*pair) for pair in tried)


def test_cheap_review_opens_a_gap_and_dear_review_closes_it() -> None:
    found = tally([scored([1.0, 3.0], [0.0, 2.0])])
    ok, not_ok = least_cost(found, Costs(escape=100.0, overkill=10.0, review=1.0))
    assert ok < 1.0
    assert not_ok >= 2.0
    assert len(set(least_cost(found, Costs(escape=1.0, overkill=1.0, review=50.0)))) == 1


@given(good=some, share=st.sampled_from([0.0, 0.25, 1.0]))
def test_overkill_stays_within_its_wish(good: list[float], share: float) -> None:
    limit = within_overkill(tally([scored([], good)]), share)
    assert limit is not None
    assert sum(g > limit for g in good) <= share * len(good) + 1e-9


@given(
    forms=st.lists(st.tuples(some, some), min_size=1, max_size=3),
    share=st.sampled_from([0.0, 0.01, 0.25, 0.5, 1.0]),
)
def test_the_overkill_rule_holds_for_every_form_and_is_the_tightest(
    forms: list[tuple[list[float], list[float]]], share: float
) -> None:
    parts = [scored(bad, good) for bad, good in forms]
    limit = overkill_limit(parts, share)
    assert limit is not None
    for _, good in forms:
        assert sum(g > limit for g in good) <= overkill_allowed(share, len(good))
    # The tightest by the form that asks most: one step safer, and it would reject one too many.
    let_through = [
        sorted(good)[len(good) - allowed - 1]
        for _, good in forms
        if (allowed := overkill_allowed(share, len(good))) < len(good)
    ]
    assert all(limit >= score for score in let_through)
    worst = max(let_through, default=-np.inf)
    if len(forms) == 1 and let_through:
        (bad, good) = forms[0]
        assert limit <= min((s for s in (*bad, *good) if s > worst), default=worst)


def test_the_overkill_rule_looks_at_no_bad_part_but_to_lie_midway() -> None:
    assert overkill_limit([scored([], [1.0, 2.0, 3.0])], 0.0) == 3.0
    assert overkill_limit([scored([5.0], [1.0, 2.0, 3.0])], 0.0) == 4.0
    assert overkill_limit([scored([-5.0], [1.0, 2.0, 3.0])], 0.0) == 3.0
    assert overkill_limit([scored([], [1.0, 2.0, 3.0, 9.0])], 0.25) == 6.0


@pytest.mark.parametrize(("good", "share"), [(30, 0.0), (100, 0.05), (400, 0.01)])
def test_the_overkill_bound_holds_as_often_as_it_says(good: int, share: float) -> None:
    """By simulation: scores are uniform, so the true rate beyond a limit is 1 less the limit."""
    random = np.random.default_rng(good)
    bound = overkill_bound(share, good, confidence=0.95)
    broken = 0
    for _ in range(2000):
        limit = overkill_limit([scored([], random.uniform(0, 1, good).tolist())], share)
        assert limit is not None
        broken += 1.0 - limit > bound
    # 5 % is exact at the order statistic; midway lies above it. 3 standard deviations: 1.5 %.
    assert broken <= 0.065 * 2000


def test_every_form_counts() -> None:
    forms = [scored([3.0], [0.0]), scored([1.0], [2.0])]
    found = tally(forms)
    assert (found.bad, found.good) == (2, 2)
    assert best_f1(found) == 0.5


def test_the_hash_is_of_all_that_a_proof_rests_on() -> None:
    frames = [np.zeros((2, 3, 1), np.uint8), np.ones((3, 2, 1), np.uint8)]

    def digest(
        frames_hwc: list[np.ndarray], targets: tuple[float, float], parts: tuple[str, str]
    ) -> str:
        return samples_sha256(
            SampleSet(frames_hwc=frames_hwc, targets=np.array(targets), parts=parts)
        )

    base = digest(frames, (0.0, NAN), ("a", "b"))
    assert base == digest([frame.copy() for frame in frames], (0.0, NAN), ("a", "b"))
    others = {
        digest([frames[0].reshape(3, 2, 1), frames[1]], (0.0, NAN), ("a", "b")),
        digest([frames[0] + np.uint8(1), frames[1]], (0.0, NAN), ("a", "b")),
        digest(frames, (0.0, 1.0), ("a", "b")),
        digest(frames, (0.0, NAN), ("a", "c")),
    }
    assert len(others | {base}) == 5


@pytest.mark.parametrize("worse", ["higher", "lower"])
def test_ties_with_the_limit_are_ok(worse: str) -> None:
    rule = LimitRule(ok_limit=1.0, not_ok_limit=1.0, worse=worse)  # type: ignore[arg-type]
    parts = part_scores(
        np.array([1.0]),
        np.array([1.0]),
        ["a"],
        rule=rule,
        part_images="together",
        engine="a",
        precision="int8",
    )
    assert count_parts(parts, rule).escaped == 1
