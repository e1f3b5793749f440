"""Bytes, starts and memory, measured on the real thing in few rounds."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
from command_line import succeed
from packaging.requirements import Requirement
from tiny_suite import build_tiny_suite

from lineside_bench.drawing import encode_figure
from lineside_bench.footprint.growth import grown_bytes_a_frame, measure_growth
from lineside_bench.footprint.report import draw, tell
from lineside_bench.footprint.sizes import needed
from lineside_bench.footprint.starts import measure_starts
from lineside_bench.footprint.ways import Pair, list_pairs
from lineside_bench.suite import Suite


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return build_tiny_suite(tmp_path / "suite", [("small_cnn", "fp32")])


@pytest.fixture
def pairs(suite: Suite, tmp_path: Path) -> dict[tuple[str, str], Pair]:
    listed = list_pairs(suite, suite.sealed, tmp_path / "bare")
    return {(pair.engine, pair.start): pair for pair in listed}


def test_both_sides_start_with_both_engines_and_with_a_model_cache(
    pairs: dict[tuple[str, str], Pair],
) -> None:
    engines = ("onnxruntime", "openvino")
    assert set(pairs) == {*((engine, "plain") for engine in engines), ("openvino", "cached")}
    assert all(set(pair.asked) == {"bare", "lineside"} for pair in pairs.values())


def test_starts_and_memory_are_told_beside_the_bare_engine(
    pairs: dict[tuple[str, str], Pair], tmp_path: Path
) -> None:
    home, say = tmp_path / "home", [].append
    (row,) = measure_starts([pairs["openvino", "cached"]], rounds=1, home=home, say=say)
    bare, ours = measure_growth([pairs["onnxruntime", "plain"]], frames=60, home=home, say=say)

    for side in ("bare", "lineside"):
        assert list(row["stages_s"][side]) == ["interpreter", "import", "load", "verdict"]
        assert row[f"{side}_until_verdict_s"] > 0 < row[f"{side}_cpu_s"]
        assert 20 < row[f"{side}_resident_mb"] <= row[f"{side}_peak_mb"]
        assert list(Path(pairs["openvino", "cached"].asked[side]["cache"]).rglob("*.blob"))
    assert row["memory_target_met"] == (row["extra_mb"] <= 40)
    assert row["start_target_met"] == (row["extra_s"] <= 0.4)
    assert (bare["side"], ours["side"], ours["frames"]) == ("bare", "lineside", 60)
    assert ours["extra_mb"] == pytest.approx(ours["after_mb"] - bare["after_mb"], abs=0.06)
    found = {"starts": [row], "growth": [bare, ours]}
    assert "target +0.4 s" in tell(found) and "target +40 MB" in tell(found)
    figure = draw(found)
    assert figure is not None and encode_figure(figure).startswith(b"\x89PNG")


def test_a_station_is_timed_until_the_plc_hears(suite: Suite, tmp_path: Path) -> None:
    words = ("--only", "station", "--rounds", 1, "--out", tmp_path)
    told = succeed("measure", "footprint", suite.folder, *words)

    found = json.loads((tmp_path / "footprint.json").read_text("utf-8"))["station"]
    assert f"{found['until_heard_s']:.2f} s" in told.stdout
    assert found["resident_mb"] > 20


def test_an_installation_is_all_that_its_metadata_asks_for() -> None:
    alone, with_engine = needed("lineside"), needed("lineside", "openvino")

    asked = [Requirement(line) for line in metadata.requires("lineside") or []]
    always = {line.name for line in asked if line.marker is None}
    assert {"lineside", *always} <= alone
    assert "cffi" in alone, "cryptography's own"
    assert with_engine >= alone | {"openvino"}
    assert "openvino" not in alone and "onnxruntime" not in with_engine


@pytest.mark.parametrize("slope_kib", [0, 3, -2])
def test_growth_is_the_slope_of_the_second_half(slope_kib: int) -> None:
    warm_up = [[frame, 500 * frame] for frame in range(1, 10)]
    settled = [[frame, 90_000 + slope_kib * frame] for frame in range(10, 22)]

    assert grown_bytes_a_frame([*warm_up, *settled]) == pytest.approx(slope_kib * 1024, abs=1e-6)
