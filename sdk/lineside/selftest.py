"""The golden samples on this very device: same numbers within tolerance, same verdicts, or none."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineside.bundle import Bundle
from lineside.bundle.manifest import ModelEntry
from lineside.contract import Contract, LimitRule
from lineside.decide import decide
from lineside.engines import Engine, EngineSettings, open_engine
from lineside.errors import FrameError, LinesideError, SelfTestError
from lineside.golden import GOLDEN_PART, GoldenSamples, decode_golden
from lineside.heads import find_outputs, score_outputs
from lineside.preprocess import prepare
from lineside.verdict import Evaluation


class OutputDrift(msgspec.Struct, frozen=True, kw_only=True):
    """How far one output lies from what was sealed.

    Attributes:
        output: its name.
        samples: how many golden frames.
        max_abs_drift: largest absolute difference, in the output's unit; infinite when an output
            is not a finite number.
        tolerance_abs: the largest that passes.
    """

    output: str
    samples: int
    max_abs_drift: float
    tolerance_abs: float

    @property
    def passed(self) -> bool:
        """Within tolerance."""
        return self.max_abs_drift <= self.tolerance_abs


class SelfTestResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the golden samples showed.

    Attributes:
        engine: its name.
        precision: of the weights.
        outputs: the numeric drift of each.
        verdict_flips: golden frames whose evaluation differs from the sealed one.
    """

    engine: str
    precision: str
    outputs: tuple[OutputDrift, ...]
    verdict_flips: int

    @property
    def passed(self) -> bool:
        """Every output within tolerance and not one verdict changed."""
        return self.verdict_flips == 0 and all(drift.passed for drift in self.outputs)

    def told(self) -> str:
        """One line for people."""
        drifts = ", ".join(
            f"{drift.output} drifts {drift.max_abs_drift:.3g} (tolerance {drift.tolerance_abs:.3g})"
            for drift in self.outputs
        )
        samples = self.outputs[0].samples if self.outputs else 0
        return f"{samples} golden frames: {drifts}; {self.verdict_flips} verdict(s) changed"


def read_golden(bundle: Bundle) -> GoldenSamples:
    """The bundle's golden samples.

    Raises:
        BundleFormatError: the part is damaged.
        SelfTestError: there is none, so nothing can be proved.
    """
    if GOLDEN_PART not in bundle.present:
        raise SelfTestError(
            f"{bundle.path}: holds no golden samples ({GOLDEN_PART}), so no engine can be proved "
            "on this device: export the bundle again"
        )
    samples = decode_golden(bundle.part(GOLDEN_PART), source=f"{bundle.path}: {GOLDEN_PART}")
    if not samples.frames:
        raise SelfTestError(f"{bundle.path}: {GOLDEN_PART} holds no frame: export it again")
    return samples


def prepare_golden(samples: GoldenSamples, contract: Contract) -> NDArray[np.uint8]:
    """All golden frames as model input: (N, H, W, C) uint8.

    Raises:
        SelfTestError: a golden frame is not one the contract accepts.
    """
    try:
        return np.stack(
            [
                prepare(golden.pixels_hwc, contract.frame, contract.input, source=f"frame {index}")
                for index, golden in enumerate(samples.frames)
            ]
        )
    except FrameError as error:
        raise SelfTestError(
            f"{GOLDEN_PART}: the contract refuses a golden frame: {error}: export the bundle again"
        ) from error


def measure_selftest(bundle: Bundle, engine: Engine, *, at_least: int = 1) -> SelfTestResult:
    """Infer the golden frames and compare; a failed comparison is a result, not an error.

    Args:
        bundle: opened and verified.
        engine: to be proved.
        at_least: so many frames at once, the golden ones again and again, forth and back: each
            batch and lane of the engine meets them, and each frame has other neighbours.

    Raises:
        SelfTestError: no golden samples for this engine and precision.
        EngineError: the engine fails while computing.
    """
    manifest = bundle.manifest
    samples = read_golden(bundle)
    expected, tolerances = _expected(samples, engine, manifest.contract)
    order = _order(len(samples.frames), at_least)
    expected = {name: values[order] for name, values in expected.items()}
    actual = engine.infer(prepare_golden(samples, manifest.contract)[order])
    flips = sum(
        sealed is not now
        for sealed, now in zip(
            _evaluations(expected, manifest.contract, manifest.rule),
            _evaluations(actual, manifest.contract, manifest.rule),
            strict=True,
        )
    )
    result = SelfTestResult(
        engine=engine.name,
        precision=engine.precision,
        outputs=tuple(
            OutputDrift(
                output=name,
                samples=len(samples.frames),
                max_abs_drift=_max_abs_drift(values, actual[name]),
                tolerance_abs=tolerances[name],
            )
            for name, values in expected.items()
        ),
        verdict_flips=flips,
    )
    if result.passed:
        _find_once(actual, samples, manifest.contract)
    return result


def run_selftest(bundle: Bundle, engine: Engine, *, at_least: int = 1) -> SelfTestResult:
    """Prove the engine on this device, or refuse it.

    Args:
        bundle, engine, at_least: as `measure_selftest` takes them.

    Raises:
        SelfTestError: drift beyond tolerance, a changed verdict, or no golden samples for it.
        EngineError: the engine fails while computing.
    """
    result = measure_selftest(bundle, engine, at_least=at_least)
    if not result.passed:
        raise SelfTestError(
            f"{bundle.path}: {engine.description}: the golden self-test failed here: "
            f"{result.told()}. Try the other engine (--engine), or export for this device"
        )
    return result


def _order(count: int, at_least: int) -> NDArray[np.intp]:
    forth = np.arange(count)
    rounds = [forth[:: -1 if number % 2 else 1] for number in range(-(-at_least // count))]
    return np.concatenate(rounds)[: max(count, at_least)]


def _expected(
    samples: GoldenSamples, engine: Engine, contract: Contract
) -> tuple[dict[str, NDArray[np.float32]], dict[str, float]]:
    expected, tolerances = {}, {}
    for spec in contract.outputs:
        found = samples.expectation(engine.name, engine.precision, spec.name)
        if found is None:
            raise SelfTestError(
                f"{GOLDEN_PART}: nothing is sealed for output {spec.name!r} with "
                f"{engine.name}/{engine.precision}: export the bundle again"
            )
        expected[spec.name] = found.expected(len(samples.frames), spec.shape)
        tolerances[spec.name] = found.tolerance_abs
    return expected, tolerances


def _find_once(
    outputs: Mapping[str, NDArray[np.float32]], samples: GoldenSamples, contract: Contract
) -> None:
    """So that what finding needs is loaded by now, and the first bad part is as quick as others."""
    first = {name: values[:1] for name, values in outputs.items()}
    height, width, _ = samples.frames[0].shape_hwc
    find_outputs(first, contract.head, (height, width))


def _evaluations(
    outputs: Mapping[str, NDArray[np.float32]], contract: Contract, rule: LimitRule
) -> list[Evaluation]:
    return [decide(float(score), rule)[0] for score in score_outputs(outputs, contract.head)]


def _max_abs_drift(expected: NDArray[np.float32], actual: NDArray[np.float32]) -> float:
    drift = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    # NaN compares false with every tolerance in one direction and true in the other.
    return float(drift.max()) if np.isfinite(drift).all() else float("inf")


def open_tested(
    bundle: Bundle, model: ModelEntry, settings: EngineSettings, *, at_least: int = 1
) -> Engine:
    """Open an engine and prove it; what it was made from is then given back to the system.

    Args:
        bundle, at_least: as `measure_selftest` takes them.
        model: of its manifest.
        settings: threads, lanes, devices.

    Raises:
        EngineError: it does not open, fails, or does not pass (`SelfTestError`).
        BundleFormatError: the golden samples are damaged.
    """
    engine = open_engine(model, bundle.part, bundle.manifest.contract, settings)
    try:
        run_selftest(bundle, engine, at_least=at_least)
    except LinesideError:
        engine.close()
        raise
    # The engine holds what it needs of them as a copy of its own.
    for part in (*model.parts, GOLDEN_PART):
        bundle.let_go(part)
    return engine
