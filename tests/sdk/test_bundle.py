"""Bundles: what is sealed comes out again, and nothing else ever does."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import pytest
from bundle_vectors import KEY, TRUSTED, VECTOR, VECTORS, full, minimal, minimal_manifest
from hypothesis import given, settings
from hypothesis import strategies as st

import lineside.bundle
import lineside.errors
from lineside.bundle import (
    PartData,
    make_thin_copy,
    open_bundle,
    seal_bundle,
)
from lineside.durable import write_durably
from lineside.errors import (
    BundleError,
    BundleFormatError,
    DowngradeError,
    IncompatibleBundleError,
    KeyFileError,
    PartHashError,
    RevokedKeyError,
    SignatureError,
    StorageError,
    TargetError,
    UntrustedBundleError,
)

PUBLIC: Final = VECTORS / "factory.pub"


# --- what is sealed comes out again -------------------------------------------------------------

names = st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,9}(/[a-z0-9][a-z0-9._-]{0,9}){0,2}\Z")
blobs = st.binary(max_size=300) | st.sampled_from([bytes(4095), bytes(4096), b"x" * 8193])


@settings(max_examples=60, deadline=None)
@given(
    extra=st.dictionaries(
        names, st.tuples(blobs, st.sampled_from(["", "onnxruntime"])), max_size=6
    ),
    provenance=st.dictionaries(st.text(max_size=20), st.text(max_size=50), max_size=4),
    metrics=st.dictionaries(
        st.text(max_size=9), st.floats(allow_nan=False, allow_infinity=False), max_size=4
    ),
)
def test_whatever_is_sealed_comes_out_again(
    extra: dict[str, tuple[bytes, str]],
    provenance: dict[str, str],
    metrics: dict[str, float],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.lsb"
    extra = {name: part for name, part in extra.items() if name != VECTOR.ONNX.parts[0]}
    parts = [PartData(name=VECTOR.ONNX.parts[0], data=b"model", engine="onnxruntime")]
    parts += [PartData(name=n, data=data, engine=engine) for n, (data, engine) in extra.items()]
    evidence = msgspec.structs.replace(minimal_manifest().evidence, metrics=metrics)
    manifest = msgspec.structs.replace(minimal_manifest(), provenance=provenance, evidence=evidence)
    sealed_hash = seal_bundle(path, manifest=manifest, parts=parts, key=KEY)
    with open_bundle(path, trust=TRUSTED) as bundle:
        assert bundle.hash == sealed_hash
        assert bundle.model_id == sealed_hash[:16]
        assert bundle.signer == KEY.public
        assert bundle.present == tuple(part.name for part in parts)
        assert msgspec.structs.replace(bundle.manifest, parts=()) == manifest
        for part in parts:
            assert bytes(bundle.part(part.name)) == part.data
            assert bundle.checked.spans[part.name].start % 4096 == 0


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    manifest = minimal_manifest()
    # Equal as Python sees it, but another order and an int where a float belongs.
    turned = msgspec.structs.replace(
        manifest,
        provenance=dict(reversed(manifest.provenance.items())),
        rule=msgspec.structs.replace(manifest.rule, ok_limit=0, not_ok_limit=1),
    )
    manifest = msgspec.structs.replace(
        manifest, rule=msgspec.structs.replace(manifest.rule, ok_limit=0.0, not_ok_limit=1.0)
    )
    for name, described in (("a", manifest), ("b", turned)):
        seal_bundle(tmp_path / name, manifest=described, parts=VECTOR.minimal_parts(), key=KEY)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_manifest_is_canonical_json() -> None:
    data = minimal()
    size_bytes = struct.unpack_from("<I", data, 24)[0]
    text = data[128 : 128 + size_bytes].decode("utf-8")
    again = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert text == again


def test_parts_are_mapped_read_only_and_outlive_the_bundle(tmp_path: Path) -> None:
    path = tmp_path / "a.lsb"
    path.write_bytes(full())
    bundle = open_bundle(path, trust=PUBLIC)
    view = bundle.part("onnxruntime/model.onnx")
    assert view.readonly
    assert view.format == "B"
    assert type(view.obj).__name__ == "mmap"
    bundle.close()
    bundle.close()
    path.unlink()
    assert bytes(view) == bytes(range(256)) * 16
    with pytest.raises(BundleError, match="closed"):
        bundle.part("onnxruntime/model.onnx")


def test_a_bundle_that_is_replaced_leaves_the_open_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.lsb"
    path.write_bytes(full())
    with open_bundle(path, trust=PUBLIC) as bundle:
        seal_bundle(path, manifest=minimal_manifest(), parts=VECTOR.minimal_parts(), key=KEY)
        assert bytes(bundle.part("openvino/model.xml")) == b"x" * 4097


# --- trust --------------------------------------------------------------------------------------


def test_an_unknown_key_is_named_with_those_that_are_trusted() -> None:
    with pytest.raises(UntrustedBundleError) as caught:
        open_bundle(VECTORS / "signed-by-stranger.bin", trust=PUBLIC)
    assert caught.value.key_id == VECTOR.STRANGER.public.key_id.hex()
    assert caught.value.key_id in str(caught.value)
    assert f"{KEY.public.key_id.hex()} (factory)" in str(caught.value)


@pytest.mark.parametrize("trust", [PUBLIC, str(PUBLIC), VECTORS, [VECTORS], TRUSTED])
def test_trust_may_be_a_file_a_folder_or_several(trust: lineside.bundle.Trust) -> None:
    with open_bundle(VECTORS / "minimal.bin", trust=trust) as bundle:
        assert bundle.signer.name == "factory"


def test_no_trust_is_no_bundle() -> None:
    with pytest.raises(KeyFileError, match="no trusted key"):
        open_bundle(VECTORS / "minimal.bin", trust=[])


# --- thin copies --------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_thin_copy_is_the_same_bundle(engine: str, tmp_path: Path) -> None:
    with open_bundle(VECTORS / "full.bin", trust=PUBLIC) as bundle:
        path = make_thin_copy(bundle, tmp_path / "thin.lsb", engine=engine)
        with open_bundle(path, trust=PUBLIC) as thin:
            assert thin.hash == bundle.hash
            assert thin.manifest == bundle.manifest
            assert [bytes(thin.part(name)) for name in thin.present] == [
                bytes(bundle.part(part.name))
                for part in bundle.manifest.parts
                if part.engine in ("", engine)
            ]
            again = make_thin_copy(thin, tmp_path / "again.lsb", engine=engine)
    assert again.read_bytes() == path.read_bytes()


def test_a_thin_copy_says_what_it_lacks(tmp_path: Path) -> None:
    with open_bundle(VECTORS / "thin-onnxruntime.bin", trust=PUBLIC) as thin:
        with pytest.raises(BundleError, match="left out of this thin copy"):
            thin.part("openvino/model.xml")
        with pytest.raises(BundleError, match="not in this bundle"):
            thin.part("nonsense")
        with pytest.raises(BundleError, match="but for onnxruntime"):
            make_thin_copy(thin, tmp_path / "x.lsb", engine="openvino")


# --- the file system ----------------------------------------------------------------------------


def test_what_is_not_a_bundle_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("hello " * 100)
    for name in ("missing", "pipe", "folder", "empty", "text"):
        with pytest.raises(BundleError, match=name):
            open_bundle(tmp_path / name, trust=PUBLIC)


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """The kernel refuses larger files (EFBIG), as a full disk does with another number."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_refuses_leaves_the_old_bundle_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.lsb"
    path.write_bytes(full())
    with file_size_limit(6000), pytest.raises(StorageError, match=r"a\.lsb: cannot be written"):
        seal_bundle(path, manifest=minimal_manifest(), parts=VECTOR.minimal_parts(), key=KEY)
    assert [file.name for file in tmp_path.iterdir()] == ["a.lsb"]
    assert path.read_bytes() == full()


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        write_durably(tmp_path / "nowhere" / "a.lsb", [b"x"])


# --- completeness -------------------------------------------------------------------------------


def test_everything_exported_is_there() -> None:
    for name in lineside.bundle.__all__:
        assert getattr(lineside.bundle, name).__module__.startswith(
            ("lineside.bundle", "typing")
        ) or (name == "Trust")


def test_every_kind_of_refusal_is_met_by_a_vector_or_here() -> None:
    kinds = {
        kind
        for kind in vars(lineside.errors).values()
        if isinstance(kind, type) and issubclass(kind, BundleError) and kind is not BundleError
    }
    assert kinds == {
        BundleFormatError,
        DowngradeError,  # tests/sdk/slots/test_rules.py
        IncompatibleBundleError,
        PartHashError,
        RevokedKeyError,  # tests/sdk/test_trust.py
        SignatureError,
        TargetError,  # tests/sdk/slots/test_target.py
        UntrustedBundleError,
    }
    assert {kind.exit_code for kind in kinds} == {5}


def test_the_hash_is_over_the_signed_bytes() -> None:
    data = minimal()
    end = 128 + struct.unpack_from("<I", data, 24)[0]
    with open_bundle(VECTORS / "minimal.bin", trust=PUBLIC) as bundle:
        assert bundle.hash == hashlib.sha256(data[:32] + data[128:end]).hexdigest()
