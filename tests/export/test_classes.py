"""A classification on the exporter's road: its metric, its rule, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineside.contract import (
    ClassificationHead,
    Contract,
    FrameSpec,
    HeadSpec,
    InputSpec,
    LimitRule,
    OutputSpec,
    RegressionHead,
)
from lineside_export.errors import ExportError, GateError
from lineside_export.gates import Gates, missed_by
from lineside_export.golden import choose_golden, golden_tolerance
from lineside_export.headmetric import metric_of, target_fault
from lineside_export.parity import Comparison, Measurement, Parity, compare, measure, metrics
from lineside_export.rules import choose_rule

HEAD = ClassificationHead(target="class", classes=("crack", "good", "void"), good=("good",))
NUMBER = RegressionHead(target="x")
RULE = LimitRule(ok_limit=0.5, not_ok_limit=0.5)


def contract(head: HeadSpec = HEAD, rule: LimitRule | None = None) -> Contract:
    output = OutputSpec(name=head.output, shape=(3,) if head is HEAD else ())
    return Contract(
        product="joint",
        frame=FrameSpec(size_hw=(8, 8), channels=1),
        input=InputSpec(size_hw=(8, 8), channels=1),
        outputs=(output,),
        head=head,
        proposed_rule=rule,
    )


def measured(
    values: NDArray[np.float32], targets: NDArray[np.float64], *, precision: str = "int8"
) -> Measurement:
    engine = "torch" if precision == "fp32" else "openvino"
    outputs = {"probability": values}
    return measure(engine, precision, outputs, targets=targets, contract=contract(), rule=RULE)


def judged(parity: Parity) -> tuple[Comparison, Measurement]:
    (found,) = parity.comparisons
    return found, parity.reference


def parity_of(
    before: NDArray[np.float32], now: NDArray[np.float32], targets: NDArray[np.float64]
) -> Parity:
    reference = measured(before, targets, precision="fp32")
    return Parity(reference=reference, comparisons=(compare(reference, measured(now, targets)),))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def separated(count: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Probabilities that are mostly right, with the true classes."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, count)
    logits = random.standard_normal((count, 3)) + 3.0 * np.eye(3)[truth]
    return softmax(logits), truth.astype(np.float64)


def test_every_head_has_a_metric() -> None:
    assert (metric_of(NUMBER).name, metric_of(NUMBER).lower_is_better) == ("mse", True)
    assert (metric_of(HEAD).name, metric_of(HEAD).lower_is_better) == ("average_precision", False)


@given(before=st.floats(0.01, 1.0), now=st.floats(0.0, 1.0), share=st.floats(0.0, 0.9))
def test_a_loss_is_on_the_bad_side_whichever_that_is(
    before: float, now: float, share: float
) -> None:
    change = (now - before) / before
    assume(abs(abs(change) - share) > 1e-9)  # exactly on the edge, rounding decides
    assert metric_of(NUMBER).lost(before, now, share) == (change > share)
    assert metric_of(HEAD).lost(before, now, share) == (-change > share)


def test_targets_that_are_unknown_do_not_count() -> None:
    values, truth = separated(30)
    some = np.where(np.arange(30) < 10, truth, np.nan)
    known = metric_of(HEAD).known(some, {"probability": values}, HEAD)
    assert known == metric_of(HEAD).known(truth[:10], {"probability": values[:10]}, HEAD)
    nothing = np.full(30, np.nan)
    assert metric_of(HEAD).known(nothing, {"probability": values}, HEAD) is None
    one_class = np.zeros(30)
    assert metric_of(HEAD).known(one_class, {"probability": values}, HEAD) is None


@pytest.mark.parametrize(
    ("target", "told"),
    [(3.0, "classes 0 to 2"), (-1.0, "crack, good, void"), (0.5, "target 0.5"), (np.inf, "infin")],
)
def test_a_target_that_is_no_class_is_named(target: float, told: str) -> None:
    targets = np.array([0.0, np.nan, target, 2.0])
    assert told in target_fault(targets, HEAD)
    assert "sample 2" in target_fault(targets, HEAD)
    assert bool(target_fault(targets, NUMBER)) == np.isinf(target)
    assert target_fault(np.array([0.0, np.nan, 2.0]), HEAD) == ""


def test_a_model_that_mixes_up_the_kinds_of_defect_loses_the_metric_without_a_flip() -> None:
    values, truth = separated(200)
    swapped = values[:, [2, 1, 0]]
    parity = parity_of(values, swapped, truth)
    assert parity.comparisons[0].flipped == ()
    drowned, lost = missed_by(*judged(parity), RULE, Gates())
    assert "drown" in drowned
    assert "AP goes from" in lost
    assert "--max-drop" in lost
    assert set(metrics(parity)) == {
        "validation_average_precision_torch_fp32",
        "validation_average_precision_openvino_int8",
    }


def test_classes_that_drown_are_caught_below_a_score_that_does_not() -> None:
    """Measured on a small CNN: defects kept their score, and lost two thirds of their class."""
    values, truth = separated(200)
    defects = values[:, 1] < 0.5
    now = values.copy()
    now[defects, 0] = now[defects, 2] = (values[defects, 0] + values[defects, 2]) / 2
    gates = Gates(max_flips=200, max_drop=10.0)
    (missed,) = missed_by(*judged(parity_of(values, now, truth)), RULE, gates)
    assert "the noise of the values of probability" in missed


def test_what_is_no_probability_names_the_softmax() -> None:
    logits = np.float32([[3.0, -1.0, 0.5]])
    with pytest.raises(GateError, match="end the program with a softmax"):
        measured(logits, np.zeros(1))


def test_frames_on_which_classes_change_places_prove_nothing() -> None:
    values, truth = separated(60)
    noise = 1e-3 * np.random.default_rng(1).standard_normal((60, 3))
    now = softmax(np.log(values.astype(np.float64)) + noise)
    now[7] = now[7][[2, 1, 0]]  # the score stays, the kinds of defect change places
    parity = parity_of(values, now, truth)
    tolerance = golden_tolerance([parity], engine="openvino", precision="int8")
    frames = [np.zeros((8, 8, 1), np.uint8)] * 60
    chosen = choose_golden(parity, [tolerance], RULE, frames, values)
    assert 7 not in chosen
    assert len(chosen) == 16  # the others are steady enough to fill the bundle's share


@pytest.mark.parametrize(
    ("limit", "worse", "fits"),
    [
        *((0.5, None, True), (0.0, None, True), (1.0, None, False), (-0.1, None, False)),
        (0.5, "lower", False),
    ],
)
def test_a_limit_is_a_probability_and_more_is_worse(
    limit: float, worse: str | None, fits: bool
) -> None:
    proposal = LimitRule(ok_limit=limit, not_ok_limit=limit, worse=worse or "higher")
    ways = ((contract(), limit, worse), (contract(rule=proposal), None, None))
    for given_contract, given_limit, given_worse in ways:
        if fits:
            rule = choose_rule(given_contract, limit=given_limit, worse=given_worse)  # type: ignore[arg-type]
            assert (rule.not_ok_limit, rule.worse, rule.unit) == (limit, "higher", "1")
        else:
            with pytest.raises(ExportError, match="probability of any defect"):
                choose_rule(given_contract, limit=given_limit, worse=given_worse)  # type: ignore[arg-type]
