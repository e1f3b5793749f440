"""What is sealed for drift: of which samples, as a device computes it, and in which forms."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from patch_memory import memory_onnx
from torch import nn

import lineside
from lineside.bundle import open_bundle
from lineside.candidate import SAMPLES, SampleSet, read_samples, write_samples
from lineside.contract import LimitRule
from lineside.drift import (
    DRIFT_PART,
    EMBEDDING_OUTPUT,
    DriftReference,
    DriftSettings,
    PartStatistics,
    Spread,
    decode_reference,
    measure_picture,
)
from lineside.golden import GoldenExpectation, GoldenSamples
from lineside.station.drift import open_drift_watch
from lineside_export import embedding_output
from lineside_export.candidate import Candidate, read_candidate
from lineside_export.cli import export
from lineside_export.drift_reference import make_drift_reference
from lineside_export.embedding_output import Sealable, with_embedding
from lineside_export.errors import GraphError
from lineside_export.formats import FLOAT, onnx_format, read_source
from lineside_export.golden import make_golden
from lineside_export.parity import measure
from lineside_export.tap_onnx import find_embedding

RULE = LimitRule(ok_limit=0.06, not_ok_limit=0.06)


def sealed_reference(bundle: Path, trust: Path) -> DriftReference:
    with open_bundle(bundle, trust=trust) as opened:
        return decode_reference(opened.part(DRIFT_PART), source=DRIFT_PART)


def export_fp32(candidate: Path, out: Path, key_pair: tuple[Path, Path]) -> Path:
    words = [str(candidate), "--out", str(out), "--key", str(key_pair[0]), "--precision", "fp32"]
    result = CliRunner().invoke(export, words, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return out


def kept(values: Any, name: Any) -> Spread:
    return Spread.from_values(np.asarray(values, np.float64), name)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_device_computes_what_was_sealed(exported: Any, engine: str) -> None:
    """Score, embedding, light, clipping and focus of int8 forms, by the device's own road."""
    reference = sealed_reference(exported.bundle, exported.trust)
    frames = read_samples(exported.candidate / SAMPLES)["validation"].frames_hwc
    with lineside.load(
        exported.bundle, trust=exported.trust, engine=engine, threads=1
    ) as inspector:
        contract = inspector.contract
        outputs = [inspector.engine.infer(frame[np.newaxis]) for frame in frames]
        scores = [inspector.inspect(frame).score for frame in frames]
    pictures = [measure_picture(frame, contract.frame) for frame in frames]

    (form,) = [found for found in reference.forms if found.engine == engine]
    assert form.precision == "int8"
    assert form.score == kept(scores, "score")
    assert form.embedding == kept([o[EMBEDDING_OUTPUT][0] for o in outputs], "embedding")
    for name in ("light", "clipping", "focus"):
        assert getattr(reference, name) == kept([getattr(p, name) for p in pictures], name)
    # 80 images of 16 parts.
    assert (reference.of, reference.parts) == ("all", 16.0)


def test_neither_golden_nor_assurance_samples_have_a_say(
    small_candidate: Path, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    other = Path(shutil.copytree(small_candidate, tmp_path / "candidate"))
    sets = read_samples(other / SAMPLES)
    golden = sets["golden"]
    dark = [frame // 2 for frame in golden.frames_hwc]
    assurance = SampleSet(
        frames_hwc=dark, targets=golden.targets, parts=[f"a{part}" for part in golden.parts]
    )
    few = SampleSet(frames_hwc=golden.frames_hwc[::-1], targets=golden.targets, parts=golden.parts)
    write_samples(other / SAMPLES, {**sets, "golden": few, "assurance": assurance})
    found = [
        sealed_reference(export_fp32(folder, tmp_path / name, key_pair), key_pair[1])
        for name, folder in (("one.lsb", small_candidate), ("two.lsb", other))
    ]
    assert found[0] == found[1]


def test_the_distance_is_what_the_formula_says(
    small_candidate: Path,
    key_pair: tuple[Path, Path],
    tmp_path: Path,
    new_candidate: Callable[..., Path],
) -> None:
    """Against the network's own features: centred, scaled, root mean square."""
    bundle = export_fp32(small_candidate, tmp_path / "a.lsb", key_pair)
    read = read_candidate(small_candidate)
    module = torch.export.load(read.program_file).module()
    features = hidden_features(module, read)
    usual = features(read.images_nhwc("quantisation"))
    spread = usual.std(axis=0)
    spread = np.maximum(spread, 0.1 * np.sqrt((spread**2).mean()))
    seen = features(read.images_nhwc("validation"))
    wanted = np.sqrt((((seen - usual.mean(axis=0)) / spread) ** 2).mean(axis=1))

    for engine in ("onnxruntime", "openvino"):
        with lineside.load(bundle, trust=key_pair[1], engine=engine) as inspector:
            found = inspector.engine.infer(read.images_nhwc("validation"))[EMBEDDING_OUTPUT]
        # Measured: 4e-7 of values about 1.
        np.testing.assert_allclose(found, wanted, rtol=2e-5)
    # Other parts than the space was fitted to, and no further off than usual.
    assert np.median(wanted) == pytest.approx(1.0, abs=0.5)


def hidden_features(
    module: Any, read: Candidate
) -> Callable[[NDArray[np.uint8]], NDArray[np.float64]]:
    """What the last layer of the small network reads, by torch."""
    weights = dict(module.named_parameters())
    first, second = (
        (weights[f"body.{place}.weight"], weights[f"body.{place}.bias"]) for place in (0, 2)
    )

    def features(images_nhwc: NDArray[np.uint8]) -> NDArray[np.float64]:
        pixels = (torch.from_numpy(images_nhwc).permute(0, 3, 1, 2).float() / 255.0 - 0.45) / 0.25
        with torch.no_grad():
            hidden = nn.functional.conv2d(pixels, *first, stride=4).relu()
            hidden = nn.functional.conv2d(hidden, *second).relu()
        return hidden.mean(dim=(2, 3)).double().numpy()

    return features


def plain_sealable(read: Candidate) -> tuple[Sealable, Any]:
    """The float form as it would be sealed without the output."""
    source = read_source(read)
    made = onnx_format(FLOAT, source.data)
    measured = measure(
        "onnxruntime",
        FLOAT,
        made.infer(read.images_nhwc("validation"), read),
        targets=read.samples["validation"].targets,
        contract=read.contract,
        rule=RULE,
    )
    golden = make_golden(read.samples["golden"], [0, 1], [], [])
    sealable = Sealable(candidate=read, formats=(made,), measured=(measured,), golden=golden)
    return sealable, source


def test_a_form_that_would_change_by_it_goes_without(small_candidate: Path) -> None:
    plain, source = plain_sealable(read_candidate(small_candidate))
    assert with_embedding(plain, source).candidate.contract.outputs[-1].name == EMBEDDING_OUTPUT

    (measured,) = plain.measured
    one_bit = {n: np.nextafter(v, np.float32(9.0)) for n, v in measured.outputs.items()}
    changed = replace(plain, measured=(replace(measured, outputs=one_bit),))
    assert with_embedding(changed, source) is changed


def test_a_map_may_be_rounded_otherwise_and_no_more(small_candidate: Path) -> None:
    plain, _ = plain_sealable(read_candidate(small_candidate))
    (measured,) = plain.measured
    count = len(measured.scores)
    wanted = np.linspace(0.5, 2.0, count, dtype=np.float32)
    where = np.ones((count, 2, 2), np.float32)
    before = replace(measured, outputs={**measured.outputs, "map": where})

    def holds(map_by: float, tolerance: float, **changed: NDArray[np.float32]) -> bool:
        proof = GoldenExpectation.from_values(
            where[:2], engine="onnxruntime", precision=FLOAT, output="map", tolerance_abs=tolerance
        )
        proven = replace(plain, golden=GoldenSamples(frames=(), expectations=(proof,)))
        now = {**before.outputs, "map": where + np.float32(map_by), EMBEDDING_OUTPUT: wanted}
        return embedding_output._holds(before, {**now, **changed}, wanted, proven)

    assert holds(0.0, 1e-9)
    assert holds(1e-5, 1e-3)
    assert not holds(1e-5, 1e-5)  # a device's self-test would have no room left
    assert not holds(1e-4, 1e-3)
    assert not holds(np.nan, 1e-3)
    # An output that measures something else than the float program's, or nothing.
    assert not holds(0.0, 1e-3, **{EMBEDDING_OUTPUT: wanted[::-1].copy()})
    assert not holds(0.0, 1e-3, **{EMBEDDING_OUTPUT: np.full(count, np.nan, np.float32)})


def test_a_name_that_is_taken_stays_the_candidates_own(small_candidate: Path) -> None:
    plain, source = plain_sealable(read_candidate(small_candidate))
    once = with_embedding(plain, source)
    assert with_embedding(once, source) is once


def test_where_no_fixed_product_leads_to_the_score_there_is_no_embedding() -> None:
    # Patches are compared with a memory, and no layer stands before.
    assert find_embedding(memory_onnx(), "score") is None


@pytest.mark.parametrize(
    "values",
    [
        [np.zeros((1, 8), np.float32)] * 5,
        [np.zeros((1,), np.float32)] * 5,
        [np.zeros((1, 2, 2, 2, 2), np.float32)] * 5,
        [np.full((1, 8), np.nan, np.float32)] * 5,
    ],
    ids=["constant", "one number", "too many axes", "not a number"],
)
def test_an_embedding_that_says_nothing_is_refused(values: list[NDArray[np.float32]]) -> None:
    with pytest.raises(GraphError, match="the embedding"):
        embedding_output._fit(values, channels_last=True)


def handmade(count: int, bad: int, read: Candidate) -> Candidate:
    """Two images a part; the first parts are bad."""
    frames = [np.full((64, 64, 1), 80 if part < bad else 120, np.uint8) for part in range(count)]
    samples = SampleSet(
        frames_hwc=[frame for frame in frames for _ in range(2)],
        targets=np.repeat([0.1 if part < bad else 0.01 for part in range(count)], 2),
        parts=[f"p{part}" for part in range(count) for _ in range(2)],
    )
    return replace(read, samples={**read.samples, "validation": samples})


@pytest.mark.parametrize(("good", "of", "parts"), [(30, "good", 30.0), (29, "all", 39.0)])
def test_good_parts_alone_make_the_reference_where_there_are_enough(
    good: int, of: str, parts: float, small_candidate: Path
) -> None:
    read = handmade(good + 10, 10, read_candidate(small_candidate))
    if of == "all":
        assert good + 10 == 39
    scores = read.samples["validation"].targets.astype(np.float32)
    measured = measure(
        "openvino",
        "int8",
        {"value": scores},
        targets=read.samples["validation"].targets,
        contract=read.contract,
        rule=RULE,
    )
    reference = make_drift_reference(read, [measured], RULE)

    assert (reference.of, reference.parts) == (of, parts)
    (form,) = reference.forms
    assert (form.engine, form.precision, form.embedding) == ("openvino", "int8", None)
    assert form.score.measured == 2 * int(parts)
    assert (max(form.score.ordered) > 0.05) == (of == "all")
    assert (min(reference.light.ordered) < 0.4) == (of == "all")


def test_a_station_with_the_bundle_hears_of_dark_frames_and_not_of_usual_ones(
    exported: Any, joints: Callable[[int, int], NDArray[np.uint8]]
) -> None:
    settings = DriftSettings(parts_per_false_alarm=2_000, block=8)
    images = joints(300, 77)
    with lineside.load(exported.bundle, trust=exported.trust, engine="onnxruntime") as inspector:
        raised = []
        for light in (1.0, 0.8):
            watch = open_drift_watch(inspector.bundle, inspector.engine, settings)
            assert watch.monitor is not None
            for image in images:
                frame = (image * light).astype(np.uint8)
                outputs = inspector.engine.infer(frame[np.newaxis])
                watch.monitor.add(
                    PartStatistics(
                        score=inspector.inspect(frame).score,
                        embedding=float(outputs[EMBEDDING_OUTPUT][0]),
                        picture=measure_picture(frame, inspector.contract.frame),
                    )
                )
            raised.append([s.name for s in watch.monitor.state.statistics if s.alarm])
    assert raised[0] == []
    assert {"embedding", "light"} <= set(raised[1])


def test_verify_proves_the_new_output_too(exported: Any) -> None:
    words = ["verify", str(exported.bundle), "--trust", str(exported.trust), "--json"]
    from lineside.cli.verify import verify

    result = CliRunner().invoke(verify, words[1:], catch_exceptions=False)
    proofs = json.loads(result.stdout)["self_tests"]
    assert [proof["status"] for proof in proofs] == ["passed", "passed"]
    assert all(
        [drift["output"] for drift in proof["outputs"]] == ["value", EMBEDDING_OUTPUT]
        for proof in proofs
    )
