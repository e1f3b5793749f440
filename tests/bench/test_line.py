"""Trigger to PLC over a real broker, with a tiny model, and what is computed from the rates."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_suite import build_tiny_suite

from lineside_bench.line import measure_outage, measure_rates, twice_idle


def row(rate_hz: float, p99_ms: float, lost: int = 0) -> dict[str, float]:
    return {"rate_hz": rate_hz, "p99_ms": p99_ms, "lost": lost, "refused": 0}


def test_the_knee_lies_between_two_rates() -> None:
    rows = [row(1, 10), row(5, 10), row(50, 10), row(100, 40)]

    assert twice_idle(rows, 10.0) == pytest.approx(50 * 2**0.5, abs=0.1)
    assert twice_idle(rows[:3], 10.0) is None
    assert twice_idle([row(5, 10), row(20, 10), row(40, 10, lost=1)], 10.0) == 40.0


def test_every_trigger_is_timed(tmp_path: Path) -> None:
    suite = build_tiny_suite(tmp_path, [("vit_tiny", "int8")])

    rows, times_ms = measure_rates(suite, "vit_tiny", "int8", [(20.0, 1.0)])

    assert (rows[0]["parts"], rows[0]["lost"], rows[0]["undecided"]) == (20, 0, {})
    assert len(times_ms[20.0]) == 20
    assert 0 < rows[0]["p50_ms"] <= rows[0]["p99_ms"]


def test_nothing_is_lost_while_the_broker_is_away(tmp_path: Path) -> None:
    suite = build_tiny_suite(tmp_path, [("vit_tiny", "int8")])

    found = measure_outage(suite, "vit_tiny", "int8", away_s=0.5, beside_s=0.5)

    assert (found["lost"], found["gaps"]) == (0, 0)
    assert found["first_live_after_return_ms"] > 0
