"""`lineside bench`: figures with their machine, from counted rounds only."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from tiny_bundle import TinyBundle, shift_expected

import lineside as sdk
from lineside.bench import run_bench, summarise
from lineside.bundle import open_bundle
from lineside.cli.main import lineside
from lineside.errors import FrameError, InputDataError, SelfTestError
from lineside.frame import Frame
from lineside.verdict import Timings

times_us = st.floats(0.1, 1e7)


def run(tiny: TinyBundle, *arguments: str | Path, bundle: Path | None = None) -> Result:
    named = ["bench", str(bundle or tiny.path), "--trust", str(tiny.public_key_path)]
    return CliRunner().invoke(lineside, [*named, "--rounds", "20", *map(str, arguments)])


def test_every_engine_and_thread_count_is_measured_by_stage(tiny_bundle: TinyBundle) -> None:
    done = run(tiny_bundle, "--threads", "1", "--threads", "2", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    ways = [
        (row["candidate"]["engine"], row["candidate"]["threads"]) for row in report["candidates"]
    ]
    assert sorted(ways) == [
        *(("onnxruntime", 1), ("onnxruntime", 2)),
        *(("openvino", 1), ("openvino", 2)),
    ]
    assert (report["rounds"], report["frames"], report["refused"]) == (20, 4, [])
    for row in report["candidates"]:
        stages = {stage["stage"]: stage for stage in row["stages"]}
        assert list(stages) == ["preprocess", "infer", "decide", "total"]
        for stage in stages.values():
            assert 0 < stage["p50_us"] <= stage["p90_us"] <= stage["p99_us"]
        assert stages["total"]["p50_us"] >= stages["infer"]["p50_us"]


def test_the_machine_and_versions_stand_beside_the_figures(tiny_bundle: TinyBundle) -> None:
    machine = json.loads(run(tiny_bundle, "--threads", "1", "--json").stdout)["machine"]
    assert machine["python"] == platform.python_version()
    assert machine["lineside"] == sdk.__version__
    assert set(machine["engines"]) == {"onnxruntime", "openvino"}
    assert machine["cpu"]
    table = run(tiny_bundle, "--threads", "1").stdout
    told = ("20 rounds", "p99 ms", "decide", "at once")
    for word in (machine["cpu"], machine["engines"]["openvino"], *told):
        assert word in table


def test_own_images_can_be_measured_and_bad_ones_are_refused(
    tiny_bundle: TinyBundle, tmp_path: Path
) -> None:
    done = run(tiny_bundle, "--threads", "1", "--image", tiny_bundle.frames[0], "--json")
    assert json.loads(done.stdout)["frames"] == 1
    missing = run(tiny_bundle, "--image", tmp_path / "absent.png")
    assert isinstance(missing.exception, FrameError)
    small = Frame(pixels_hwc=np.zeros((4, 4, 1), np.uint8), source="small.png")
    with (
        open_bundle(tiny_bundle.path, trust=tiny_bundle.public_key_path) as bundle,
        pytest.raises(InputDataError, match=r"cannot be measured: small\.png"),
    ):
        run_bench(bundle, [small], threads=(1,), rounds=1)


def test_what_does_not_pass_is_left_out_and_said(tiny_bundle: TinyBundle, tmp_path: Path) -> None:
    one = tiny_bundle.reseal_golden(
        tmp_path / "one.lsb",
        lambda found: shift_expected(found, 0.1 if found.engine == "openvino" else 0),
    )
    done = run(tiny_bundle, "--threads", "1", bundle=one)
    assert done.exit_code == 0
    assert "left out: openvino/fp32 with 1 thread(s)" in done.stdout
    none = run(tiny_bundle, "--engine", "openvino", "--threads", "1", bundle=one)
    assert isinstance(none.exception, SelfTestError)


@given(st.lists(st.tuples(times_us, times_us, times_us), min_size=1, max_size=50))
def test_percentiles_are_ordered_and_within_what_was_measured(
    rows: list[tuple[float, float, float]],
) -> None:
    timings = [Timings(preprocess_us=a, infer_us=b, decide_us=c) for a, b, c in rows]
    stages = {stage.stage: stage for stage in summarise(timings)}
    for name, stage in stages.items():
        values = [getattr(taken, f"{name}_us") for taken in timings]
        slack = 1e-9 * max(values)
        assert min(values) - slack <= stage.p50_us <= stage.p90_us + slack
        assert stage.p90_us <= stage.p99_us + slack <= max(values) + 2 * slack
