"""Nothing passes the bundle's checks but what was sealed: every bit, length and part counts."""

from __future__ import annotations

import itertools
import json
import struct
import zlib
from pathlib import Path
from typing import Final

import msgspec
import pytest
from bundle_vectors import KEY, TRUSTED, VECTOR, VECTORS, full, minimal, minimal_manifest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.bundle import PartData, seal_bundle
from lineside.bundle.checks import check_bundle
from lineside.bundle.layout import align
from lineside.bundle.manifest import encode_manifest
from lineside.errors import (
    BundleError,
    BundleFormatError,
    IncompatibleBundleError,
    PartHashError,
    SignatureError,
    UntrustedBundleError,
)


def refusal(data: bytes) -> BundleError | None:
    """How the checks refuse these bytes; `None` where they pass."""
    try:
        check_bundle(memoryview(data), trusted=TRUSTED, source="x.lsb")
    except BundleError as error:
        assert str(error).startswith("x.lsb: ")
        return error
    return None


def mended(data: bytearray) -> bytes:
    struct.pack_into("<I", data, 124, zlib.crc32(data[:124]))
    return bytes(data)


def test_every_bit_of_header_and_manifest_counts() -> None:
    data = bytearray(minimal())
    end = 128 + struct.unpack_from("<I", data, 24)[0]
    for offset, bit in itertools.product(range(end), range(8)):
        data[offset] ^= 1 << bit
        assert refusal(bytes(data)) is not None, (offset, bit)
        data[offset] ^= 1 << bit


def test_every_byte_of_a_whole_bundle_counts() -> None:
    data = bytearray(minimal())
    for offset in range(len(data)):
        data[offset] ^= 1 << offset % 8
        assert refusal(bytes(data)) is not None, offset
        data[offset] ^= 1 << offset % 8


def test_every_signed_byte_counts_for_a_forger_who_mends_the_crc() -> None:
    data = bytearray(minimal())
    kinds = set()
    for offset in range(124):
        if 96 <= offset < 104:
            continue  # the present bits are not signed: see the test of every subset
        data[offset] ^= 1 << offset % 8
        error = refusal(mended(bytearray(data)))
        assert error is not None, offset
        assert "CRC" not in str(error)
        kinds.add(type(error))
        data[offset] ^= 1 << offset % 8
    assert kinds == {
        BundleFormatError,
        IncompatibleBundleError,
        SignatureError,
        UntrustedBundleError,
    }


def test_every_length_but_the_right_one_is_refused() -> None:
    data = full()
    for length in [*range(3000), *range(3000, len(data), 61), len(data) - 1]:
        assert refusal(data[:length]) is not None, length
    for more in (1, 4095, 4096, 8192):
        assert refusal(data + bytes(more)) is not None, more


def test_only_whole_engines_may_be_left_out() -> None:
    """Every subset of parts, laid out as it should be: four are copies, the rest are refused."""
    accepted = []
    for present_bits in range(1 << 5):
        error = refusal(laid_out(present_bits))
        if error is None:
            accepted.append(present_bits)
        else:
            assert type(error) is BundleFormatError
            assert "present parts" in str(error)
    assert accepted == [0b0011, 0b1101, 0b1111]


def laid_out(present_bits: int) -> bytes:
    data = bytearray(full())
    end = 128 + struct.unpack_from("<I", data, 24)[0]
    out = bytearray(data[:end])
    struct.pack_into("<Q", out, 96, present_bits)
    for index, part in enumerate(VECTOR.full_parts()):
        if present_bits >> index & 1:
            out += bytes(align(len(out)) - len(out)) + part.data
    return mended(out)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_no_mutation_passes(data: st.DataObject) -> None:
    good = full()
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(bad)))
        stop = min(len(bad), start + data.draw(st.integers(0, 5000)))
        bad[start:stop] = data.draw(
            st.binary(max_size=64)
            | st.just(bytes(stop - start))
            | st.just(bytes(bad[: stop - start]))
            | st.just(bytes(bad[start:stop] * 2))
        )
    if len(bad) >= 128 and data.draw(st.booleans()):
        mended(bad)
    error = refusal(bytes(bad))
    assert (error is None) == (bytes(bad) in acceptable())


def acceptable() -> list[bytes]:
    return [full(), laid_out(0b0011), laid_out(0b1101)]


def test_swapped_parts_are_refused() -> None:
    data = bytearray(full())
    data[4096:8192], data[8192:12288] = data[8192:12288], data[4096:8192]
    assert isinstance(refusal(bytes(data)), (PartHashError, BundleFormatError))


# Signed garbage must be refused too: the manifest's reader may not crash, whoever sealed it.
@settings(max_examples=200, deadline=None)
@given(
    manifest=st.binary(min_size=1, max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    ).map(lambda value: json.dumps(value).encode())
)
def test_signed_garbage_is_refused(manifest: bytes) -> None:
    assert isinstance(refusal(VECTOR.seal_raw(manifest)), BundleError)


def test_a_key_that_stands_twice_is_refused() -> None:
    data = minimal()
    text = data[128 : 128 + struct.unpack_from("<I", data, 24)[0]]
    for once, twice in (
        (b'"licence":', b'"licence":"MIT","licence":'),
        (b'"seed":', b'"seed":"8","seed":'),
        (b'"size_bytes":6', b'"size_bytes":6,"size_bytes":6'),
        (b'"licence":', b'"licenc\\u0065":"MIT","licence":'),
    ):
        assert once in text
        error = refusal(
            VECTOR.seal_raw(text.replace(once, twice, 1), [b"golden", b"\x08\x09model"])
        )
        assert isinstance(error, BundleFormatError)
        assert "stands twice in one object" in str(error)


@pytest.mark.parametrize("manifest", [b"[" * 200_000, b'{"a":' * 200_000, b'{"format":1e999}'])
def test_signed_towers_are_refused(manifest: bytes) -> None:
    assert isinstance(refusal(VECTOR.seal_raw(manifest)), BundleFormatError)


BREAKS: Final = {
    "licence": {"licence": 3},
    "metrics": {"evidence": {"metrics": {"mse": None}}},
    "identity.security_counter": {"identity": {"security_counter": -1}},
    "identity.target": {"identity": {"target": "../x"}},
    "identity.product": {"identity": {"product": ""}},
    "models": {"models": []},
    "format": {"format": 2},
}


@pytest.mark.parametrize("field", BREAKS)
def test_each_field_has_limits_and_is_named(field: str) -> None:
    data = minimal()
    good = json.loads(data[128 : 128 + struct.unpack_from("<I", data, 24)[0]])
    for key, change in BREAKS[field].items():
        good[key] = {**good[key], **change} if isinstance(change, dict) else change
    error = refusal(VECTOR.seal_raw(json.dumps(good).encode()))
    assert isinstance(error, (BundleFormatError, IncompatibleBundleError))
    assert field.rpartition(".")[2] in str(error)


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ([], "parts: 0"),
        ([PartData(name=f"p{i}", data=b"") for i in range(65)], "parts: 65"),
        ([PartData(name="a", data=b"")] * 2, "'a' stands there twice"),
        ([PartData(name="../a", data=b"")], r"\$\.parts\[0\]\.name"),
        ([PartData(name="a" * 65, data=b"")], r"\$\.parts\[0\]\.name"),
        ([PartData(name="a", data=b"", engine="abacus")], r"\$\.parts\[0\]\.engine"),
        ([PartData(name="a", data=b"")], "needs part 'onnxruntime/model.onnx'"),
        (
            [PartData(name="onnxruntime/model.onnx", data=b"", engine="openvino")],
            "needs part 'onnxruntime/model.onnx'",
        ),
    ],
)
def test_what_could_not_be_read_is_not_sealed(
    parts: list[PartData], field: str, tmp_path: Path
) -> None:
    with pytest.raises(BundleFormatError, match=field):
        seal_bundle(tmp_path / "a.lsb", manifest=minimal_manifest(), parts=parts, key=KEY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_metric_that_is_no_number_is_not_sealed(value: float) -> None:
    evidence = msgspec.structs.replace(minimal_manifest().evidence, metrics={"mse": value})
    with pytest.raises(BundleFormatError, match="metrics"):
        encode_manifest(
            msgspec.structs.replace(minimal_manifest(), evidence=evidence), source="a.lsb"
        )


def test_a_manifest_of_more_than_256_kib_is_not_sealed(tmp_path: Path) -> None:
    manifest = msgspec.structs.replace(minimal_manifest(), provenance={"a": "x" * 2**18})
    with pytest.raises(BundleFormatError, match="at most 262144"):
        seal_bundle(tmp_path / "a.lsb", manifest=manifest, parts=VECTOR.minimal_parts(), key=KEY)


def test_a_stranger_cannot_borrow_a_trusted_key_id() -> None:
    data = bytearray((VECTORS / "signed-by-stranger.bin").read_bytes())
    data[8:24] = KEY.public.key_id
    assert isinstance(refusal(mended(data)), SignatureError)


def field_paths(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = []
    items: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        items = list(value.items())
        found = [(*path, key) for key in value if path not in FREE]
    elif isinstance(value, list):
        items = list(enumerate(value))
    return found + [p for key, inner in items for p in field_paths(inner, (*path, key))]


# Objects whose keys are the writer's own.
FREE: Final = {("provenance",), ("evidence", "metrics"), ("evidence", "sample_counts")}


def test_every_field_must_be_there() -> None:
    data = minimal()
    text = data[128 : 128 + struct.unpack_from("<I", data, 24)[0]]
    paths = field_paths(json.loads(text))
    assert len(paths) > 50
    for path in paths:
        manifest = json.loads(text)
        holder = manifest
        for key in path[:-1]:
            holder = holder[key]
        del holder[path[-1]]
        error = refusal(VECTOR.seal_raw(json.dumps(manifest).encode()))
        assert isinstance(error, BundleFormatError), path
        assert str(path[-1]) in str(error)
