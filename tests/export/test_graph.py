"""The translated graph: same numbers, any batch, same bytes, and nothing of this machine in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import nn

from lineside_export import graph, openvino_ir
from lineside_export.candidate import Candidate, read_candidate
from lineside_export.errors import CandidateError
from lineside_export.formats import Format, Source, onnx_format, openvino_format, read_source
from lineside_export.gates import float_tolerance
from lineside_export.program import load_program


@pytest.fixture(scope="module")
def read(candidate: Path) -> Candidate:
    return read_candidate(candidate)


@pytest.fixture(scope="module")
def source(read: Candidate) -> Source:
    return read_source(read)


@pytest.fixture(scope="module")
def formats(source: Source) -> tuple[Format, ...]:
    network = openvino_ir.onnx_to_openvino(source.data)
    return (
        onnx_format("fp32", source.data),
        openvino_format("fp32", openvino_ir.ir_bytes(network)),
    )


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), darkest=st.integers(0, 254), blocky=st.booleans())
def test_both_engines_compute_what_torch_computes_for_any_pixels(
    read: Candidate,
    source: Source,
    formats: tuple[Format, ...],
    seed: int,
    darkest: int,
    blocky: bool,
) -> None:
    side = 8 if blocky else 64
    noise = np.random.default_rng(seed).integers(darkest, 256, (8, side, side, 1), dtype=np.uint8)
    images = noise.repeat(64 // side, axis=1).repeat(64 // side, axis=2)
    expected = source.infer(images, read)["value"]
    for format_ in formats:
        actual = format_.infer(images, read)["value"]
        assert np.abs(actual - expected).max() <= float_tolerance(expected), format_.entry.engine


def test_onnx_takes_any_batch_with_the_same_result(source: Source, read: Candidate) -> None:
    session = onnxruntime.InferenceSession(source.data, providers=["CPUExecutionProvider"])
    images = read.images_nhwc("golden")[:8]
    (together,) = session.run(["value"], {"image": images})
    for batch in (1, 3):
        parts = [
            session.run(["value"], {"image": images[start : start + batch]})[0]
            for start in range(0, len(images), batch)
        ]
        np.testing.assert_allclose(np.concatenate(parts), together, atol=float_tolerance(together))


def test_ports_are_the_contracts(source: Source) -> None:
    (image,), (value,) = source.model.graph.input, source.model.graph.output
    sizes = [size.dim_param or size.dim_value for size in image.type.tensor_type.shape.dim]
    assert (image.name, image.type.tensor_type.elem_type) == ("image", TensorProto.UINT8)
    assert sizes == ["batch", 64, 64, 1]
    assert (value.name, value.type.tensor_type.elem_type) == ("value", TensorProto.FLOAT)
    assert [size.dim_param for size in value.type.tensor_type.shape.dim] == ["batch"]


def test_two_translations_in_one_process_give_the_same_bytes(
    read: Candidate, source: Source, formats: tuple[Format, ...]
) -> None:
    again = graph.program_to_onnx(load_program(read.program_file, read.contract), read.contract)
    assert graph.to_bytes(again) == source.data
    # OpenVINO's counter of nodes has moved on since the first conversion.
    files = openvino_ir.ir_bytes(openvino_ir.onnx_to_openvino(source.data))
    assert [files.xml, files.bin] == [part.data for part in formats[1].parts]


def test_files_tell_nothing_of_the_machine_and_the_run(
    formats: tuple[Format, ...], candidate: Path
) -> None:
    for format_ in formats:
        for part in format_.parts:
            data = bytes(part.data)
            for word in (b"site-packages", b".py", b"stack_trace", b"/tmp", b"Runtime_version"):
                assert word not in data, (part.name, word)
            assert str(candidate).encode() not in data


def test_cleaning_twice_changes_nothing_more(source: Source) -> None:
    assert graph.clean_model(source.model) == source.model


def test_cleaning_reaches_subgraphs() -> None:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["image"], ["same"], doc_string="/opt/me/model.py")],
        "branch",
        [],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, ["n", 2])],
        doc_string="/opt/me",
    )
    condition = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    outer = helper.make_graph(
        [helper.make_node("If", ["yes"], ["value"], then_branch=inner, else_branch=inner)],
        "outer",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["n", 2])],
        initializer=[condition],
    )
    model = helper.make_model(outer, producer_name="me", doc_string="/opt/me")
    assert b"/opt/me" in model.SerializeToString()
    assert b"/opt/me" not in graph.clean_model(model).SerializeToString()


def test_an_operator_that_onnx_lacks_is_named(
    candidate: Path, tmp_path: Path, new_program: Callable[..., None]
) -> None:
    class Pools(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            volume = image.float().unsqueeze(1)
            return nn.functional.adaptive_avg_pool3d(volume, (3, 3, 1)).flatten(1).mean(1)

    folder = Path(shutil.copytree(candidate, tmp_path / "candidate"))
    new_program(folder / "program.pt2", Pools(), torch.zeros(5, 64, 64, 1, dtype=torch.uint8))
    with pytest.raises(CandidateError, match=r"cannot be translated to ONNX.*docs/export\.md"):
        read_source(read_candidate(folder))


@pytest.fixture
def foreign(candidate: Path, source: Source, tmp_path: Path) -> Path:
    """The same candidate with `model.onnx` in place of `program.pt2`."""
    folder = Path(shutil.copytree(candidate, tmp_path / "foreign"))
    (folder / "program.pt2").unlink()
    (folder / "model.onnx").write_bytes(source.data)
    return folder


def test_onnx_from_elsewhere_is_taken_and_cleaned(
    foreign: Path, source: Source, read: Candidate
) -> None:
    model = onnx.load(foreign / "model.onnx")
    model.doc_string = "written on my laptop"
    onnx.save(model, foreign / "model.onnx")
    taken = read_source(read_candidate(foreign))
    assert taken.data == source.data
    assert (taken.program, taken.computed_by) == (None, "onnxruntime")
    images = read.images_nhwc("golden")[:2]
    expected = source.infer(images, read)["value"]
    actual = taken.infer(images, read)["value"]
    np.testing.assert_allclose(actual, expected, atol=float_tolerance(expected))


def rename_input(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("Identity", ["picture"], ["image"]))
    model.graph.input[0].name = "picture"


def fix_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def rename_output(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Identity", ["value"], ["score"]))
    model.graph.output[0].name = "score"


def age(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 12
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("Cast", ["image"], ["value"], to=TensorProto.FLOAT))


FOREIGN_FAULTS: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "another input": (rename_input, "takes the inputs (picture)"),
    "one batch only": (
        fix_batch,
        "'image' is UINT8 (1, 64, 64, 1), the contract says UINT8 (batch",
    ),
    "another output": (rename_output, "gives the outputs (score)"),
    "too old": (age, "operator set 12; at least 13"),
}


@pytest.mark.parametrize("fault", FOREIGN_FAULTS)
def test_onnx_that_breaks_the_contract_is_refused(foreign: Path, fault: str) -> None:
    spoil, message = FOREIGN_FAULTS[fault]
    model = onnx.load(foreign / "model.onnx")
    spoil(model)
    onnx.save(model, foreign / "model.onnx")
    with pytest.raises(CandidateError) as refused:
        read_source(read_candidate(foreign))
    assert message in str(refused.value)
    assert str(foreign / "model.onnx") in str(refused.value)


@pytest.mark.parametrize("data", [b"", b"no protobuf", bytes(range(256)) * 8])
def test_what_is_no_onnx_is_refused(foreign: Path, data: bytes) -> None:
    (foreign / "model.onnx").write_bytes(data)
    with pytest.raises(CandidateError, match=r"model\.onnx: not a"):
        read_source(read_candidate(foreign))
