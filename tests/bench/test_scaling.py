"""How latency and memory grow: exponents of known powers, and every kind of size measured."""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from command_line import succeed
from hypothesis import given
from hypothesis import strategies as st
from patch_memory import SIDE_PX, directions, memory_contract, memory_onnx, memory_rule
from tiny_bundle import ONNX_ENTRY, OPENVINO_ENTRY, TinyBundle, golden_samples, model_parts
from tiny_suite import build_tiny_suite

from lineside.bundle import PartData, load_private_key, seal_bundle
from lineside.golden import GOLDEN_PART, encode_golden
from lineside.memory import MEMORY_PART, encode_memory, view_memory
from lineside_bench.record import publish
from lineside_bench.scaling.axes import list_points
from lineside_bench.scaling.command import document, fit_series, measure_points, tell
from lineside_bench.scaling.fit import fit_exponent
from lineside_bench.scaling.picture import draw
from lineside_bench.scaling.points import Opened
from lineside_bench.scaling.stations import measure_stations
from lineside_bench.suite import LIST_FILE, SIDES_FOLDER, Sealed, Suite, encode_list


@given(
    power=st.floats(-2, 3),
    factor=st.floats(1e-3, 1e3),
    sizes=st.lists(st.integers(1, 10_000), min_size=3, max_size=9, unique=True),
)
def test_a_pure_power_is_found(power: float, factor: float, sizes: list[int]) -> None:
    fit = fit_exponent(sizes, [factor * size**power for size in sizes])

    # Rounded to 3 digits.
    assert fit["exponent"] == pytest.approx(power, abs=6e-4)
    assert fit["large_end"] == pytest.approx(power, abs=6e-4)
    assert fit["low"] - 1e-9 <= fit["exponent"] <= fit["high"] + 1e-9
    assert fit["high"] - fit["low"] < 2e-3


def test_what_does_not_grow_widens_the_interval_and_not_the_large_end() -> None:
    sizes = [1, 4, 16, 64, 256]
    fit = fit_exponent(sizes, [100 + size**2 for size in sizes])

    assert fit["low"] < fit["exponent"] < fit["high"]
    assert fit["exponent"] < 1.4 < 1.9 < fit["large_end"] < 2


def test_the_interval_holds_the_power_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    sizes = [1, 2, 4, 8, 16, 32]
    fits = [
        fit_exponent(sizes, [size * math.exp(random.normal(0, 0.1)) for size in sizes])
        for _ in range(1000)
    ]

    held = sum(fit["low"] <= 1 <= fit["high"] for fit in fits)

    # 950 expected; 4.5 standard deviations of a fair count are 31.
    assert 919 <= held <= 981


def test_too_little_gives_no_fit() -> None:
    rows = [{"series": "a", "size": 1, "p50_us": 5.0, "memory_mib": None}]

    assert fit_series(rows) == {"a": {"latency": None, "memory": None}}


def seal_memory(folder: Path, key: Path, tiny: TinyBundle) -> None:
    """A model with a memory of 20 patches."""
    contract = memory_contract()
    rows = directions(list(np.linspace(0.1, 0.4, 20)))
    memory = PartData(name=MEMORY_PART, data=encode_memory(rows))
    (folder / "made").mkdir()
    parts = (*model_parts(memory_onnx(), folder / "made"), memory)
    frame = np.full((SIDE_PX, SIDE_PX, contract.input.channels), 60, np.uint8)
    golden = encode_golden(golden_samples(contract, parts, [frame]))
    identity = msgspec.structs.replace(tiny.manifest.identity, product=contract.product)
    manifest = msgspec.structs.replace(
        tiny.manifest,
        identity=identity,
        contract=contract,
        rule=memory_rule(),
        models=(ONNX_ENTRY, OPENVINO_ENTRY),
    )
    seal_bundle(
        folder / "memory_int8.lsb",
        manifest=manifest,
        parts=(*parts, PartData(name=GOLDEN_PART, data=golden)),
        key=load_private_key(key),
    )


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: TinyBundle) -> Suite:
    """A tiny one with every kind of model that is asked for."""
    folder = tmp_path_factory.mktemp("suite")
    plain = build_tiny_suite(folder, [("vit_tiny", "int8"), ("vit_tiny", "fp32")])
    build_tiny_suite(folder / SIDES_FOLDER, [("vit_tiny 16 px", "fp32")])
    sides = folder / SIDES_FOLDER / LIST_FILE
    (smaller,) = msgspec.json.decode(sides.read_bytes(), type=tuple[Sealed, ...])
    sides.write_bytes(encode_list([msgspec.structs.replace(smaller, side_px=16)]))
    seal_memory(folder, folder / "tiny" / "tiny.key", tiny_bundle)
    held = Sealed(model="memory", kind="anomaly", side_px=8, form="int8", file="memory_int8.lsb")
    (folder / LIST_FILE).write_bytes(encode_list([*plain.sealed, held]))
    return Suite(folder=folder, sealed=(*plain.sealed, held))


def test_every_size_is_a_bundle_that_judges(suite: Suite, tmp_path: Path) -> None:
    axes = list_points(suite, tmp_path, quick=True)

    assert list(axes) == ["frame", "patches", "regions", "memory"]
    sizes = {axis: sorted({point.size for point in points}) for axis, points in axes.items()}
    assert sizes == {
        "frame": [64, 256, 1024],
        "patches": [4, 16],
        "regions": [1, 4, 16],
        "memory": [100, 1000, 10_000],
    }
    with Opened() as opened:
        for points in axes.values():
            for point in points:
                opened.way(point)(0)


def test_a_longer_memory_begins_with_the_sealed_one(suite: Suite, tmp_path: Path) -> None:
    points = list_points(suite, tmp_path, quick=True)["memory"]
    sealed = suite.open(suite.pick("memory", "int8"))
    with Opened() as opened, sealed:
        spec = sealed.manifest.contract.memory
        assert spec is not None
        few = view_memory(sealed.part(MEMORY_PART), spec, source="sealed")
        bundle = opened.bundle(points[1])
        many = view_memory(bundle.part(MEMORY_PART), spec, source="made")
        assert (len(few), len(many)) == (20, 1000)
        np.testing.assert_array_equal(many[:20], few)
        assert len(np.unique(many, axis=0)) == 1000


def test_each_station_s_verdicts_are_timed() -> None:
    rows = measure_stations((1, 3), parts=3, rate_hz=20.0)

    assert [(row["size"], row["verdicts"], row["lost"]) for row in rows] == [(1, 3, 0), (3, 9, 0)]
    assert all(0 < row["p50_us"] <= row["p90_us"] for row in rows)
    assert all(row["memory_mib"] > 0 for row in rows)


def test_what_was_measured_is_told_and_drawn(suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    points = list_points(suite, tmp_path / "made", quick=True)["regions"]
    one_by_one = [point for point in points if point.series == points[0].series]
    rows = measure_points(one_by_one[:2], quick=True)
    assert [(row["size"], row["rounds"]) for row in rows] == [(1, 5), (4, 5)]
    assert all(0 < row["p50_us"] <= row["p90_us"] for row in rows)
    assert all(10 < row["memory_mib"] < 1000 for row in rows)

    found = document({"regions": rows, "patches": []}, {"patches": "no model"})
    publish("scaling", found, tell(found), draw(found), out=tmp_path, as_json=False)

    (series,) = found["fits"]["regions"]
    for word in ("regions of a frame", "exponents", series, "left out: patches: no model"):
        assert word in tell(found)
    kept = json.loads((tmp_path / "scaling.json").read_text("utf-8"))
    assert kept["fits"]["regions"] == found["fits"]["regions"]
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


def test_the_verb_is_there() -> None:
    assert "stations on one broker" in succeed("measure", "scaling", "--help").stdout
