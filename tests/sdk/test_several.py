"""Several frames at once: batches side by side give each frame its own value, or are not used."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tiny_bundle import (
    ONNX_ENTRY,
    OPENVINO_ENTRY,
    TinyBundle,
    golden_samples,
    model_parts,
    tiny_contract,
    tiny_frame,
    tiny_onnx,
)

import lineside
from lineside.bench import BenchReport
from lineside.bundle import Bundle, ModelEntry, PartData, open_bundle
from lineside.choose import Candidate, open_proven
from lineside.cli.main import lineside as command_line
from lineside.engines import Engine, EngineSettings, open_engine
from lineside.engines.several import SeveralEngine, SeveralForm
from lineside.errors import ConfigurationError, EngineError, SelfTestError
from lineside.frame import Frame
from lineside.golden import GOLDEN_PART, encode_golden
from lineside.inspector import Inspector
from lineside.resident import resident_bytes
from lineside.several import Several, list_forms, measure_form, open_several

ENTRIES = {"onnxruntime": ONNX_ENTRY, "openvino": OPENVINO_ENTRY}
EIGHTS = SeveralForm(batch=8, lanes=2, fill_from=5)
ONE_THREAD = EngineSettings(threads=1)
# Kernels for another batch add in another order: one or two units in the last place.
ROUNDING = 5e-7


def frames(count: int) -> NDArray[np.uint8]:
    return np.stack([tiny_frame(bright=i % 2 == 0, seed=i) for i in range(count)])


def two_forms(bundle: Bundle, model: ModelEntry, form: SeveralForm = EIGHTS) -> SeveralEngine:
    candidate = Candidate(engine=model.engine, precision=model.precision, threads=1)
    single = open_proven(bundle, model, candidate, ONE_THREAD)
    return SeveralEngine(single, open_several(bundle, model, form, ONE_THREAD), form)


@pytest.fixture(scope="module", params=sorted(ENTRIES))
def model(request: pytest.FixtureRequest) -> ModelEntry:
    return ENTRIES[request.param]


@pytest.fixture(scope="module")
def opened(tiny_bundle: TinyBundle) -> Iterator[Bundle]:
    with open_bundle(tiny_bundle.path, trust=tiny_bundle.public_key_path) as bundle:
        yield bundle


@pytest.fixture(scope="module")
def engine(opened: Bundle, model: ModelEntry) -> Iterator[SeveralEngine]:
    found = two_forms(opened, model)
    yield found
    found.close()


@pytest.fixture(scope="module")
def expected(opened: Bundle, model: ModelEntry) -> NDArray[np.float32]:
    candidate = Candidate(engine=model.engine, precision=model.precision, threads=1)
    single = open_proven(opened, model, candidate, ONE_THREAD)
    values = single.infer(frames(40))["value"]
    single.close()
    return values


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 15, 16, 17, 32, 40])
def test_each_frame_gets_its_own_value(
    engine: SeveralEngine, expected: NDArray[np.float32], count: int
) -> None:
    values = engine.infer(frames(40)[:count])["value"]
    assert (values.shape, values.dtype) == ((count,), np.dtype(np.float32))
    np.testing.assert_allclose(values, expected[:count], atol=ROUNDING)


@given(
    batch=st.integers(1, 9),
    lanes=st.integers(1, 4),
    fill_from=st.integers(1, 9),
    count=st.integers(0, 80),
)
def test_batches_are_whole_or_end_with_the_last_frame(
    batch: int, lanes: int, fill_from: int, count: int
) -> None:
    at_once = SeveralForm(batch=batch, lanes=lanes, fill_from=fill_from).split(count)
    assert 0 <= at_once <= count
    assert at_once in (count, count - count % batch)


def test_what_is_left_over_is_filled_up_where_that_is_faster() -> None:
    counts = {count: EIGHTS.split(count) for count in (1, 4, 5, 7, 8, 9, 16, 17, 21, 32, 33)}
    # 9 and 33 ... the second lane would be idle with 9, not with 33.
    assert counts == {1: 0, 4: 0, 5: 5, 7: 7, 8: 8, 9: 9, 16: 16, 17: 16, 21: 21, 32: 32, 33: 32}


def test_threads_that_call_at_once_each_get_their_own_values(
    engine: SeveralEngine, expected: NDArray[np.float32]
) -> None:
    images = frames(40)

    def infer_often(position: int) -> bool:
        count = (1, 7, 9, 32)[position % 4]
        return all(
            np.allclose(
                engine.infer(images[position : position + count])["value"],
                expected[position : position + count],
                atol=ROUNDING,
                rtol=0,
            )
            for _ in range(15)
        )

    with ThreadPoolExecutor(max_workers=8) as pool:
        assert all(pool.map(infer_often, range(8)))


def test_memory_does_not_grow(engine: SeveralEngine) -> None:
    images = frames(33)
    for _ in range(20):
        engine.infer(images)
    before = resident_bytes()
    for _ in range(120):
        engine.infer(images)
    after = resident_bytes()
    assert before is not None
    assert after is not None
    # 120 times 33 frames of 1 KiB would be 4 MiB.
    assert after - before < 2 * 2**20


def test_a_wrong_input_is_refused_and_the_next_one_works(engine: SeveralEngine) -> None:
    for wrong in (np.zeros((9, 32, 31, 1), np.uint8), np.zeros((), np.uint8)):
        with pytest.raises(EngineError, match=r"takes uint8 \(N, 32, 32, 1\)"):
            engine.infer(wrong)
    assert np.isfinite(engine.infer(frames(9))["value"]).all()


def test_a_closed_engine_says_so(opened: Bundle, model: ModelEntry) -> None:
    found = two_forms(opened, model)
    found.close()
    found.close()
    for count in (1, 8, 32):
        with pytest.raises(EngineError, match="closed"):
            found.infer(frames(count))


def table_onnx() -> onnx.ModelProto:
    """The brightest pixel's entry of a table of eight; beyond its end ONNX Runtime fails."""
    nodes = [
        helper.make_node("Cast", ["image"], ["wide"], to=TensorProto.INT64),
        helper.make_node("ReduceMax", ["wide"], ["place"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Gather", ["table", "place"], ["value"]),
    ]
    graph = helper.make_graph(
        nodes,
        "table",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 32, 32, 1])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["batch"])],
        [numpy_helper.from_array(np.arange(8, dtype=np.float32), "table")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("wrong", range(5))
def test_a_fault_in_one_lane_leaves_nothing_behind(wrong: int) -> None:
    data = {ONNX_ENTRY.parts[0]: memoryview(table_onnx().SerializeToString())}
    settings = EngineSettings(batch=1, lanes=2)
    lanes = open_engine(ONNX_ENTRY, data.__getitem__, tiny_contract(), settings)
    assert lanes.threads == 2
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 32, 32, 1), np.uint8)
    faulty = images.copy()
    faulty[wrong] = 200
    for _ in range(3):
        with pytest.raises(EngineError, match="onnxruntime/fp32: inference failed"):
            lanes.infer(faulty)
        np.testing.assert_array_equal(lanes.infer(images)["value"], np.arange(5))
    lanes.close()


def test_it_says_what_it_is(engine: SeveralEngine, model: ModelEntry) -> None:
    assert (engine.name, engine.precision, engine.threads) == (model.engine, "fp32", 1)
    assert "1 thread(s); several at once in batches of 8, 2 at a time" in engine.description


def sealed_with(tiny: TinyBundle, graph: onnx.ModelProto, folder: Path) -> Path:
    """The tiny bundle with another graph, its golden samples computed one by one."""
    parts = model_parts(graph, folder)
    shown = [tiny_frame(bright=i % 2 == 1, seed=i) for i in range(4)]
    golden = encode_golden(golden_samples(tiny_contract(), parts, shown))
    changed = [*parts, PartData(name=GOLDEN_PART, data=golden)]
    return tiny.reseal(folder / "other.lsb", changed=changed)


@pytest.fixture(scope="module")
def neighbourly(tiny_bundle: TinyBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose value depends on what else is in the batch, as dynamic ranges make it."""
    graph = tiny_onnx()
    (last,) = [node for node in graph.graph.node if node.output[0] == "value"]
    last.output[0] = "alone"
    graph.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["alone"], ["brightest"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["alone", "brightest"], ["less"]),
            helper.make_node("Mul", ["less", "share"], ["shifted"]),
            helper.make_node("Add", ["alone", "shifted"], ["value"]),
        ]
    )
    graph.graph.initializer.append(numpy_helper.from_array(np.array(0.01, np.float32), "share"))
    return sealed_with(tiny_bundle, graph, tmp_path_factory.mktemp("neighbourly"))


def test_a_form_that_gives_other_values_is_not_used_and_said(
    tiny_bundle: TinyBundle,
    neighbourly: Path,
    model: ModelEntry,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        caplog.at_level(logging.WARNING, "lineside"),
        lineside.load(
            neighbourly,
            trust=tiny_bundle.public_key_path,
            engine=model.engine,
            threads=1,
            regions=8,
        ) as inspector,
    ):
        several = told(inspector)
        assert (several.taken, several.measured) == (None, ())
        (refused,) = several.refused
        assert refused.form == SeveralForm(batch=8, lanes=1)
        assert "golden self-test failed" in refused.detail
        assert "batches of 8, 1 at a time is refused" in caplog.text
        assert "several at once" not in inspector.engine.description
        found = inspector.inspect_batch([Frame(pixels_hwc=image) for image in frames(8)])
        alone = [inspector.inspect(image) for image in frames(8)]
        assert [one.verdict.score for one in found] == [one.score for one in alone]


def test_side_by_side_needs_no_batch(neighbourly: Path, tiny_bundle: TinyBundle) -> None:
    with open_bundle(neighbourly, trust=tiny_bundle.public_key_path) as bundle:
        for entry in ENTRIES.values():
            pair = two_forms(bundle, entry, SeveralForm(batch=1, lanes=2))
            assert pair.infer(frames(5))["value"].shape == (5,)
            pair.close()
            with pytest.raises(SelfTestError):
                two_forms(bundle, entry, SeveralForm(batch=2, lanes=2))


def test_a_graph_of_fixed_batch_is_judged_one_by_one(
    tiny_bundle: TinyBundle, model: ModelEntry, tmp_path: Path
) -> None:
    path = sealed_with(tiny_bundle, tiny_onnx(batch=1), tmp_path)
    with lineside.load(
        path, trust=tiny_bundle.public_key_path, engine=model.engine, threads=1, regions=9
    ) as inspector:
        (refused,) = told(inspector).refused
        assert "the contract says (8, 32, 32, 1)" in refused.detail


def told(inspector: Inspector) -> Several:
    assert inspector.choice is not None
    assert inspector.choice.several is not None
    return inspector.choice.several


def test_what_pays_is_measured_remembered_and_proved_again(
    tiny_bundle: TinyBundle, model: ModelEntry
) -> None:
    found = []
    for _ in range(2):
        with lineside.load(
            tiny_bundle.path,
            trust=tiny_bundle.public_key_path,
            engine=model.engine,
            threads=2,
            regions=32,
        ) as inspector:
            several = told(inspector)
            found.append(several)
            assert [one.form.lanes for one in several.measured] == [2, 1]
            in_batches = "several at once" in inspector.engine.description
            assert in_batches == (several.taken is not None)
            images = frames(32)
            scores = [
                one.verdict.score
                for one in inspector.inspect_batch([Frame(pixels_hwc=image) for image in images])
            ]
            alone = [inspector.inspect(image).score for image in images]
            np.testing.assert_allclose(
                np.array(scores, float), np.array(alone, float), atol=ROUNDING
            )
    assert [one.remembered for one in found] == [False, True]
    assert found[0].taken == found[1].taken
    ratios = {one.form: one.ratio for one in found[0].measured}
    if found[0].taken is not None:
        assert ratios[found[0].taken] == min(ratios.values()) < 1


def test_nobody_asked_nothing_is_compiled(tiny_bundle: TinyBundle) -> None:
    with lineside.load(tiny_bundle.path, trust=tiny_bundle.public_key_path, threads=1) as one:
        assert one.choice is not None
        assert one.choice.several is None


@pytest.mark.parametrize("regions", [0, -1, 5000])
def test_an_impossible_number_of_regions_is_refused(tiny_bundle: TinyBundle, regions: int) -> None:
    with pytest.raises(ConfigurationError, match="regions"):
        lineside.load(tiny_bundle.path, trust=tiny_bundle.public_key_path, regions=regions)


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"batch": 5000}, {"lanes": 0}, {"lanes": 5000}])
def test_impossible_settings_are_refused(wrong: dict[str, int]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigurationError, match=name):
        EngineSettings(**wrong)  # type: ignore[arg-type]


def test_forms_go_by_frames_cores_and_arithmetic() -> None:
    def forms(count: int, precision: str = "int8", **settings: object) -> set[tuple[int, int]]:
        told = EngineSettings(**settings)  # type: ignore[arg-type]
        return {(form.batch, form.lanes) for form in list_forms(count, precision, told)}

    assert forms(32, threads=2) == {(8, 2), (8, 1)}
    assert forms(9, threads=2) == {(5, 2), (8, 1)}
    assert forms(32, threads=16) == {(2, 16), (8, 4), (8, 1)}
    assert forms(3, threads=1) == {(3, 1)}
    assert forms(2, threads=2) == {(1, 2), (2, 1)}
    assert forms(32, device="GPU") == {(8, 1)}
    assert forms(32, providers=("CUDA",)) == {(8, 1)}
    # Ranges over the whole batch: a verdict would depend on the other regions.
    assert forms(32, "int8-dynamic", threads=2) == {(1, 2)}
    assert forms(32, "int8-dynamic", threads=1) == set()


class _Counted:
    """An engine whose calls are counted."""

    name, precision, threads, description = "counted", "fp32", 1, "counted"

    def __init__(self, inner: Engine) -> None:
        self._inner = inner
        self.calls = 0

    def infer(self, inputs_nhwc: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        self.calls += 1
        return self._inner.infer(inputs_nhwc)

    def close(self) -> None:
        self._inner.close()


def test_forms_are_measured_beside_single_frames(engine: SeveralEngine) -> None:
    single, many = _Counted(engine), _Counted(engine)
    found = measure_form(single, many, SeveralForm(batch=8, lanes=2), frames(9))
    assert many.calls == 2 * single.calls > 2
    assert 1 <= found.form.fill_from <= 8
    assert found.ratio > 0


def test_bench_compares_one_by_one_with_every_form(tiny_bundle: TinyBundle) -> None:
    words = ["bench", str(tiny_bundle.path), "--trust", str(tiny_bundle.public_key_path)]
    told = ["--threads", "2", "--batch", "9", "--rounds", "1", "--json"]
    done = CliRunner().invoke(command_line, [*words, *told])
    assert done.exit_code == 0, done.output
    report = msgspec.json.decode(done.stdout, type=BenchReport)
    forms = [
        None if row.form is None else (row.form.batch, row.form.lanes) for row in report.candidates
    ]
    assert forms == [None, (5, 2), (8, 1)] * 2
    assert report.batch == 9
