"""The test vectors: made again to the byte, read by us, and read by a reader written from the
document alone, as a firmware engineer would write one."""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any, Final

import pytest
from bundle_vectors import VECTOR
from bundle_vectors import VECTORS as FOLDER
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lineside.bundle import open_bundle
from lineside.errors import (
    BundleError,
    BundleFormatError,
    IncompatibleBundleError,
    PartHashError,
    SignatureError,
    UntrustedBundleError,
)

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "bundle-format.md"
INDEX: Final = json.loads((FOLDER / "index.json").read_text())
MANIFEST_FIELDS: Final = {
    *("contract", "evidence", "format", "identity", "licence"),
    *("models", "parts", "provenance", "rule"),
}
MODEL_FIELDS: Final = {"batch", "engine", "inference_precision", "parts", "precision"}
ERRORS: Final = {
    "format": BundleFormatError,
    "incompatible": IncompatibleBundleError,
    "untrusted": UntrustedBundleError,
    "signature": SignatureError,
    "part": PartHashError,
}


def altered(row: dict[str, Any]) -> bytes:
    data = bytearray((FOLDER / row["file"]).read_bytes())
    for edit in row["edits"]:
        change = bytes.fromhex(edit["bytes"])
        data[edit["at"] : edit["at"] + len(change)] = change
    if row["mend_crc"]:
        struct.pack_into("<I", data, 124, zlib.crc32(data[:124]))
    return bytes(data[: row["length"]]).ljust(row["length"], b"\0")


def test_the_generator_makes_the_same_bytes_again(tmp_path: Path) -> None:
    VECTOR.write_vectors(tmp_path)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    kept = {
        path.name: path.read_bytes()
        for path in FOLDER.iterdir()
        if path.is_file() and path.suffix != ".py"
    }
    assert made.keys() == kept.keys()
    assert [name for name in made if made[name] != kept[name]] == []


def test_the_keys_are_those_of_rfc_8032() -> None:
    # RFC 8032, section 7.1, public keys of tests 1 and 2.
    assert VECTOR.FACTORY.public.raw.hex() == (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    )
    assert VECTOR.STRANGER.public.raw.hex() == (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    )


@pytest.mark.parametrize("row", INDEX["good"], ids=lambda row: row["file"])
def test_good_vectors_open(row: dict[str, Any]) -> None:
    path = FOLDER / row["file"]
    data = path.read_bytes()
    with open_bundle(path, trust=FOLDER / "factory.pub") as bundle:
        assert bundle.hash == row["hash"]
        assert list(bundle.present) == list(row["present"])
        for name, (start, stop) in row["present"].items():
            assert bytes(bundle.part(name)) == data[start:stop]


@pytest.mark.parametrize("row", INDEX["bad"], ids=lambda row: row["name"])
def test_bad_vectors_are_refused_for_the_reason_that_the_index_gives(
    row: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "bad.lsb"
    path.write_bytes(altered(row))
    with pytest.raises(BundleError) as caught:
        open_bundle(path, trust=FOLDER / "factory.pub")
    assert type(caught.value) is ERRORS[row["expect"]]
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("row", INDEX["good"], ids=lambda row: row["file"])
def test_a_reader_written_from_the_document_agrees_on_good_vectors(row: dict[str, Any]) -> None:
    found = read_by_the_book((FOLDER / row["file"]).read_bytes(), factory_key())
    assert found == (row["hash"], {name: tuple(span) for name, span in row["present"].items()})


@pytest.mark.parametrize("row", INDEX["bad"], ids=lambda row: row["name"])
def test_a_reader_written_from_the_document_refuses_bad_vectors(row: dict[str, Any]) -> None:
    with pytest.raises(RefusedError) as caught:
        read_by_the_book(altered(row), factory_key())
    assert caught.value.args[0] == row["expect"]


def test_the_hexdump_in_the_document_is_the_vector() -> None:
    data = (FOLDER / "minimal.bin").read_bytes()
    lines = re.findall(
        r"^([0-9a-f]{8})  ((?:[0-9a-f]{2} {1,2}){1,16}) *\|", DOCUMENT.read_text(), re.M
    )
    assert len(lines) >= 12
    for offset, digits in lines:
        shown = bytes.fromhex(digits)
        start = int(offset, 16)
        assert data[start : start + len(shown)] == shown


def test_what_the_document_says_around_the_hexdump_is_true_of_the_vector() -> None:
    data, text = (FOLDER / "minimal.bin").read_bytes(), DOCUMENT.read_text(encoding="utf-8")
    size, crc = (struct.unpack_from("<I", data, at)[0] for at in (24, 124))
    (sealed,) = [row["hash"] for row in INDEX["good"] if row["file"] == "minimal.bin"]
    for told in (
        f"{len(data):,} bytes, hash `{sealed}`",
        f"manifest size `{data[24:28].hex(' ')}`, which is {size};",
        f"the CRC, `{crc:#010x}`",
        f"which ends before `{128 + size:08x}`",
    ):
        assert told in text
    *_, manifest = re.findall(r"^```\n(\{.*?)^```", text, re.M | re.S)
    assert "".join(manifest.splitlines()).encode() == data[128 : 128 + size]


class RefusedError(Exception):
    """With the word that the index uses."""


def refuse_unless(holds: bool, word: str) -> None:
    if not holds:
        raise RefusedError(word)


def factory_key() -> bytes:
    return bytes.fromhex(re.findall(r"\| factory \| `([0-9a-f]{64})`", DOCUMENT.read_text())[0])


def read_by_the_book(data: bytes, key: bytes) -> tuple[str, dict[str, tuple[int, int]]]:
    """docs/bundle-format.md, "Reading", step by step; none of our own code."""
    refuse_unless(data[0:4] == b"LSB1" and len(data) >= 128, "format")  # 1
    (crc,) = struct.unpack_from("<I", data, 124)
    refuse_unless(crc == zlib.crc32(data[0:124]), "format")  # 2
    form, size, key_id, length, zero = struct.unpack_from("<HH16sII", data, 4)
    refuse_unless(form == 1, "incompatible")  # 3
    refuse_unless(size == 128 and zero == 0 and data[104:124] == bytes(20), "format")  # 4
    refuse_unless(1 <= length <= 256 * 1024 and 128 + length <= len(data), "format")  # 5
    refuse_unless(key_id == hashlib.sha256(key).digest()[:16], "untrusted")  # 6
    signed = data[0:32] + data[128 : 128 + length]
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(data[32:96], signed)  # 7
    except InvalidSignature:
        raise RefusedError("signature") from None
    try:
        text = data[128 : 128 + length].decode("utf-8")
        manifest = json.loads(text, object_pairs_hook=unique)  # 8
    except ValueError:
        raise RefusedError("format") from None
    needed = tuple(map(int, manifest["identity"]["minimum_runtime"].split(".")))
    refuse_unless(manifest["format"] == 1 and needed <= (0, 1, 0), "incompatible")  # 9
    parts = manifest["parts"]
    check_table(manifest, parts)  # 10
    check_proven(manifest["rule"], manifest["evidence"]["guarantee"])  # 10
    (present,) = struct.unpack_from("<Q", data, 96)
    check_present(present, parts)  # 11
    spans = place(data, length, parts, present)  # 12
    for part in parts:
        if part["name"] in spans:
            start, stop = spans[part["name"]]
            refuse_unless(hashlib.sha256(data[start:stop]).hexdigest() == part["sha256"], "part")
    return hashlib.sha256(signed).hexdigest(), spans


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    refuse_unless(len(dict(pairs)) == len(pairs), "format")
    return dict(pairs)


def check_table(manifest: dict[str, Any], parts: list[dict[str, Any]]) -> None:
    refuse_unless(set(manifest) == MANIFEST_FIELDS, "format")
    refuse_unless(1 <= len(parts) <= 64, "format")
    names = [part["name"] for part in parts]
    refuse_unless(len(set(names)) == len(names), "format")
    for name in names:
        good = re.fullmatch(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*", name)
        refuse_unless(good is not None and len(name) <= 64, "format")
    for part in parts:
        refuse_unless(0 <= part["size_bytes"] <= 2**40, "format")
    forms = [(model["engine"], model["precision"]) for model in manifest["models"]]
    refuse_unless(len(forms) > 0 and len(set(forms)) == len(forms), "format")
    engines = {part["name"]: part["engine"] for part in parts}
    for model in manifest["models"]:
        refuse_unless(set(model) == MODEL_FIELDS, "format")
        for name in model["parts"]:
            refuse_unless(engines.get(name) in ("", model["engine"]), "format")


def check_proven(rule: dict[str, Any], guarantee: dict[str, Any] | None) -> None:
    if guarantee is not None:
        beyond = rule["ok_limit"] - guarantee["ok_limit"]
        refuse_unless(beyond <= 0 if rule["worse"] == "higher" else beyond >= 0, "format")


def check_present(present: int, parts: list[dict[str, Any]]) -> None:
    refuse_unless(present >> len(parts) == 0, "format")
    state: dict[str, set[bool]] = {}
    for index, part in enumerate(parts):
        state.setdefault(part["engine"], set()).add(bool(present >> index & 1))
    refuse_unless(state.pop("", {True}) == {True}, "format")
    refuse_unless(all(len(values) == 1 for values in state.values()), "format")
    refuse_unless(not state or {True} in state.values(), "format")


def place(
    data: bytes, length: int, parts: list[dict[str, Any]], present: int
) -> dict[str, tuple[int, int]]:
    end = 128 + length
    spans = {}
    for index, part in enumerate(parts):
        if present >> index & 1:
            start = (end + 4095) // 4096 * 4096
            refuse_unless(start + part["size_bytes"] <= len(data), "format")
            refuse_unless(data[end:start] == bytes(start - end), "format")
            end = start + part["size_bytes"]
            spans[part["name"]] = (start, end)
    refuse_unless(end == len(data), "format")
    return spans
