"""All forms made and measured: what they cost, which no other beats, and which is sealed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineside.bundle import ModelEntry, PartCounts, PartData, open_bundle
from lineside.candidate import SAMPLES, read_samples, write_samples
from lineside.contract import (
    Contract,
    FrameSpec,
    InputSpec,
    LimitRule,
    OutputSpec,
    RegressionHead,
)
from lineside_export import costs
from lineside_export.candidate import read_candidate
from lineside_export.cli import export
from lineside_export.costs import Cost, measure_costs, measure_peak_bytes
from lineside_export.errors import ExportError, GateError
from lineside_export.formats import Format, onnx_format, read_source
from lineside_export.front import draw_front, find_front, loss_of
from lineside_export.gates import Gates, missed_by_rates
from lineside_export.parity import Measurement, compare, measure
from lineside_export.schemes import SCHEMES
from lineside_export.search import Tried, take_fastest
from lineside_export.targets import TARGETS

CONTRACT = Contract(
    product="joint",
    frame=FrameSpec(size_hw=(8, 8), channels=1),
    input=InputSpec(size_hw=(8, 8), channels=1),
    outputs=(OutputSpec(name="value"),),
    head=RegressionHead(target="x"),
)
RULE = LimitRule(ok_limit=0.5, not_ok_limit=0.5)
TRUTHS = np.linspace(0.0, 1.0, 50)


def measured(values: NDArray[np.float64], targets: NDArray[np.float64] = TRUTHS) -> Measurement:
    return measure(
        "onnxruntime",
        "int8",
        {"value": values.astype(np.float32)},
        targets=targets,
        contract=CONTRACT,
        rule=RULE,
    )


def form(name: str, *, error: float, p50_us: float, engine: str = "onnxruntime") -> Tried:
    made = Format(
        entry=ModelEntry(engine=engine, precision=name, parts=("model.onnx",)),  # type: ignore[arg-type]
        parts=(PartData(name="model.onnx", data=b"12345678", engine=engine),),  # type: ignore[arg-type]
    )
    return Tried(
        engine=engine,
        precision=name,
        made=made,
        comparison=compare(measured(TRUTHS), measured(TRUTHS + error)),
        cost=Cost(p50_us=p50_us, p99_us=2 * p50_us, peak_memory_bytes=10**8),
    )


def test_the_front_is_what_nothing_beats() -> None:
    slow = form("slow", error=0.1, p50_us=900.0)
    fast = form("fast", error=0.3, p50_us=100.0)
    beaten = form("beaten", error=0.35, p50_us=200.0)
    unmeasured = replace(form("unmeasured", error=0.0, p50_us=1.0), cost=None)
    assert find_front([slow, beaten, fast, unmeasured]) == [fast, slow]


@given(
    points=st.lists(
        st.tuples(st.floats(0.01, 1.0), st.floats(1.0, 1e4)), min_size=1, max_size=6, unique=True
    )
)
def test_whatever_is_not_on_the_front_is_beaten_by_something_on_it(
    points: list[tuple[float, float]],
) -> None:
    forms = [form(f"f{k}", error=e, p50_us=us) for k, (e, us) in enumerate(points)]
    front = find_front(forms)
    assert front
    latencies = [found.cost.p50_us for found in front if found.cost is not None]
    assert latencies == sorted(latencies)
    for found in forms:
        if all(found is not other for other in front):
            assert any(
                other.cost.p50_us <= found.cost.p50_us and loss_of(other) <= loss_of(found)  # type: ignore[union-attr]
                for other in front
            )


def test_the_fastest_that_holds_is_taken_for_each_engine() -> None:
    misses = replace(form("misses", error=0.0, p50_us=1.0), missed=("drowns",))
    quick, slow = form("quick", error=0.1, p50_us=5.0), form("slow", error=0.0, p50_us=9.0)
    other = form("other", error=0.0, p50_us=20.0, engine="openvino")
    taken = take_fastest([misses, replace(slow, chosen=True), quick, other])
    assert [found.precision for found in taken if found.chosen] == ["quick", "other"]


def test_a_form_that_nobody_asked_for_is_never_taken() -> None:
    """The float form stands beside every other; `--precision` says what may be sealed."""
    misses = replace(form("int8", error=0.0, p50_us=1.0), missed=("drowns",))
    unasked = replace(form("fp32", error=0.0, p50_us=5.0), asked=False)
    assert not any(found.chosen for found in take_fastest([misses, unasked]))


def test_a_sweep_seals_no_form_that_was_not_asked_for(
    small_candidate: Path, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "swept.lsb"
    arguments = [str(small_candidate), "--out", str(out), "--key", str(key_pair[0]), "--sweep"]
    arguments += ["--engines", "onnxruntime", "--precision", "int8"]
    done = CliRunner().invoke(export, [*arguments, "--max-drop", "0", "--max-flips", "0"])
    assert isinstance(done.exception, GateError)
    assert "No bundle was written" in str(done.exception)
    assert not out.exists()


def test_the_picture_is_drawn_with_and_without_targets() -> None:
    forms = [
        replace(form("a", error=0.1, p50_us=5.0), chosen=True),
        form("b", error=0.0, p50_us=9.0),
    ]
    assert draw_front(forms, measured(TRUTHS), "joint").startswith(b"\x89PNG")
    nothing_known = np.full(len(TRUTHS), np.nan)
    reference = measured(TRUTHS, nothing_known)
    untold = [
        replace(found, comparison=compare(reference, measured(TRUTHS + error, nothing_known)))
        for found, error in zip(forms, (0.1, 0.02), strict=True)
    ]
    assert [round(loss_of(found), 6) for found in untold] == [0.1, 0.02]
    assert draw_front(untold, reference, "joint").startswith(b"\x89PNG")


def counts(escaped: int, overkilled: int) -> PartCounts:
    return PartCounts(
        engine="openvino",
        precision="int8",
        bad=50,
        escaped=escaped,
        bad_reviewed=0,
        good=200,
        overkilled=overkilled,
        good_reviewed=0,
    )


def test_rates_may_rise_by_no_more_than_allowed() -> None:
    before = counts(escaped=1, overkilled=10)
    gates = Gates(max_escape_increase=0.02, max_overkill_increase=0.01)
    assert missed_by_rates(before, counts(escaped=2, overkilled=12), gates) == ()
    (missed,) = missed_by_rates(before, counts(escaped=3, overkilled=12), gates)
    assert "escape rate goes from 1 to 3 of 50 bad parts" in missed
    assert "--max-escape-increase" in missed
    (missed,) = missed_by_rates(before, counts(escaped=0, overkilled=13), gates)
    assert "overkill rate goes from 10 to 13 of 200 good parts" in missed
    assert missed_by_rates(before, counts(escaped=50, overkilled=200), Gates()) == ()


@pytest.mark.parametrize(("rate", "kind"), [("escape", "bad"), ("overkill", "good")])
def test_a_bound_on_a_rate_that_nobody_can_count_is_refused(
    small_candidate: Path, key_pair: tuple[Path, Path], tmp_path: Path, rate: str, kind: str
) -> None:
    folder = tmp_path / "candidate"
    shutil.copytree(small_candidate, folder)
    sets = dict(read_samples(folder / SAMPLES))
    unknown = np.full(len(sets["validation"]), np.nan)
    sets["validation"] = replace(sets["validation"], targets=unknown)
    write_samples(folder / SAMPLES, sets)
    arguments = [folder, "--out", tmp_path / "x.lsb", "--key", key_pair[0], "--precision", "int8"]
    done = CliRunner().invoke(export, [*map(str, arguments), f"--max-{rate}-increase", "0.1"])
    assert isinstance(done.exception, ExportError)
    assert f"no {kind} part is among the validation samples" in str(done.exception)


def test_memory_is_that_of_a_process_without_torch(
    small_candidate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "msgspec.py").write_text("raise SystemExit('a file of the user was imported')")
    monkeypatch.chdir(tmp_path)
    read = read_candidate(small_candidate)
    made = onnx_format("fp32", read_source(read).data)
    images = read.images_nhwc("validation")
    said: list[str] = []
    (cost,) = measure_costs([made], images, read, said.append)
    assert 0.0 < cost.p50_us <= cost.p99_us
    # Python, numpy and ONNX Runtime hold some 80 MB (measured); torch alone adds 200.
    assert 30e6 < cost.peak_memory_bytes < 180e6
    broken = Format(entry=made.entry, parts=(replace(made.parts[0], data=b"no model"),))
    with pytest.raises(ExportError, match="onnxruntime fp32: the process that runs it dies"):
        measure_peak_bytes(broken, read)
    monkeypatch.setattr(costs, "_PEAK_TIMEOUT_S", 0.01)
    with pytest.raises(ExportError, match=r"takes more than 0\.01 s"):
        measure_peak_bytes(made, read)


def test_a_sweep_makes_all_measures_all_and_seals_the_fastest(
    small_candidate: Path, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "swept.lsb"
    arguments = (small_candidate, "--out", out, "--key", key_pair[0], "--sweep", "--json")
    done = CliRunner().invoke(export, [str(a) for a in arguments], catch_exceptions=False)
    forms: list[dict[str, Any]] = json.loads(done.stdout)["forms"]
    for engine in ("onnxruntime", "openvino"):
        own = {found["precision"]: found for found in forms if found["engine"] == engine}
        assert set(own) == {name for name, scheme in SCHEMES.items() if engine in scheme.build}
        holding = [f for f in own.values() if f["cost"] and not f["missed_gates"]]
        (sealed,) = (f for f in own.values() if f["sealed"])
        assert sealed["cost"]["p50_us"] == min(f["cost"]["p50_us"] for f in holding)
    report = out.with_name("swept.lsb.report")
    assert (report / "front.png").read_bytes().startswith(b"\x89PNG")
    document = json.loads((report / "parity.json").read_text())
    assert [f["cost"] for f in document["forms"]] == [f["cost"] for f in forms]
    assert "p50 ms" in done.stderr and "memory" in done.stderr
    with open_bundle(out, trust=key_pair[1]) as bundle:
        found = {(m.engine, m.precision) for m in bundle.manifest.models}
    assert found == {(f["engine"], f["precision"]) for f in forms if f["sealed"]}


def test_a_sweep_seals_no_form_that_was_not_named(
    small_candidate: Path, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """The small CNN cannot be dynamic; its float form is made and measured all the same."""
    out = tmp_path / "x.lsb"
    arguments = (small_candidate, "--out", out, "--key", key_pair[0], "--sweep")
    named = ("--precision", "int8-dynamic", "--engines", "onnxruntime")
    done = CliRunner().invoke(export, [str(a) for a in (*arguments, *named)])
    assert isinstance(done.exception, GateError), (done.output, done.exception)
    assert not out.exists()


def test_a_sweep_for_other_hardware_keeps_to_its_order(
    small_candidate: Path, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """What is fastest on this processor says nothing about a Jetson."""
    arguments = (small_candidate, "--out", tmp_path / "jetson.lsb", "--key", key_pair[0], "--json")
    arguments += ("--target", "jetson", "--sweep", "--max-drop", "5", "--max-flips", "80")
    done = CliRunner().invoke(export, [str(a) for a in arguments], catch_exceptions=False)
    document = json.loads(done.stdout)
    sealed = [form["precision"] for form in document["forms"] if form["sealed"]]
    held = [form["precision"] for form in document["forms"] if not form["missed_gates"]]
    assert sealed == [
        next(name for name in TARGETS["jetson"].precisions["onnxruntime"] if name in held)
    ]
    assert document["unchecked"]
