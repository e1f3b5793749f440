"""What is held and counted of anomaly scores and maps: pure functions, no engine."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from anomaly_models import anomaly_contract
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineside.bundle.evidence import Way
from lineside.contract import AnomalyHead, LimitRule
from lineside_export.cli import export
from lineside_export.gates import Gates, missed_by
from lineside_export.golden import choose_golden, golden_tolerance
from lineside_export.headmetric import metric_of, target_fault
from lineside_export.headrule import choose_way, head_rule
from lineside_export.parity import Measurement, Parity, compare, measure
from lineside_export.partscores import bad_images
from lineside_export.rules import choose_rule, start_rule
from lineside_export.sensitivity import MOST_RANKED, choose_floats

HEAD = AnomalyHead(classes=("good", "stain", "dent", "spare"), good=("good", "spare"))
RULE = LimitRule(ok_limit=0.5, not_ok_limit=0.5)
CONTRACT = anomaly_contract((16, 16))
UNKNOWN = float("nan")


def measured(
    maps: NDArray[np.float64], *, precision: str, targets: NDArray[np.float64] | None = None
) -> Measurement:
    """The score is the map's largest value."""
    outputs = {
        "score": maps.max(axis=(1, 2)).astype(np.float32),
        "map": maps.astype(np.float32),
    }
    known = np.zeros(len(maps)) if targets is None else targets
    engine = "torch" if precision == "fp32" else "openvino"
    return measure(engine, precision, outputs, targets=known, contract=CONTRACT, rule=RULE)


def parity_of(before: NDArray[np.float64], now: NDArray[np.float64]) -> Parity:
    reference = measured(before, precision="fp32")
    return Parity(
        reference=reference, comparisons=(compare(reference, measured(now, precision="int8")),)
    )


def maps(count: int = 60, seed: int = 0) -> NDArray[np.float64]:
    """(N, 16, 16): a frame bright in all of them, noise, and a spot that is each one's own."""
    random = np.random.default_rng(seed)
    found = 0.05 + 0.01 * random.standard_normal((count, 16, 16))
    found[:, 0] = found[:, -1] = 0.15
    for values in found:
        y, x = random.integers(2, 13, 2)
        values[y : y + 2, x : x + 2] = random.uniform(0.2, 0.9)
    return found


def missed(parity: Parity) -> tuple[str, ...]:
    gates = Gates(max_flips=len(parity.reference.scores), max_drop=10.0)
    return missed_by(parity.comparisons[0], parity.reference, RULE, gates)


def test_a_map_that_drowns_below_a_steady_score_is_caught() -> None:
    before = maps()
    now = before + 0.05 * np.random.default_rng(1).standard_normal(before.shape)
    largest = before.reshape(len(before), -1).argmax(axis=1)
    rows = np.arange(len(before))
    now.reshape(len(now), -1)[rows, largest] = before.reshape(len(now), -1)[rows, largest]
    now = np.minimum(now, before.max(axis=(1, 2), keepdims=True))
    (told,) = missed(parity_of(before, now))
    assert "the noise of the values of map" in told
    quiet = before + 0.001 * np.random.default_rng(1).standard_normal(before.shape)
    assert missed(parity_of(before, quiet)) == ()


def test_what_is_bright_in_every_map_hides_no_noise() -> None:
    before = maps()
    before[:, 0] = before[:, -1] = -20.0  # a border far from all else, in every frame
    now = before + 0.05 * np.random.default_rng(1).standard_normal(before.shape)
    assert any("the values of map" in told for told in missed(parity_of(before, now)))
    # Over all values together their spread would be that of the border.
    assert 0.2 * before.std() > 0.05


def test_noise_that_grows_with_a_map_s_values_leaves_golden_frames() -> None:
    """As half precision and int8 do: the largest drift of a map is far from the mean of all."""
    before = maps()
    noise = 0.01 * before**3 * np.random.default_rng(2).standard_normal(before.shape)
    parity = parity_of(before, before + noise)
    tolerance = golden_tolerance([parity], engine="openvino", precision="int8")
    drift = np.abs(noise)
    assert drift.max() > 6 * drift.mean()
    frames = [np.zeros((64, 64, 1), np.uint8)] * len(before)
    scores = parity.reference.scores[:, np.newaxis].astype(np.float32)
    assert len(choose_golden(parity, [tolerance], RULE, frames, scores)) == 16
    # And yet no other map passes for a frame's own.
    shifted = np.abs(before - np.roll(before, 1, axis=2)).max(axis=(1, 2))
    assert tolerance.by_output["map"] < shifted.min()


def test_a_map_that_is_off_in_one_place_makes_its_frame_unsteady() -> None:
    before = maps()
    now = before + 1e-3 * np.random.default_rng(2).standard_normal(before.shape)
    now[7, 3, 3] += 0.1
    parity = parity_of(before, now)
    tolerance = golden_tolerance([parity], engine="openvino", precision="int8")
    frames = [np.zeros((64, 64, 1), np.uint8)] * len(before)
    scores = parity.reference.scores[:, np.newaxis].astype(np.float32)
    assert 7 not in choose_golden(parity, [tolerance], RULE, frames, scores)


@given(
    bad=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9),
    good=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9),
)
def test_the_metric_is_how_often_a_bad_score_lies_above_a_good_one(
    bad: list[float], good: list[float]
) -> None:
    scores = np.array([*bad, *good], np.float32)
    truth = np.array([*(1.0 + i % 2 for i in range(len(bad))), *(0.0 for _ in good)])
    found = metric_of(HEAD).known(truth, {"score": scores}, HEAD)
    high, low = scores[: len(bad), None], scores[None, len(bad) :]
    assert found == pytest.approx(float(((high > low) + 0.5 * (high == low)).mean()))


def test_there_is_no_metric_of_good_parts_alone() -> None:
    scores = {"score": np.arange(4, dtype=np.float32)}
    for targets in ([0.0, 3.0, 0.0, 0.0], [1.0, 2.0, 1.0, 1.0], [UNKNOWN, 0.0, UNKNOWN, 0.0]):
        assert metric_of(HEAD).known(np.array(targets), scores, HEAD) is None
    assert metric_of(HEAD).known(np.full(4, UNKNOWN), scores, HEAD) is None


def test_bad_is_what_is_none_of_the_good_classes() -> None:
    targets = np.array([0.0, 1.0, 2.0, 3.0, UNKNOWN])
    np.testing.assert_equal(bad_images(targets, HEAD, RULE), [0, 1, 1, 0, UNKNOWN])
    assert target_fault(targets, HEAD) == ""
    assert "classes 0 to 3" in target_fault(np.array([4.0]), HEAD)


@given(limit=st.floats(-1e9, 1e9))
def test_a_limit_is_any_number_and_higher_is_worse(limit: float) -> None:
    rule = choose_rule(CONTRACT, limit=limit, worse=None)
    assert (rule.ok_limit, rule.not_ok_limit, rule.worse) == (limit, limit, "higher")
    assert not head_rule(HEAD).fits(LimitRule(ok_limit=limit, not_ok_limit=limit, worse="lower"))
    assert head_rule(HEAD).fits(start_rule(CONTRACT))


@pytest.mark.parametrize(
    ("asked", "limit", "bad_parts", "way"),
    [
        (None, None, True, "best-f1"),
        (None, None, False, "overkill"),
        (None, 0.3, True, "fixed"),
        ("cost", None, True, "cost"),
        ("overkill", None, True, "overkill"),
        ("fixed", None, False, "fixed"),
    ],
)
def test_who_says_nothing_gets_the_rule_that_his_parts_allow(
    asked: str | None, limit: float | None, bad_parts: bool, way: str
) -> None:
    found = choose_way(CONTRACT, asked=asked, limit=limit, bad_parts=bad_parts)  # type: ignore[arg-type]
    assert found == way


def test_the_command_line_offers_every_way() -> None:
    options = {option.name: option for option in export.params}
    assert set(options["rule"].type.choices) == set(get_args(Way))  # type: ignore[attr-defined]


def test_of_many_products_neighbours_are_ranked_together() -> None:
    names = [f"p{index}" for index in range(500)]
    measured_of: list[int] = []

    def drift(chosen: object) -> float:
        assert isinstance(chosen, (list, tuple))
        measured_of.append(len(chosen))
        return 0.0 if "p250" in chosen else 1.0

    floats = choose_floats(names, drift, enough=0.1)
    assert len(measured_of) <= MOST_RANKED + 8
    assert "p250" in floats
    assert len(floats) <= 8
    assert all(int(b[1:]) == int(a[1:]) + 1 for a, b in pairwise(floats))
