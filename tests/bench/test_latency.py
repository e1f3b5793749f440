"""One inspection by stage: the real thing with a tiny model and few rounds."""

from __future__ import annotations

import json
import os
import time

import numpy as np
import pytest
from tiny_suite import build_tiny_suite

from lineside.engines.machine import usable_cores
from lineside_bench.bare import open_bare
from lineside_bench.drawing import encode_figure
from lineside_bench.latency.busy import busy_cores
from lineside_bench.latency.closeness import Closeness, compare
from lineside_bench.latency.command import measure_latency
from lineside_bench.latency.frames import KINDS, picture
from lineside_bench.latency.models import BUSY, IDLE, Plan
from lineside_bench.latency.picture import draw
from lineside_bench.latency.table import tell
from lineside_bench.latency.ways import Way
from lineside_bench.suite import Suite

_BRIEF = Plan(
    **dict.fromkeys(("idle_s", "idle_batch_s", "busy_s", "busy_batch_s", "spinning_s"), 0.05),
    journey_idle_s=0.0,
    journey_busy_s=0.0,
    frame_rounds=1,
)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return build_tiny_suite(tmp_path_factory.mktemp("suite"), [("vit_tiny", "fp32")])


def test_every_stage_of_every_way_is_measured_told_and_drawn(suite: Suite) -> None:
    found, measured = measure_latency(suite, _BRIEF)

    rows = found["inspections"]
    threads = {1, usable_cores()}
    alone = [row for row in rows if row["runtime"] == "lineside" and row["batch"] == 1]
    for beside in (IDLE, BUSY):
        ways = [(row["engine"], row["threads"]) for row in alone if row["beside"] == beside]
        assert sorted(ways) == sorted(
            (engine, count) for engine in ("onnxruntime", "openvino") for count in threads
        )
    for row in alone:
        assert set(row["stages"]) == {"whole", "preprocess", "infer", "decide"}
        whole = row["stages"]["whole"]
        assert 0 < row["stages"]["infer"]["p50_us"] < whole["p50_us"] <= whole["p99_us"]
        assert row["first_call_us"] > 0
    against = [(row["engine"], row["threads"], row["against"]) for row in found["closeness"]]
    # Each engine beside one that is set as ours is, and beside its default where that differs.
    assert len(set(against)) == len(against) == 3 * len(threads) + len(threads - {1})
    assert {row["target"]["outcome"] for row in found["allocations"]} == {"met"}
    stages = [row["stage"] for row in found["journey"]["stages"] if row["beside"] == IDLE]
    assert {"decode", "infer", "hand-over", "PUBACK", "PLC", "whole"} <= set(stages)
    assert json.loads(json.dumps(found)) == found
    told = tell(found)
    assert "first ms" in told
    assert "bare, spinning" in told
    assert "bare, unpinned" in told
    drawn = encode_figure(draw(measured.taken, measured.warm_up, found["journey"]))
    assert drawn.startswith(b"\x89PNG")


def test_the_bare_engine_computes_what_ours_does(suite: Suite) -> None:
    with suite.open(suite.sealed[0]) as bundle:
        dark, bright = np.full((1, 32, 32, 1), 51, np.uint8), np.full((1, 32, 32, 1), 204, np.uint8)
        for model in bundle.manifest.models:
            call = open_bare(bundle, model, threads=1, spinning=False)
            found = [float(np.ravel(next(iter(_values(call(one)))))[0]) for one in (dark, bright)]
            assert found == pytest.approx([0.2, 0.8], abs=1e-3)


def _values(given: object) -> list[np.ndarray]:
    return list(given) if isinstance(given, list) else list(given.to_dict().values())  # type: ignore[attr-defined]


def closeness(ours_us: float, bare_us: float, low_us: float) -> Closeness:
    way = Way(
        model="m", form="int8", engine="openvino", threads=1, batch=1, runtime="lineside", call=id
    )
    return Closeness(
        way=way,
        beside="bare",
        ours_us=ours_us,
        bare_us=bare_us,
        above_us=ours_us - bare_us,
        low_us=low_us,
        high_us=2 * (ours_us - bare_us),
        quiet_us=0.0,
        limit_us=max(0.1 * bare_us, 250.0),
    )


def test_a_tenth_or_a_quarter_of_a_millisecond_whichever_is_larger() -> None:
    assert closeness(340.0, 100.0, 230.0).told() == "met"
    assert closeness(10_900.0, 10_000.0, 800.0).told() == "met"
    assert closeness(11_100.0, 10_000.0, 1_050.0).told() == "missed"
    assert closeness(11_100.0, 10_000.0, 900.0).told() == "missed, within noise"


def test_calls_of_one_turn_are_drawn_together() -> None:
    """Eight calls of the same mood are one word on the difference, not eight."""
    draw = np.random.default_rng(0)
    ways = [
        Way(model="m", form="int8", engine="e", threads=2, batch=1, runtime=runtime, call=id)
        for runtime in ("lineside", "bare, spinning")
    ]
    taken = {way: 1000.0 + np.repeat(draw.normal(0, 80, 12), 8) for way in ways}

    (each,) = compare(taken, "bare, spinning")
    (together,) = compare(taken, "bare, spinning", calls_a_turn=8)

    assert together.above_us == each.above_us
    assert together.high_us - together.low_us > 1.5 * (each.high_us - each.low_us)


def test_the_busy_cores_are_busy_and_gone_afterwards() -> None:
    before_s = sum(os.times()[2:4])
    with busy_cores() as count:
        assert count == usable_cores()
        time.sleep(0.2)
    # Of children that have ended; on a machine that others use too they get less than all.
    assert sum(os.times()[2:4]) > before_s


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_frames_are_of_their_kind(kind: object) -> None:
    spec = kind.spec  # type: ignore[attr-defined]
    pixels = picture(spec)
    assert (*spec.size_hw, spec.channels) == pixels.shape
    assert pixels.itemsize * 8 == spec.bit_depth
    assert int(pixels.max()) - int(pixels.min()) > 2**spec.bit_depth / 2
