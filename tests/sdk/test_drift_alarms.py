"""The promise about false alarms, and how soon a drift is found: the simulation, shortened."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drift_simulation import SIMULATION as simulation

from lineside.drift import DriftMonitor, DriftSettings, PartStatistics
from lineside.drift.evidence import REFERENCE_RISK, STAKES, bet, make_bounds

PROMISE = 1_000
BLOCK = DriftSettings().block


def measured(
    name: str, *, block: int = BLOCK, promise: int = PROMISE, streams: int = 40
) -> simulation.FalseAlarms:
    stream, parts = simulation.STREAMS[name]
    return simulation.count_false(
        name,
        stream,
        parts=parts,
        promise=promise,
        block=block,
        streams=streams,
        horizons=10,
        seed=1,
    )


@pytest.mark.parametrize(
    "name",
    [
        "like the reference, 100 parts",
        "like the reference, 1000 parts",
        "rounded to whole numbers",
        "heavy tails (t, 2 degrees)",
        "5 % far above",
        "parts alike, 0.9",
        "lots of 50, a third of the variance",
    ],
)
def test_false_alarms_are_rarer_than_promised(name: str) -> None:
    # No alarm in 400,000 parts where 400 are allowed: recorded in benchmarks/results.
    assert measured(name).at_least > 10 * PROMISE


@pytest.mark.parametrize("side", ["rank", "beyond"])
def test_the_promise_is_kept_and_not_idle_at_the_edge_of_what_is_no_drift(side: str) -> None:
    found = measured(f"at the null's edge, {side}")

    assert found.alarms >= 30  # the edge is where alarms begin
    assert found.at_least > PROMISE


def test_parts_that_are_alike_over_many_blocks_break_it_and_longer_blocks_mend_that() -> None:
    promise = 5_000
    short, long = (
        measured("lots of 500, a third of the variance", block=block, promise=promise)
        for block in (8, 256)
    )

    assert short.measured < promise
    assert long.at_least > 2 * promise


def test_a_bet_is_worth_one_on_average_where_the_mean_is_at_its_bound() -> None:
    random = np.random.default_rng(0)
    for bound, stake in zip(
        make_bounds(300, tolerance=0.05, watched=5).by_side, STAKES, strict=True
    ):
        means = random.binomial(BLOCK, bound, 200_000) / BLOCK
        worth = bet(means, bound, stake)
        assert worth.min() > 0.0
        # Three standard errors.
        assert worth.mean() == pytest.approx(1.0, abs=3.0 * worth.std() / math.sqrt(len(means)))


@pytest.mark.parametrize("parts", [40, 300])
def test_the_bounds_hold_for_nearly_every_reference(parts: int) -> None:
    """Without a tolerance, so that chance alone decides; each of four bounds has its risk."""
    random = np.random.default_rng(0)
    draws = 20_000
    bounds = make_bounds(parts, tolerance=0.0, watched=1)
    # Of production that is uniform a value is its own probability.
    references = random.random((draws, parts))
    broken = (
        (1.0 - references.mean(axis=1) > bounds.rank)
        | (references.mean(axis=1) > bounds.rank)
        | (1.0 - references.max(axis=1) > bounds.beyond)
        | (references.min(axis=1) > bounds.beyond)
    )
    assert broken.mean() <= REFERENCE_RISK
    assert broken.any()  # not so wide that it says nothing


@pytest.mark.parametrize(
    ("shift", "by", "within"),
    [("sudden", 1.0, 5_000), ("sudden", 2.0, 2_000), ("slow", 2.0, 13_000)],
)
def test_a_drift_is_found(shift: str, by: float, within: int) -> None:
    over = 10_000 if shift == "slow" else 1
    alarms = simulation.first_alarms(
        simulation.shifted(simulation.RUN_IN, by, over),
        parts=300,
        promise=simulation.MONTH_PARTS,
        watched=5,
        horizon=simulation.RUN_IN + 4 * within,
        streams=20,
        random=np.random.default_rng(0),
    )
    assert (alarms > simulation.RUN_IN).all()
    assert np.median(alarms) < simulation.RUN_IN + within


def test_less_light_and_lost_focus_are_found_and_called_by_name() -> None:
    found = {d.drift: d for d in simulation.delays_of_pictures(runs=1, seed=0)}

    assert found["light 10 % less"].statistic == "light"
    assert found["light 10 % less"].high < 500
    assert found["blurred by 1 px"].statistic == "focus"
    assert found["blurred by 1 px"].high < 500


def test_the_monitor_computes_what_is_simulated() -> None:
    """The simulation bets on many streams at once; the monitor must raise at the very same part."""
    random = np.random.default_rng(3)
    reference, values = random.standard_normal((1, 300)), random.standard_normal((1, 4_096)) + 0.9
    monitor = DriftMonitor(
        simulation.reference_of(
            [simulation.PictureStatistics(light=0.5, clipping=0.0, focus=0.0)],
            np.concatenate([reference, reference]),
        ),
        engine="none",
        precision="fp32",
        settings=DriftSettings(parts_per_false_alarm=100_000),
    )
    stream = simulation.Stream(
        start=lambda: lambda *_: values.astype(np.float32).astype(np.float64),
        reference=lambda *_: np.sort(reference.astype(np.float32).astype(np.float64)),
    )
    (alarm,) = simulation.first_alarms(
        stream, parts=300, promise=100_000, watched=5, horizon=4_096, streams=1, random=random
    )
    for value in values[0]:
        monitor.add(PartStatistics(score=float(value)))

    (score, *others) = monitor.state.statistics
    assert score.name == "score"
    assert score.raised == alarm
    assert not any(other.alarm for other in others)
