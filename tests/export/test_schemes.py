"""Every form of a small ViT and a small CNN: near the float program, smaller, in both engines."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from lineside.engines import EngineSettings, open_engine
from lineside.engines.machine import cpu_flags
from lineside.engines.openvino import shared_core
from lineside.errors import EngineError, ProviderError
from lineside_export.candidate import Candidate, read_candidate
from lineside_export.cli import export
from lineside_export.errors import ExportError, GraphError
from lineside_export.formats import Format, Source, Way, read_source
from lineside_export.quantize import quantise_openvino
from lineside_export.schemes import SCHEMES, Material, find_scheme, gather_material
from lineside_export.schemes.mixed import split_by_part
from lineside_export.search import AUTO, wished_schemes
from lineside_export.sensitivity import choose_floats
from lineside_export.targets import TARGETS, Target, find_target

WAYS: Final = [(name, engine) for name, scheme in SCHEMES.items() for engine in scheme.build]
HAS_BF16: Final = bool({"avx512_bf16", "amx_bf16", "bf16"} & set(cpu_flags()))
# Root mean square of the drift over the scores' spread, measured on the small ViT: fp16 1e-4, bf16
# and 8 bits up to 0.06, 4 bits 0.17. Twice that passes; what computes something else has 1 or more.
MOST_NOISE: Final = {"fp32": 1e-5, "fp16": 1e-3, "int4-weights": 0.35}


@pytest.fixture(scope="module")
def vit(candidate: Path) -> Candidate:
    return read_candidate(candidate)


@pytest.fixture(scope="module")
def source(vit: Candidate) -> Source:
    return read_source(vit)


@pytest.fixture(scope="module")
def material(vit: Candidate, source: Source) -> Material:
    return gather_material(vit, source, TARGETS["cpu"])


@pytest.fixture(scope="module")
def form(material: Material) -> Callable[[str, str], Format]:
    """Forms of the small ViT, each made once."""
    return functools.cache(lambda precision, engine: SCHEMES[precision].build[engine](material))


def noise(made: Format, vit: Candidate, source: Source) -> float:
    images = vit.images_nhwc("validation")
    exact = source.infer(images, vit)["value"].astype(np.float64)
    found = made.infer(images, vit)["value"]
    return float(np.sqrt(((found - exact) ** 2).mean()) / exact.std())


@pytest.mark.parametrize(("precision", "engine"), WAYS)
def test_every_form_computes_the_program(
    precision: str, engine: str, vit: Candidate, source: Source, form: Callable[[str, str], Format]
) -> None:
    made = form(precision, engine)
    assert (made.entry.engine, made.entry.precision) == (engine, precision)
    if precision == "bf16" and not HAS_BF16:
        with pytest.raises(ProviderError, match="bf16"):
            made.infer(vit.images_nhwc("golden"), vit)
        return
    assert noise(made, vit, source) < MOST_NOISE.get(precision, 0.12)
    whole = form("fp32", engine).size_bytes
    # This network is small: half of its products in float are half of its weights.
    most = {"fp32": 1.0, "bf16": 1.0, "fp16": 0.53, "int8-mixed": 0.7, "int4-weights": 0.25}
    assert made.size_bytes <= most.get(precision, 0.4) * whole


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_same_form_twice_is_the_same_bytes(
    engine: str, material: Material, form: Callable[[str, str], Format]
) -> None:
    for precision in ("fp16", "int8-dynamic", "int8-weights"):
        if engine in SCHEMES[precision].build:
            first, second = form(precision, engine), SCHEMES[precision].build[engine](material)
            assert [bytes(p.data) for p in first.parts] == [bytes(p.data) for p in second.parts]


def test_a_form_takes_larger_batches_and_more_threads(
    vit: Candidate, source: Source, material: Material
) -> None:
    images = vit.images_nhwc("validation")
    exact = source.infer(images, vit)["value"]
    made = SCHEMES["fp32"].build["openvino"](material)
    for way in (Way(batch=8, threads=1), Way(batch=3, threads=2)):
        found = made.infer(images, vit, way)["value"]
        np.testing.assert_allclose(found, exact, atol=1e-5)


def test_mixed_names_what_it_keeps_in_float_and_drifts_less(
    vit: Candidate, source: Source, form: Callable[[str, str], Format]
) -> None:
    for engine in ("onnxruntime", "openvino"):
        mixed, int8 = form("int8-mixed", engine), form("int8", engine)
        assert mixed.kept_float and not int8.kept_float
        assert noise(mixed, vit, source) < noise(int8, vit, source)


def test_few_products_that_suffice_stay_float() -> None:
    cost = {"a": 0.01, "b": 0.5, "c": 0.3, "d": 0.02, "e": 0.0, "f": 0.0}

    def drift(names: object) -> float:
        assert isinstance(names, (list, tuple))
        return sum(value for name, value in cost.items() if name not in names)

    assert choose_floats(list(cost), drift, enough=0.1) == ("b", "c")
    assert choose_floats(list(cost), drift, enough=1.0) == ("b",)
    # Whatever is reached, half of them stay int8.
    assert set(choose_floats(list(cost), drift, enough=0.0)) == {"b", "c", "d"}


def test_what_judges_shares_no_part_with_what_gives_the_ranges(material: Material) -> None:
    ranges, judged = split_by_part(material)
    assert len(ranges) + len(judged) == len(material.images_nhwc)
    of_part: dict[bytes, str] = {
        image.tobytes(): part
        for image, part in zip(material.images_nhwc, material.parts, strict=True)
    }

    def parts(images: NDArray[np.uint8]) -> set[str]:
        return {of_part[image.tobytes()] for image in images}

    assert not parts(ranges) & parts(judged)


def test_tensorrt_gets_no_zero_points(vit: Candidate, source: Source) -> None:
    for target, symmetric in ((TARGETS["jetson"], True), (TARGETS["cpu"], False)):
        made = SCHEMES["int8"].build["onnxruntime"](gather_material(vit, source, target))
        model = onnx.load_from_string(bytes(made.parts[0].data))
        values = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
        points = [
            values[node.input[2]]
            for node in model.graph.node
            if node.op_type == "QuantizeLinear" and len(node.input) > 2
        ]
        assert len(points) >= 9
        assert all((point == 0).all() for point in points) == symmetric


def test_openvino_gets_no_zero_points_and_attention_in_float(
    material: Material, form: Callable[[str, str], Format]
) -> None:
    made = form("int8", "openvino")
    topology = ElementTree.fromstring(bytes(made.parts[0].data))
    layers = {layer.get("id"): layer.get("type") for layer in topology.iter("layer")}
    reads = [
        (layers[edge.get("from-layer")], layers[edge.get("to-layer")])
        for edge in topology.iter("edge")
    ]
    assert ("FakeQuantize", "MatMul") in reads
    assert ("FakeQuantize", "ScaledDotProductAttention") not in reads
    assert "ScaledDotProductAttention" in layers.values()
    network = material.new_network()
    old = quantise_openvino(
        network, material.images_nhwc, material, material.target, zero_points=True
    )
    assert not any(zero_points(made_network(made)))
    assert any(zero_points(old))


def made_network(made: Format) -> Any:
    import openvino

    data = [bytes(part.data) for part in made.parts]
    return shared_core().read_model(data[0], openvino.Tensor(np.frombuffer(data[1], np.uint8)))


def zero_points(network: Any) -> list[bool]:
    """For each quantiser of activations: whether its range is neither symmetric nor from 0."""
    found = []
    for operator in network.get_ordered_ops():
        if operator.get_type_name() == "FakeQuantize":
            low, high = (operator.input_value(i).get_node().data for i in (1, 2))
            # One step of 256 more below 0 than above.
            found.append(bool((low != 0).all() and (abs(low / high) - 1 > 0.02).any()))
    return found


def test_a_convolutional_network_is_not_called_dynamic(small_candidate: Path) -> None:
    read = read_candidate(small_candidate)
    few_products = gather_material(read, read_source(read), TARGETS["cpu"])
    with pytest.raises(GraphError, match="convolutions, which stay float"):
        SCHEMES["int8-dynamic"].build["onnxruntime"](few_products)


def test_an_onnx_candidate_cannot_be_taught(vit: Candidate, source: Source) -> None:
    foreign = Source(program=None, model=source.model, data=source.data)
    material = gather_material(vit, foreign, TARGETS["cpu"])
    with pytest.raises(GraphError, match=r"bring program\.pt2"):
        SCHEMES["int8-distilled"].build["onnxruntime"](material)


def test_onnxruntime_refuses_bfloat16(vit: Candidate, material: Material) -> None:
    made = SCHEMES["fp32"].build["onnxruntime"](material)
    entry = type(made.entry)(
        engine="onnxruntime",
        precision="bf16",
        parts=made.entry.parts,
        inference_precision="bf16",
    )
    with pytest.raises(EngineError, match="bf16 arithmetic is OpenVINO's"):
        open_engine(entry, lambda _: memoryview(made.parts[0].data), vit.contract, EngineSettings())


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_auto_ends_with_float_so_that_something_holds(target: Target) -> None:
    for engine in target.engines:
        names = [scheme.precision for scheme in wished_schemes([AUTO], target, engine)]
        assert names[-1] == "fp32"
        assert len(names) == len(set(names)) > 2


def test_what_is_unknown_is_refused_with_what_there_is() -> None:
    with pytest.raises(ExportError, match=r"'int3' is unknown; there are fp32, .*int4-weights"):
        find_scheme("int3")
    with pytest.raises(ExportError, match=r"'tpu' is unknown; there are cpu, jetson"):
        find_target("tpu")
    with pytest.raises(ExportError, match="openvino knows none of int8-dynamic; it knows fp32"):
        wished_schemes(["int8-dynamic"], TARGETS["cpu"], "openvino")


def test_the_command_line_names_every_form_and_every_target() -> None:
    options = {option.name: option for option in export.params}
    said = options["precisions"].help  # type: ignore[attr-defined]
    assert set(re.findall(r"[a-z]+\d+(?:-[a-z]+)?", said)) == set(SCHEMES)
    assert list(options["target"].type.choices) == list(TARGETS)  # type: ignore[attr-defined]
