"""The golden self-test: what passes, what is refused, and that it bites."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tiny_bundle import TOLERANCE_ABS, TinyBundle, shift_expected, tiny_contract

from lineside.bundle import Bundle, PartData, open_bundle
from lineside.contract import FrameSpec, LimitRule
from lineside.engines import Engine, EngineSettings, open_engine
from lineside.errors import SelfTestError
from lineside.golden import GOLDEN_PART, encode_golden
from lineside.selftest import SelfTestResult, measure_selftest, run_selftest

replace = msgspec.structs.replace


@pytest.fixture(params=["onnxruntime", "openvino"])
def name(request: pytest.FixtureRequest) -> str:
    engine: str = request.param
    return engine


def prove(
    path: Path,
    tiny: TinyBundle,
    name: str,
    test: Callable[[Bundle, Engine], SelfTestResult] = run_selftest,
) -> SelfTestResult:
    with open_bundle(path, trust=tiny.public_key_path) as bundle:
        (model,) = [model for model in bundle.manifest.models if model.engine == name]
        engine = open_engine(
            model, bundle.part, bundle.manifest.contract, EngineSettings(threads=1)
        )
        try:
            return test(bundle, engine)
        finally:
            engine.close()


def test_what_was_sealed_here_passes_here(tiny_bundle: TinyBundle, name: str) -> None:
    result = prove(tiny_bundle.path, tiny_bundle, name)
    (drift,) = result.outputs
    assert result.passed
    assert (result.engine, result.precision, result.verdict_flips) == (name, "fp32", 0)
    assert (drift.output, drift.samples, drift.tolerance_abs) == ("value", 4, TOLERANCE_ABS)
    assert drift.max_abs_drift < 1e-6


def test_drift_beyond_tolerance_is_refused_with_its_figures(
    tiny_bundle: TinyBundle, name: str, tmp_path: Path
) -> None:
    path = tiny_bundle.reseal_golden(
        tmp_path / "drifted.lsb", lambda found: shift_expected(found, 0.01)
    )
    with pytest.raises(SelfTestError, match=r"value drifts 0\.01 \(tolerance 0\.0001\).*--engine"):
        prove(path, tiny_bundle, name)
    result = prove(path, tiny_bundle, name, measure_selftest)
    assert not result.passed
    assert result.outputs[0].max_abs_drift == pytest.approx(0.01, rel=1e-3)


def test_drift_just_within_tolerance_passes(
    tiny_bundle: TinyBundle, name: str, tmp_path: Path
) -> None:
    path = tiny_bundle.reseal_golden(
        tmp_path / "drifted.lsb", lambda found: shift_expected(found, TOLERANCE_ABS * 0.9)
    )
    assert prove(path, tiny_bundle, name).passed


def test_a_changed_verdict_is_refused_however_wide_the_tolerance(
    tiny_bundle: TinyBundle, name: str, tmp_path: Path
) -> None:
    path = tiny_bundle.reseal_golden(
        tmp_path / "flipped.lsb",
        lambda found: replace(shift_expected(found, 0.35), tolerance_abs=1e9),
    )
    with pytest.raises(SelfTestError, match=r"2 verdict\(s\) changed"):
        prove(path, tiny_bundle, name)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_never_passes(
    tiny_bundle: TinyBundle, name: str, tmp_path: Path, value: float
) -> None:
    path = tiny_bundle.reseal_golden(
        tmp_path / "nan.lsb",
        lambda found: replace(shift_expected(found, value), tolerance_abs=1e300),
    )
    with pytest.raises(SelfTestError, match="drifts inf"):
        prove(path, tiny_bundle, name)


def test_without_golden_samples_nothing_is_proved(
    tiny_bundle: TinyBundle, name: str, tmp_path: Path
) -> None:
    path = tiny_bundle.reseal(tmp_path / "bare.lsb", dropped=[GOLDEN_PART])
    with pytest.raises(SelfTestError, match="holds no golden samples"):
        prove(path, tiny_bundle, name)
    empty = replace(tiny_bundle.golden(), frames=())
    part = PartData(name=GOLDEN_PART, data=encode_golden(empty))
    path = tiny_bundle.reseal(tmp_path / "empty.lsb", changed=[part])
    with pytest.raises(SelfTestError, match="holds no frame"):
        prove(path, tiny_bundle, name)


def test_an_engine_that_nothing_was_sealed_for_is_refused(
    tiny_bundle: TinyBundle, name: str, tmp_path: Path
) -> None:
    path = tiny_bundle.reseal_golden(
        tmp_path / "one-sided.lsb", lambda found: None if found.engine == name else found
    )
    with pytest.raises(SelfTestError, match=f"nothing is sealed for output 'value' with {name}"):
        prove(path, tiny_bundle, name)


def test_a_golden_frame_that_the_contract_refuses_is_named(
    tiny_bundle: TinyBundle, name: str, tmp_path: Path
) -> None:
    contract = tiny_contract(frame=FrameSpec(size_hw=(64, 64), channels=1))
    path = tiny_bundle.reseal(
        tmp_path / "other.lsb", manifest=replace(tiny_bundle.manifest, contract=contract)
    )
    with pytest.raises(SelfTestError, match=r"refuses a golden frame: frame 0: 32x32"):
        prove(path, tiny_bundle, name)


def test_the_sealed_rule_judges_the_golden_frames(
    tiny_bundle: TinyBundle, name: str, tmp_path: Path
) -> None:
    """A rule whose limit lies on a golden score: any drift at all would flip it."""
    golden = tiny_bundle.golden()
    found = golden.expectation(name, "fp32", "value")
    assert found is not None
    score = float(found.expected(len(golden.frames), ())[0])
    rule = LimitRule(ok_limit=score, not_ok_limit=score, unit="K/W")
    path = tiny_bundle.reseal(
        tmp_path / "edge.lsb", manifest=replace(tiny_bundle.manifest, rule=rule)
    )
    # On the machine that sealed it there is no drift, so the verdict stands.
    assert prove(path, tiny_bundle, name).passed
