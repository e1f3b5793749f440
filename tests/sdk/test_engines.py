"""Both engines behind one protocol: same numbers, same refusals, no vendor's exception."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tiny_bundle import (
    ONNX_ENTRY,
    OPENVINO_ENTRY,
    openvino_files,
    tiny_contract,
    tiny_frame,
    tiny_onnx,
)

from lineside.bundle import ModelEntry
from lineside.cli import options
from lineside.contract import Contract, InputSpec, OutputSpec, RegressionHead
from lineside.engines import (
    ENGINE_NAMES,
    Engine,
    EngineSettings,
    available_engines,
    engine_devices,
    engine_version,
    open_engine,
    silence_telemetry,
)
from lineside.engines.machine import cpu_flags, cpu_name, usable_cores
from lineside.engines.openvino import OpenVinoEngine
from lineside.errors import ConfigurationError, EngineError, ProviderError, StorageError

ENTRIES = {"onnxruntime": ONNX_ENTRY, "openvino": OPENVINO_ENTRY}
ONE_THREAD = EngineSettings(threads=1)
Parts = dict[str, bytes]


@pytest.fixture(params=sorted(ENTRIES))
def name(request: pytest.FixtureRequest) -> str:
    engine: str = request.param
    return engine


def parts_of(model: onnx.ModelProto, folder: Path) -> Parts:
    topology, weights = openvino_files(model, folder)
    return dict(
        zip(
            (*ONNX_ENTRY.parts, *OPENVINO_ENTRY.parts),
            (model.SerializeToString(), topology, weights),
            strict=True,
        )
    )


@pytest.fixture(scope="module")
def tiny_parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return parts_of(tiny_onnx(), tmp_path_factory.mktemp("parts"))


def reader(parts: Parts) -> Callable[[str], memoryview]:
    return lambda part: memoryview(parts[part])


def opened(
    name: str,
    parts: Parts,
    contract: Contract | None = None,
    settings: EngineSettings = ONE_THREAD,
    batch: int = 1,
) -> Engine:
    entry = ENTRIES[name]
    model = ModelEntry(engine=entry.engine, precision="fp32", parts=entry.parts, batch=batch)
    return open_engine(model, reader(parts), contract or tiny_contract(), settings)


@pytest.fixture
def engine(name: str, tiny_parts: Parts) -> Iterator[Engine]:
    found = opened(name, tiny_parts)
    yield found
    found.close()


def frames(count: int) -> NDArray[np.uint8]:
    return np.stack([tiny_frame(bright=i % 2 == 0, seed=i) for i in range(count)])


def test_both_engines_are_here() -> None:
    assert sorted(available_engines()) == sorted(ENGINE_NAMES) == sorted(ENTRIES)
    for name in ENGINE_NAMES:
        assert engine_version(name) == importlib.import_module(name).__version__.split("-")[0]
        assert any("CPU" in device for device in engine_devices(name))


def test_the_command_line_offers_every_engine() -> None:
    # Spelt out there as well: importing the registry would make `lineside --help` wait for numpy.
    assert options.ENGINES == ENGINE_NAMES


def test_an_engine_says_what_it_is(engine: Engine, name: str) -> None:
    assert (engine.name, engine.precision, engine.threads) == (name, "fp32", 1)
    for word in (name, engine_version(name), "CPU", "fp32", "1 thread"):
        assert word in engine.description


def test_both_compute_what_numpy_computes(tiny_parts: Parts) -> None:
    images = frames(3)
    constants = {
        found.name: numpy_helper.to_array(found).astype(np.float64)
        for found in tiny_onnx().graph.initializer
    }
    windows = np.lib.stride_tricks.sliding_window_view(images[..., 0] / 255, (3, 3), axis=(1, 2))
    features = np.einsum("nhwij,cij->nchw", windows, constants["kernel"][:, 0])
    expected = features.mean(axis=(2, 3)) @ constants["weights"][:, 0]
    for name in ENTRIES:
        # float32 sums of 900 values below 1: measured 1e-7
        np.testing.assert_allclose(
            opened(name, tiny_parts).infer(images)["value"], expected, atol=2e-6
        )


@settings(max_examples=15, deadline=None)
@given(count=st.integers(0, 7), batch=st.integers(1, 4), name=st.sampled_from(sorted(ENTRIES)))
def test_any_number_of_images_gives_each_its_own_value(
    count: int, batch: int, name: str, tiny_parts: Parts
) -> None:
    images = frames(count) if count else np.zeros((0, 32, 32, 1), np.uint8)
    engine = opened(name, tiny_parts, batch=batch)
    values = engine.infer(images)["value"]
    assert (values.shape, values.dtype) == ((count,), np.dtype(np.float32))
    single = opened(name, tiny_parts)
    expected = [single.infer(images[i : i + 1])["value"][0] for i in range(count)]
    # Kernels for another batch add in another order: one or two units in the last place.
    np.testing.assert_allclose(values, np.array(expected, np.float32), atol=5e-7)


def test_openvino_s_threads_may_move_to_a_free_core(tiny_parts: Parts) -> None:
    engine = opened("openvino", tiny_parts)
    assert isinstance(engine, OpenVinoEngine)
    compiled = engine._lanes[0]._request.get_compiled_model()
    assert not compiled.get_property("ENABLE_CPU_PINNING")
    engine.close()


def test_images_need_not_lie_in_one_piece(engine: Engine) -> None:
    images = frames(4)
    strided = np.repeat(images, 2, axis=2)[:, :, ::2]
    assert not strided.flags.c_contiguous
    np.testing.assert_array_equal(engine.infer(strided)["value"], engine.infer(images)["value"])


def test_outputs_belong_to_the_caller(engine: Engine) -> None:
    images = frames(2)
    first = engine.infer(images[:1])["value"]
    kept = first.copy()
    second = engine.infer(images[1:])["value"]
    np.testing.assert_array_equal(first, kept)
    second[...] = -1
    assert engine.infer(images[1:])["value"][0] > 0


def test_threads_that_call_at_once_each_get_their_own_values(engine: Engine) -> None:
    images = frames(8)
    expected = engine.infer(images)["value"]

    def infer_often(position: int) -> bool:
        one = images[position : position + 1]
        return all(engine.infer(one)["value"][0] == expected[position] for _ in range(300))

    with ThreadPoolExecutor(max_workers=8) as pool:
        assert all(pool.map(infer_often, range(8)))


def test_inputs_are_left_alone_and_may_be_read_only(engine: Engine) -> None:
    images = frames(1)
    images.flags.writeable = False
    before = images.copy()
    engine.infer(images)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 32, 32, 1), np.float32),
        np.zeros((1, 32, 31, 1), np.uint8),
        np.zeros((32, 32, 1), np.uint8),
        np.zeros((1, 32, 32, 3), np.uint8),
        np.zeros((1, 32, 32, 1), np.uint16),
    ],
    ids=lambda wrong: f"{wrong.dtype}{wrong.shape}",
)
def test_a_wrong_input_is_refused_and_the_next_one_works(
    engine: Engine, wrong: NDArray[np.uint8]
) -> None:
    with pytest.raises(EngineError, match=r"takes uint8 \(N, 32, 32, 1\)"):
        engine.infer(wrong)
    assert np.isfinite(engine.infer(frames(1))["value"]).all()


def test_a_closed_engine_says_so(engine: Engine) -> None:
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(frames(1))


def changed_contract(**changes: object) -> Contract:
    base = tiny_contract()
    fields = {key: getattr(base, key) for key in base.__struct_fields__} | changes
    return Contract(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("contract", "told"),
    [
        (
            changed_contract(input=InputSpec(name="pixels", size_hw=(32, 32), channels=1)),
            "called image, the contract says 'pixels'",
        ),
        (
            changed_contract(input=InputSpec(size_hw=(32, 64), channels=1)),
            r"shape \(\?, 32, 32, 1\), the contract says \(1, 32, 64, 1\)",
        ),
        (
            changed_contract(
                outputs=(OutputSpec(name="score"),),
                head=RegressionHead(output="score", target="t"),
            ),
            "no output 'score'; it gives value",
        ),
        (
            changed_contract(outputs=(OutputSpec(name="value", shape=(1,)),)),
            r"output 'value' has shape \(\?\), the contract says \(1, 1\)",
        ),
    ],
    ids=["input name", "input shape", "output name", "output shape"],
)
def test_a_model_that_is_not_what_the_contract_says_is_refused(
    name: str, tiny_parts: Parts, contract: Contract, told: str
) -> None:
    with pytest.raises(EngineError, match=told):
        opened(name, tiny_parts, contract)


def graph_of(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "odd", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def info(name: str, kind: int, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


IMAGE_SHAPE: list[int | str] = ["batch", 32, 32, 1]
ODD_MODELS = {
    "float input": (
        graph_of(
            [helper.make_node("ReduceMean", ["image"], ["value"], axes=[1, 2, 3], keepdims=0)],
            [info("image", TensorProto.FLOAT, IMAGE_SHAPE)],
            [info("value", TensorProto.FLOAT, ["batch"])],
        ),
        "is float32, it must be uint8",
    ),
    "integer output": (
        graph_of(
            [
                helper.make_node("Cast", ["image"], ["wide"], to=TensorProto.FLOAT),
                helper.make_node("ReduceMean", ["wide"], ["mean"], axes=[1, 2, 3], keepdims=0),
                helper.make_node("Cast", ["mean"], ["value"], to=TensorProto.UINT8),
            ],
            [info("image", TensorProto.UINT8, IMAGE_SHAPE)],
            [info("value", TensorProto.UINT8, ["batch"])],
        ),
        "is uint8, it must be float32",
    ),
    "two inputs": (
        graph_of(
            [
                helper.make_node("Cast", ["image"], ["wide"], to=TensorProto.FLOAT),
                helper.make_node("Add", ["wide", "other"], ["sum"]),
                helper.make_node("ReduceMean", ["sum"], ["value"], axes=[1, 2, 3], keepdims=0),
            ],
            [
                info("image", TensorProto.UINT8, IMAGE_SHAPE),
                info("other", TensorProto.FLOAT, IMAGE_SHAPE),
            ],
            [info("value", TensorProto.FLOAT, ["batch"])],
        ),
        "takes 2 inputs",
    ),
}


@pytest.mark.parametrize("odd", sorted(ODD_MODELS))
def test_an_odd_model_is_refused(name: str, odd: str, tmp_path: Path) -> None:
    model, told = ODD_MODELS[odd]
    with pytest.raises(EngineError, match=told):
        opened(name, parts_of(model, tmp_path))


def test_a_fixed_batch_that_is_not_the_entry_s_is_refused(name: str, tmp_path: Path) -> None:
    parts = parts_of(tiny_onnx(batch=4), tmp_path)
    assert opened(name, parts, batch=4).infer(frames(5))["value"].shape == (5,)
    with pytest.raises(EngineError, match=r"\(4, 32, 32, 1\), the contract says \(1, 32, 32, 1\)"):
        opened(name, parts)


@settings(max_examples=25, deadline=None)
@given(data=st.binary(max_size=300), name=st.sampled_from(sorted(ENTRIES)))
def test_noise_for_a_model_is_an_engine_error(data: bytes, name: str) -> None:
    noise = dict.fromkeys((*ONNX_ENTRY.parts, *OPENVINO_ENTRY.parts), data)
    with pytest.raises(EngineError, match=name):
        opened(name, noise)


def test_a_model_cut_short_is_an_engine_error(name: str, tiny_parts: Parts) -> None:
    for part in ENTRIES[name].parts:
        whole = tiny_parts[part]
        for share in (0.2, 0.6, 0.95):
            cut = tiny_parts | {part: whole[: int(len(whole) * share)]}
            with pytest.raises(EngineError, match=f"{name}/fp32: the model is refused"):
                opened(name, cut)


def test_a_fault_while_computing_is_an_engine_error(tmp_path: Path) -> None:
    # Reshaping to a size that is computed from the pixels is refused only while it runs.
    model = graph_of(
        [
            helper.make_node("Cast", ["image"], ["wide"], to=TensorProto.INT64),
            helper.make_node("ReduceMax", ["wide"], ["size"], axes=[0, 1, 2], keepdims=0),
            helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["pixels", "size"], ["flat"]),
            helper.make_node("ReduceMean", ["flat"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Identity", ["mean"], ["value"]),
        ],
        [info("image", TensorProto.UINT8, IMAGE_SHAPE)],
        [info("value", TensorProto.FLOAT, ["batch"])],
    )
    engine = opened("onnxruntime", parts_of(model, tmp_path))
    with pytest.raises(EngineError, match="onnxruntime/fp32: inference failed"):
        engine.infer(np.full((1, 32, 32, 1), 7, np.uint8))


def test_a_wrong_number_of_parts_is_refused(name: str, tiny_parts: Parts) -> None:
    model = ModelEntry(engine=name, precision="fp32", parts=("a", "b", "c"))  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="the bundle names a, b, c"):
        open_engine(model, reader(tiny_parts), tiny_contract(), ONE_THREAD)


def test_an_unknown_engine_is_refused(tiny_parts: Parts) -> None:
    model = ModelEntry(engine="abacus", precision="fp32", parts=("a",))  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="no engine 'abacus'; there are openvino, onnxruntime"):
        open_engine(model, reader(tiny_parts), tiny_contract(), ONE_THREAD)


def test_every_exception_class_of_the_vendors_is_mapped(name: str) -> None:
    silence_telemetry()
    importlib.import_module(name)
    mapped = importlib.import_module(f"lineside.engines.{name}").vendor_faults()

    def below(kind: type[BaseException]) -> Iterator[type[BaseException]]:
        yield kind
        for child in kind.__subclasses__():
            yield from below(child)

    own = [
        kind
        for kind in set(below(BaseException))
        # The converter's are the exporter's affair: a device never converts.
        if kind.__module__.startswith(name) and not kind.__module__.startswith("openvino.tools")
    ]
    assert own, "the vendor has exception classes; finding none means this test looks wrong"
    assert [kind for kind in own if not issubclass(kind, mapped)] == []


@pytest.mark.parametrize("asked", ["CUDA", "TensorRT", "tensorrtexecutionprovider", "Azure"])
def test_a_provider_that_is_not_here_is_an_error_that_names_what_is(
    tiny_parts: Parts, asked: str
) -> None:
    with pytest.raises(ProviderError, match="CPUExecutionProvider") as caught:
        opened("onnxruntime", tiny_parts, settings=EngineSettings(providers=(asked, "CPU")))
    assert caught.value.asked == asked
    assert caught.value.available == ("CPUExecutionProvider",)


@pytest.mark.parametrize("asked", ["CPU", "cpu", "CPUExecutionProvider"])
def test_short_and_long_provider_names_are_the_same(tiny_parts: Parts, asked: str) -> None:
    engine = opened("onnxruntime", tiny_parts, settings=EngineSettings(providers=(asked,)))
    assert " CPU," in engine.description


def test_a_provider_that_does_not_come_up_is_never_replaced() -> None:
    from lineside.engines.onnxruntime import check_providers

    asked = ("CUDAExecutionProvider", "CPUExecutionProvider")
    check_providers("x", asked, asked)
    with pytest.raises(ProviderError, match="CUDAExecutionProvider was asked for and did not"):
        check_providers("x", asked, ("CPUExecutionProvider",))


def test_tensorrt_keeps_its_engines_in_the_cache_folder(tmp_path: Path) -> None:
    from lineside.engines.onnxruntime import provider_options

    settings = EngineSettings(
        cache_folder=tmp_path, provider_options={"TensorRT": {"trt_fp16_enable": "False"}}
    )
    options = provider_options("TensorrtExecutionProvider", settings)
    assert options["trt_engine_cache_enable"] == "True"
    assert options["trt_engine_cache_path"] == str(tmp_path / "tensorrt")
    assert options["trt_fp16_enable"] == "False"
    assert provider_options("CPUExecutionProvider", settings) == {}


@pytest.mark.parametrize("asked", ["GPU", "NPU", "AUTO", "HETERO:GPU,CPU", "cpu?", ""])
def test_a_device_that_does_not_come_up_is_an_error_that_names_what_does(
    tiny_parts: Parts, asked: str
) -> None:
    with pytest.raises(ProviderError, match="available: CPU") as caught:
        opened("openvino", tiny_parts, settings=EngineSettings(device=asked))
    assert caught.value.asked == asked
    assert caught.value.available == ("CPU",)


@pytest.mark.parametrize("threads", [0, -1, 5000])
def test_an_impossible_number_of_threads_is_refused(threads: int) -> None:
    with pytest.raises(ConfigurationError, match="threads"):
        EngineSettings(threads=threads)


def test_threads_are_what_was_asked_for_or_every_usable_core(name: str, tiny_parts: Parts) -> None:
    assert opened(name, tiny_parts, settings=EngineSettings(threads=2)).threads == 2
    assert opened(name, tiny_parts, settings=EngineSettings()).threads == usable_cores()


def wide_model() -> tuple[onnx.ModelProto, NDArray[np.float64]]:
    """A product of 1024 x 64 whose sums differ visibly when computed in bfloat16."""
    weights = np.random.default_rng(9).standard_normal((32 * 32, 64))
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["wide"]),
        helper.make_node("ReduceMean", ["wide"], ["value"], axes=[1], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "wide",
        [info("image", TensorProto.UINT8, IMAGE_SHAPE)],
        [
            info("value", TensorProto.FLOAT, ["batch"]),
            info("wide", TensorProto.FLOAT, ["batch", 64]),
        ],
        [numpy_helper.from_array(weights.astype(np.float32), "weights")],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8), weights.astype(np.float32)


def test_float_layers_compute_in_float32_even_where_the_cpu_prefers_bfloat16(
    name: str, tmp_path: Path
) -> None:
    model, weights = wide_model()
    contract = changed_contract(
        outputs=(OutputSpec(name="wide", shape=(64,)), OutputSpec(name="value"))
    )
    images = frames(2)
    values = opened(name, parts_of(model, tmp_path), contract).infer(images)["wide"]
    expected = images.reshape(2, -1).astype(np.float64) @ weights.astype(np.float64)
    relative = np.abs(values - expected).max() / np.abs(expected).max()
    # Measured on a CPU with AVX512_BF16: 1.2e-6 in float32, 2.1e-3 in the bfloat16 it prefers.
    assert relative < 1e-5


def test_compiled_models_are_kept_and_broken_ones_are_made_again(
    tiny_parts: Parts, tmp_path: Path
) -> None:
    settings = EngineSettings(threads=1, cache_folder=tmp_path / "cache")
    images = frames(2)
    expected = opened("openvino", tiny_parts, settings=settings).infer(images)["value"]
    blobs = [path for path in (tmp_path / "cache" / "openvino").rglob("*") if path.is_file()]
    assert blobs
    for blob in blobs:
        blob.write_bytes(b"torn" + blob.read_bytes()[:100])
    again = opened("openvino", tiny_parts, settings=settings).infer(images)["value"]
    np.testing.assert_array_equal(again, expected)


def test_a_cache_that_others_may_write_to_is_refused(tiny_parts: Parts, tmp_path: Path) -> None:
    folder = tmp_path / "openvino"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(StorageError, match="this user alone"):
        opened("openvino", tiny_parts, settings=EngineSettings(cache_folder=tmp_path))


def test_a_cache_that_is_a_file_is_refused(tiny_parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "openvino").touch()
    with pytest.raises(StorageError, match="no cache folder"):
        opened("openvino", tiny_parts, settings=EngineSettings(cache_folder=tmp_path))


def test_the_machine_is_described() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    assert cpu_name()
    assert set(cpu_flags()) <= set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
