"""A model with a memory: both engines feed it as it lies in the bundle, and no other is let in."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from patch_memory import (
    SIDE_PX,
    directions,
    expected,
    memory_contract,
    memory_onnx,
    memory_rule,
)
from tiny_bundle import (
    ONNX_ENTRY,
    OPENVINO_ENTRY,
    golden_samples,
    model_parts,
    tiny_contract,
    tiny_onnx,
)

from lineside.bundle import (
    Bundle,
    Evidence,
    Identity,
    Manifest,
    PartData,
    PrivateKey,
    load_private_key,
    make_thin_copy,
    open_bundle,
    seal_bundle,
    write_key_pair,
)
from lineside.contract import Contract, MemorySpec
from lineside.engines import Engine, EngineSettings, open_engine
from lineside.errors import BundleFormatError, EngineError, InputDataError
from lineside.golden import GOLDEN_PART, encode_golden
from lineside.memory import (
    MEMORY_PART,
    encode_memory,
    memory_size_fault,
    read_memory,
    view_memory,
    write_memory,
)
from lineside.selftest import run_selftest

ENTRIES = {"onnxruntime": ONNX_ENTRY, "openvino": OPENVINO_ENTRY}
DARK = directions(list(np.linspace(0.0, 0.3, 40)))
BRIGHT = directions(list(np.linspace(0.6, 1.0, 90)))
Rows = NDArray[np.float32]


def frames(*brightness: float) -> NDArray[np.uint8]:
    """One flat frame each, its last quarter a little darker."""
    images = np.zeros((len(brightness), SIDE_PX, SIDE_PX, 1), np.uint8)
    for image, level in zip(images, brightness, strict=True):
        image[...] = int(255 * level)
        image[SIDE_PX // 2 :, SIDE_PX // 2 :] = int(200 * level)
    return images


FRAMES = frames(0.1, 0.2, 0.5, 0.7, 0.9)


@pytest.fixture(params=sorted(ENTRIES))
def name(request: pytest.FixtureRequest) -> str:
    engine: str = request.param
    return engine


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[PartData, ...]:
    return model_parts(memory_onnx(), tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def key_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[PrivateKey, Path]:
    private, public = write_key_pair(tmp_path_factory.mktemp("keys"), "factory")
    return load_private_key(private), public


def opened(
    name: str,
    parts: tuple[PartData, ...],
    rows: Rows | bytes,
    *,
    contract: Contract | None = None,
    batch: int = 1,
) -> Engine:
    held = {part.name: memoryview(part.data) for part in parts}
    held[MEMORY_PART] = memoryview(rows) if isinstance(rows, bytes) else encode_memory(rows)
    entry = msgspec.structs.replace(ENTRIES[name], batch=batch)
    wanted = contract or memory_contract()
    return open_engine(entry, held.__getitem__, wanted, EngineSettings(threads=1))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(sorted(ENTRIES)),
    batch=st.integers(1, 3),
    images=arrays(np.uint8, st.tuples(st.integers(1, 4), *map(st.just, (SIDE_PX, SIDE_PX, 1)))),
    brightness=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=9),
)
def test_engines_compute_what_numpy_computes_whatever_the_memory(
    name: str,
    batch: int,
    images: NDArray[np.uint8],
    brightness: list[float],
    parts: tuple[PartData, ...],
) -> None:
    rows = directions(brightness)
    engine = opened(name, parts, rows, batch=batch)
    found = engine.infer(images)
    for output, values in expected(images, rows).items():
        # Differences of numbers near 1 in float32: steps of 6e-8, measured 2e-7.
        np.testing.assert_allclose(found[output], values, atol=2e-6)
    engine.close()


def test_the_order_of_the_inputs_is_the_model_s_affair(name: str, tmp_path: Path) -> None:
    turned = model_parts(memory_onnx(memory_first=True), tmp_path)
    found = opened(name, turned, DARK).infer(FRAMES)
    np.testing.assert_allclose(found["score"], expected(FRAMES, DARK)["score"], atol=2e-6)


def test_a_memory_may_be_read_only_and_is_left_alone(
    name: str, parts: tuple[PartData, ...]
) -> None:
    data = encode_memory(DARK).tobytes()
    engine = opened(name, parts, data)
    first = engine.infer(FRAMES)["score"]
    np.testing.assert_array_equal(engine.infer(FRAMES)["score"], first)
    assert data == encode_memory(DARK).tobytes()


@pytest.mark.parametrize(
    ("contract", "told"),
    [
        (msgspec.structs.replace(memory_contract(), memory=None), "takes 2 inputs .*names one"),
        (
            msgspec.structs.replace(memory_contract(), memory=MemorySpec(name="bank", width=2)),
            "no input 'bank'; it takes image, memory",
        ),
        (
            memory_contract(width=1),
            r"input 'memory' has shape \(\?, 2\), the contract says \(\?, 1\)",
        ),
    ],
    ids=["none", "name", "width"],
)
def test_a_memory_that_the_contract_does_not_name_so_is_refused(
    name: str, parts: tuple[PartData, ...], contract: Contract, told: str
) -> None:
    with pytest.raises(EngineError, match=told):
        opened(name, parts, DARK, contract=contract)


def test_a_model_without_the_memory_that_the_contract_names_is_refused(
    name: str, tmp_path: Path
) -> None:
    contract = msgspec.structs.replace(tiny_contract(), memory=MemorySpec(width=2))
    with pytest.raises(EngineError, match=r"takes 1 inputs .*names two, 'image' and 'memory'"):
        opened(name, model_parts(tiny_onnx(), tmp_path), DARK, contract=contract)


def test_a_model_made_for_one_size_of_memory_is_refused(name: str, tmp_path: Path) -> None:
    fixed = model_parts(memory_onnx(patches=len(DARK)), tmp_path)
    with pytest.raises(EngineError, match=r"shape \(40, 2\), the contract says \(\?, 2\)"):
        opened(name, fixed, DARK)


BAD_ROWS = {
    "none": (b"", "0 bytes; a memory is one row or more of 2 float32 values"),
    "cut short": (encode_memory(DARK).tobytes()[:-4], "316 bytes"),
    "a NaN": (np.float32([[1, 0], [np.nan, 0]]).tobytes(), "row 1 holds a value that is not fin"),
    "infinite": (np.float32([[0, -np.inf], [1, 0]]).tobytes(), "row 0 holds a value"),
}


@pytest.mark.parametrize("bad", sorted(BAD_ROWS))
def test_what_is_no_memory_is_refused(name: str, bad: str, parts: tuple[PartData, ...]) -> None:
    data, told = BAD_ROWS[bad]
    with pytest.raises(BundleFormatError, match=rf"memory\.f32: {told}.*export"):
        opened(name, parts, data)


@given(size_bytes=st.integers(0, 5000), width=st.integers(1, 40))
def test_a_size_is_whole_rows_or_none(size_bytes: int, width: int) -> None:
    whole = size_bytes > 0 and size_bytes % (4 * width) == 0
    assert (memory_size_fault(size_bytes, MemorySpec(width=width)) == "") == whole


def test_rows_are_mapped_and_not_copied() -> None:
    data = memoryview(encode_memory(DARK).tobytes())
    rows = view_memory(data, MemorySpec(width=2), source="x")
    assert np.shares_memory(rows, np.frombuffer(data, np.uint8))
    assert not rows.flags.writeable
    assert np.shares_memory(np.frombuffer(encode_memory(DARK), np.uint8), DARK)


def manifest_of(contract: Contract) -> Manifest:
    return Manifest(
        identity=Identity(product=contract.product, version="1.0.0"),
        contract=contract,
        rule=memory_rule(),
        models=(ONNX_ENTRY, OPENVINO_ENTRY),
        evidence=Evidence(agreements=(), metrics={}, sample_counts={}, samples_sha256="0" * 64),
        provenance={},
    )


@pytest.fixture
def seal(
    parts: tuple[PartData, ...], key_pair: tuple[PrivateKey, Path], tmp_path: Path
) -> Callable[..., Path]:
    def sealed(
        name: str,
        rows: Rows | bytes | None,
        *,
        engine: str = "",
        contract: Contract | None = None,
    ) -> Path:
        wanted = contract or memory_contract()
        held = list(parts)
        if rows is not None:
            data = rows if isinstance(rows, bytes) else encode_memory(rows)
            held.append(PartData(name=MEMORY_PART, data=data, engine=engine))
        if rows is DARK or rows is BRIGHT:
            golden = golden_samples(wanted, held, list(FRAMES))
            held.append(PartData(name=GOLDEN_PART, data=encode_golden(golden)))
        path = tmp_path / f"{name}.lsb"
        seal_bundle(path, manifest=manifest_of(wanted), parts=held, key=key_pair[0])
        return path

    return sealed


def open_with(bundle: Bundle, model: int = 0) -> Engine:
    entry = bundle.manifest.models[model]
    return open_engine(entry, bundle.part, bundle.manifest.contract, EngineSettings(threads=1))


def test_another_memory_leaves_the_model_as_it_is_and_gives_other_scores(
    seal: Callable[..., Path], key_pair: tuple[PrivateKey, Path]
) -> None:
    with (
        open_bundle(seal("dark", DARK), trust=key_pair[1]) as dark,
        open_bundle(seal("bright", BRIGHT), trust=key_pair[1]) as bright,
    ):
        for model, entry in enumerate(dark.manifest.models):
            assert all(dark.part(part) == bright.part(part) for part in entry.parts)
            first, second = open_with(dark, model), open_with(bright, model)
            run_selftest(dark, first)
            run_selftest(bright, second)
            by_dark, by_bright = (e.infer(FRAMES)["score"] for e in (first, second))
            np.testing.assert_allclose(by_dark, expected(FRAMES, DARK)["score"], atol=2e-6)
            np.testing.assert_allclose(by_bright, expected(FRAMES, BRIGHT)["score"], atol=2e-6)
            assert by_dark[0] < 0.01 < by_bright[0]
            assert by_dark[-1] > 0.1 > by_bright[-1]
        assert [m.parts for m in dark.manifest.models] == [m.parts for m in bright.manifest.models]
        assert dark.hash != bright.hash


def test_an_engine_outlives_its_bundle(
    seal: Callable[..., Path], key_pair: tuple[PrivateKey, Path], name: str
) -> None:
    with open_bundle(seal("dark", DARK), trust=key_pair[1]) as bundle:
        engine = open_with(bundle, [m.engine for m in bundle.manifest.models].index(name))
    np.testing.assert_allclose(
        engine.infer(FRAMES)["score"], expected(FRAMES, DARK)["score"], atol=2e-6
    )
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(FRAMES)


def test_thin_copies_keep_the_memory(
    seal: Callable[..., Path], key_pair: tuple[PrivateKey, Path], name: str, tmp_path: Path
) -> None:
    with open_bundle(seal("dark", DARK), trust=key_pair[1]) as whole:
        thin = make_thin_copy(whole, tmp_path / "thin.lsb", engine=name)
        model = [m.engine for m in whole.manifest.models].index(name)
    with open_bundle(thin, trust=key_pair[1]) as bundle:
        assert MEMORY_PART in bundle.present
        run_selftest(bundle, open_with(bundle, model))


@pytest.mark.parametrize(
    ("rows", "engine", "contract", "told"),
    [
        (None, "", memory_contract(), "'memory.f32' is missing, which contract.memory names"),
        (
            DARK,
            "",
            msgspec.structs.replace(memory_contract(), memory=None),
            "contract.memory is null",
        ),
        (DARK.tobytes(), "openvino", memory_contract(), "every device needs it"),
        (DARK.tobytes()[:-1], "", memory_contract(), "319 bytes; a memory is one row or more"),
        (b"", "", memory_contract(), "0 bytes"),
    ],
    ids=["missing", "uncalled for", "one engine's", "cut", "empty"],
)
def test_a_bundle_whose_memory_is_not_the_contract_s_cannot_be_sealed(
    seal: Callable[..., Path],
    rows: Rows | bytes | None,
    engine: str,
    contract: Contract,
    told: str,
) -> None:
    data = rows.tobytes() if isinstance(rows, np.ndarray) else rows
    with pytest.raises(BundleFormatError, match=f"manifest: parts: part .*{told}"):
        seal("odd", data, engine=engine, contract=contract)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    rows=arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 5)),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_a_memory_that_was_written_is_read(tmp_path: Path, rows: Rows) -> None:
    spec = MemorySpec(width=rows.shape[1])
    write_memory(tmp_path / "memory.npy", np.asfortranarray(rows), spec)
    found = read_memory(tmp_path / "memory.npy", spec)
    np.testing.assert_array_equal(found, rows)
    assert found.flags.c_contiguous


ODD_FILES: dict[str, tuple[Callable[[], object], str]] = {
    "wide": (lambda: np.zeros((3, 4), np.float32), r"float32 \(3, 4\); .* float32 \(M, 2\)"),
    "double": (lambda: np.zeros((3, 2)), "float64"),
    "flat": (lambda: np.zeros(6, np.float32), r"\(6,\)"),
    "empty": (lambda: np.zeros((0, 2), np.float32), "M at least 1"),
    "nan": (lambda: np.full((1, 2), np.nan, np.float32), "row 0 holds a value that is not finite"),
    "big-endian": (lambda: np.zeros((3, 2), ">f4"), "float32"),
    "objects": (lambda: np.array([[{}, {}]]), "not a memory"),
}


@pytest.mark.parametrize("odd", sorted(ODD_FILES))
def test_a_file_that_is_no_memory_is_refused(odd: str, tmp_path: Path) -> None:
    make, told = ODD_FILES[odd]
    file = io.BytesIO()
    np.save(file, make())  # type: ignore[arg-type]
    path = tmp_path / "memory.npy"
    path.write_bytes(file.getvalue())
    if odd == "big-endian" and sys.byteorder == "little":
        told = ">f4"
    with pytest.raises(InputDataError, match=told):
        read_memory(path, MemorySpec(width=2))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", None])
def test_a_damaged_or_missing_file_is_refused(data: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "memory.npy"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputDataError, match=r"memory\.npy: not a memory"):
        read_memory(path, MemorySpec(width=2))


def test_an_archive_of_arrays_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "memory.npy").open("wb") as file:
        np.savez(file, rows=DARK)
    with pytest.raises(InputDataError, match="archive of several"):
        read_memory(tmp_path / "memory.npy", MemorySpec(width=2))


@pytest.mark.parametrize(
    "shape",
    [
        "(99999999999, 2)",  # more than there is memory for
        "(2**70, 2)",
        "(1180591620717411303424, 2)",
        "(True, 2)",
        "((4, 2",
        "(04, 2)",
        "(1, " * 200,
    ],
)
def test_a_damaged_header_is_refused(shape: str, tmp_path: Path) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    size = len(header).to_bytes(2, "little")
    path = tmp_path / "memory.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + size + header.encode() + bytes(64))
    with pytest.raises(InputDataError, match=r"memory\.npy: not a memory"):
        read_memory(path, MemorySpec(width=2))
