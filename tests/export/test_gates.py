"""Comparing and judging formats, without any engine: properties of pure functions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from lineside.contract import (
    Contract,
    FrameSpec,
    InputSpec,
    LimitRule,
    OutputSpec,
    RegressionHead,
)
from lineside.decide import decide
from lineside_export.errors import GateError
from lineside_export.gates import Gates, float_tolerance, missed_by
from lineside_export.parity import Measurement, Parity, agreements, compare, measure, metrics

CONTRACT = Contract(
    product="joint",
    frame=FrameSpec(size_hw=(8, 8), channels=1),
    input=InputSpec(size_hw=(8, 8), channels=1),
    outputs=(OutputSpec(name="value"),),
    head=RegressionHead(target="x"),
)
RULE = LimitRule(ok_limit=0.5, not_ok_limit=0.5)
VALUES = np.linspace(0.0, 1.0, 101).astype(np.float32)[:-1] + np.float32(0.0003)

floats = arrays(np.float32, 20, elements=st.floats(-2, 2, width=32))
limits = st.floats(-1, 1)


def measured(
    values: NDArray[np.float32],
    *,
    engine: str = "openvino",
    precision: str = "int8",
    targets: NDArray[np.float64] | None = None,
    rule: LimitRule = RULE,
) -> Measurement:
    known = np.full(len(values), np.nan) if targets is None else targets
    outputs = {"value": values}
    return measure(engine, precision, outputs, targets=known, contract=CONTRACT, rule=rule)


def parity_of(
    values: NDArray[np.float32],
    *,
    precision: str,
    targets: NDArray[np.float64] | None = None,
) -> Parity:
    reference = measured(VALUES, engine="torch", precision="fp32", targets=targets)
    other = measured(values, precision=precision, targets=targets)
    return Parity(reference=reference, comparisons=(compare(reference, other),))


def missed_gates(parity: Parity, rule: LimitRule, gates: Gates) -> tuple[str, ...]:
    (found,) = parity.comparisons
    return missed_by(found, parity.reference, rule, gates)


@given(values=floats, limit=limits)
def test_a_format_agrees_with_itself(values: NDArray[np.float32], limit: float) -> None:
    rule = LimitRule(ok_limit=limit, not_ok_limit=limit)
    found = compare(measured(values, rule=rule), measured(values, rule=rule))
    assert found.max_abs_drift == {"value": 0.0}
    assert found.flipped == ()


@given(before=floats, now=floats, low=limits, gap=st.floats(0, 1))
def test_drift_and_flips_are_what_they_say(
    before: NDArray[np.float32], now: NDArray[np.float32], low: float, gap: float
) -> None:
    rule = LimitRule(ok_limit=low, not_ok_limit=low + gap)
    found = compare(measured(before, rule=rule), measured(now, rule=rule))
    assert found.max_abs_drift["value"] >= found.mean_abs_drift["value"] >= 0.0
    assert found.max_abs_drift["value"] == max(
        abs(float(b) - float(a)) for a, b in zip(before, now, strict=True)
    )
    for index, (a, b) in enumerate(zip(before, now, strict=True)):
        flips = decide(float(a), rule)[0] is not decide(float(b), rule)[0]
        assert flips == (index in found.flipped)


@given(
    values=floats,
    index=st.integers(0, 19),
    bad=st.sampled_from([np.nan, np.inf, -np.inf]),
)
def test_what_is_not_finite_is_refused_with_its_sample(
    values: NDArray[np.float32], index: int, bad: float
) -> None:
    values = values.copy()
    values[index] = bad
    with pytest.raises(GateError, match=rf"openvino int8: output 'value'.* sample {index} \(1 of"):
        measured(values)


def test_rounding_passes_the_float_gate_and_another_arithmetic_does_not() -> None:
    rounding = VALUES * np.float32(1 + 3e-7)
    assert missed_gates(parity_of(rounding, precision="fp32"), RULE, Gates()) == ()
    bfloat16 = VALUES * np.float32(1 - 2.0**-9)
    (missed, *_) = missed_gates(parity_of(bfloat16, precision="fp32"), RULE, Gates())
    assert "the translated graph computes something else" in missed


def test_a_float_verdict_may_flip_within_rounding_of_the_limit_only() -> None:
    tolerance = float_tolerance(VALUES)
    for shift, allowed in ((0.4 * tolerance, True), (2 * tolerance, False)):
        close = VALUES.copy()
        close[50] = np.float32(0.5 + shift)
        reference = measured(close, engine="torch", precision="fp32")
        other = close.copy()
        other[50] = np.float32(0.5 - shift)
        found = compare(reference, measured(other, precision="fp32"))
        assert found.flipped == (50,)
        parity = Parity(reference=reference, comparisons=(found,))
        missed = missed_gates(parity, RULE, Gates())
        assert any("away from the limit" in words for words in missed) != allowed


@given(flips=st.integers(0, 20), allowed=st.integers(0, 20))
def test_int8_may_flip_as_many_verdicts_as_allowed(flips: int, allowed: int) -> None:
    values = VALUES.copy()
    # From just above the limit to just below: large enough to flip, small as a drift.
    values[50 : 50 + flips] = 0.499
    parity = parity_of(values, precision="int8")
    missed = missed_gates(parity, RULE, Gates(max_flips=allowed))
    assert any("--max-flips" in words for words in missed) == (flips > allowed)


def test_two_percent_of_the_verdicts_may_flip_unless_told_otherwise() -> None:
    assert [Gates().flips_allowed(n) for n in (1, 99, 200, 1000)] == [1, 1, 4, 20]
    assert Gates(max_flips=0).flips_allowed(1000) == 0


@given(share=st.floats(0, 0.5))
def test_int8_may_lose_a_share_of_the_metric(share: float) -> None:
    # Alternating errors of 0.1 make an MSE of 0.01; shrinking them towards the target helps.
    error = 0.1 * np.where(np.arange(100) % 2, 1.0, -1.0)
    targets = VALUES.astype(np.float64) + error
    scale = np.sqrt(1.0 + share)
    values = (targets - scale * error).astype(np.float32)
    parity = parity_of(values, precision="int8", targets=targets)
    before, now = parity.reference.metric, parity.comparisons[0].measured.metric
    assert before is not None and now is not None
    missed = missed_gates(parity, RULE, Gates(max_flips=100, max_drop=0.25))
    assert any("--max-drop" in words for words in missed) == (now > before * 1.25)


def test_a_collapsed_model_is_caught_without_targets_and_without_flips() -> None:
    values = np.full_like(VALUES, VALUES.mean())
    missed = missed_gates(parity_of(values, precision="int8"), RULE, Gates(max_flips=100))
    assert [words for words in missed if "drown" in words]


def test_evidence_names_every_format_and_output_and_only_known_metrics() -> None:
    parity = parity_of(VALUES, precision="int8")
    (found,) = agreements(parity)
    assert (found.engine, found.precision, found.output, found.samples) == (
        *("openvino", "int8", "value"),
        100,
    )
    assert metrics(parity) == {}
    with_targets = parity_of(VALUES, precision="int8", targets=VALUES.astype(np.float64))
    assert metrics(with_targets) == {
        "validation_mse_torch_fp32": 0.0,
        "validation_mse_openvino_int8": 0.0,
    }
