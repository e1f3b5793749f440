"""Bundles as MCUboot images: the bytes that imgtool makes, and what imgtool says of ours."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from bundle_damage import GOOD
from bundle_vectors import TRUSTED
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from imgtool.main import imgtool as command_line
from tiny_bundle import TinyBundle

from lineside.bundle import PrivateKey, load_private_key, load_trust, write_key_pair
from lineside.bundle.checks import check_bundle
from lineside.errors import BundleFormatError, SigningError
from lineside_bridge.cli.sensor import sensor as sensor_verbs
from lineside_bridge.errors import ImageError
from lineside_bridge.mcuboot import (
    ImageVersion,
    McubootImage,
    hash_key,
    read_image,
    wrap_image,
)

SEED: Final = bytes(range(32))
KEY: Final = PrivateKey(SEED, name="boot")
STRANGER: Final = PrivateKey(bytes(32), name="stranger")
VERSION: Final = ImageVersion(major=1, minor=4, revision=300, build=7)
IMAGE: Final = wrap_image(GOOD[1], version=VERSION, security_counter=3, signer=KEY)


class Imgtool:
    """MCUboot's own tool, and our key as a file for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = folder / "boot.key"
        # PKCS#8 of Ed25519 (RFC 8410): all but the seed is the same.
        info = bytes.fromhex("302e020100300506032b657004220420") + SEED
        text, label = base64.b64encode(info).decode(), "PRIVATE KEY"
        self.key.write_text(f"-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")

    def run(self, *words: str | Path) -> Result:
        return CliRunner().invoke(command_line, [str(word) for word in words])

    def verify(self, image: bytes, key: Path | None = None) -> str:
        file = self.folder / "verified.bin"
        file.write_bytes(image)
        done = self.run("verify", "-k", key or self.key, file)
        return f"{done.exit_code} {done.output}"

    def sign(self, bundle: bytes, *options: str) -> bytes:
        source, target = self.folder / "in.bin", self.folder / "out.bin"
        source.write_bytes(bundle)
        fixed = ("--key", str(self.key), "--pad-header", "--slot-size", "0x200000", "--align", "4")
        done = self.run("sign", *fixed, *options, source, target)
        assert done.exit_code == 0, done.output
        return target.read_bytes()


@pytest.fixture(scope="module")
def imgtool(tmp_path_factory: pytest.TempPathFactory) -> Imgtool:
    return Imgtool(tmp_path_factory.mktemp("imgtool"))


def test_imgtool_verifies_it(imgtool: Imgtool) -> None:
    said = imgtool.verify(IMAGE)

    assert said.startswith("0 ")
    assert "Image was correctly validated" in said
    assert "Image version: 1.4.300+7" in said
    assert f"Image digest: {read_image(IMAGE).digest.hex()}" in said


def test_imgtool_verifies_it_with_the_public_key_that_lies_beside_a_device(
    imgtool: Imgtool, tmp_path: Path
) -> None:
    private, public = write_key_pair(tmp_path, "gate")
    image = wrap_image(
        GOOD[0], version=VERSION, security_counter=0, signer=load_private_key(private)
    )

    assert imgtool.verify(image, public).startswith("0 ")
    assert not imgtool.verify(IMAGE, public).startswith("0 ")


@pytest.mark.parametrize("header_bytes", [0x20, 0x200, 0x1000])
def test_it_is_byte_for_byte_what_imgtool_makes(imgtool: Imgtool, header_bytes: int) -> None:
    theirs = imgtool.sign(
        GOOD[1], "--version", "1.4.300+7", "--security-counter", "3", "-H", str(header_bytes)
    )

    ours = wrap_image(
        GOOD[1], version=VERSION, security_counter=3, signer=KEY, header_bytes=header_bytes
    )

    assert ours == theirs


def test_an_image_of_imgtool_without_a_counter_is_read(imgtool: Imgtool) -> None:
    image = read_image(imgtool.sign(GOOD[0], "--version", "0.0.1", "-H", "0x200"))

    assert image.security_counter is None
    assert image.version == ImageVersion(major=0, minor=0, revision=1)
    assert image.header_bytes == 0x200
    assert image.bundle == GOOD[0]
    assert image.is_signed_by(KEY.public)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--pure",), "TLVs"),
        (("--sha", "512"), "TLVs"),
        (("--public-key-format", "full"), "TLVs"),
        (("--dependencies", "(1, 1.2.3+4)"), "TLVs"),
        (("--boot-record", "CoFM"), "TLVs"),
        (("--non-bootable",), "flags 0x10"),
        (("--load-addr", "4096"), "load address 0x1000"),
        (("--pad",), "bytes behind the image"),
    ],
)
def test_images_of_other_kinds_are_refused(
    imgtool: Imgtool, options: tuple[str, ...], told: str
) -> None:
    image = imgtool.sign(GOOD[0], "--version", "1.0.0", "-H", "0x200", "-s", "1", *options)

    with pytest.raises(ImageError, match=told):
        read_image(image)


def test_what_was_wrapped_comes_back() -> None:
    image = read_image(IMAGE)

    assert image == McubootImage(
        version=VERSION,
        header_bytes=4096,
        security_counter=3,
        bundle=GOOD[1],
        digest=hashlib.sha256(IMAGE[: 4096 + len(GOOD[1]) + 12]).digest(),
        key_hash=hash_key(KEY.public),
        signature=KEY.sign(image.digest),
    )
    assert image.is_signed_by(KEY.public)
    assert not image.is_signed_by(STRANGER.public)


def test_parts_stay_aligned_to_pages_for_firmware_that_reads_from_the_slot() -> None:
    """Behind the header, and no further than the image's size."""
    header_bytes = int.from_bytes(IMAGE[8:10], "little")
    size_bytes = int.from_bytes(IMAGE[12:16], "little")

    inside = memoryview(IMAGE)[header_bytes : header_bytes + size_bytes]
    checked = check_bundle(inside, trusted=TRUSTED, source="slot")

    assert {(header_bytes + span.start) % 4096 for span in checked.spans.values()} == {0}


@given(at=st.integers(0, len(IMAGE) - 1), bit=st.integers(0, 7))
def test_every_bit_counts(at: int, bit: int) -> None:
    changed = bytearray(IMAGE)
    changed[at] ^= 1 << bit

    try:
        image = read_image(bytes(changed))
    except ImageError:
        return

    # Outside the hash are key hash and signature alone.
    assert at >= len(IMAGE) - 64 - 4 - 32
    assert not image.is_signed_by(KEY.public)


@given(length=st.integers(0, len(IMAGE) - 1))
def test_every_cut_is_refused(length: int) -> None:
    with pytest.raises(ImageError):
        read_image(IMAGE[:length])


def swap_tlvs(image: bytearray) -> None:
    tail = len(image) - 64 - 4 - 36
    image[tail:] = image[tail + 36 :] + image[tail : tail + 36]


def double_tlv(image: bytearray) -> None:
    area = len(image) - 144
    image += image[area + 4 : area + 40]
    image[area + 2] += 36


def overlong_tlv(image: bytearray) -> None:
    image[len(image) - 66] += 1


def short_counter(image: bytearray) -> None:
    at = len(image) - 144 - 12
    image[10] -= 2
    image[at + 2] -= 2
    image[at + 6] -= 2
    del image[at + 10 : at + 12]


def short_tail(image: bytearray) -> None:
    image[len(image) - 142] += 2
    image += bytes(2)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (double_tlv, "stands there twice"),
        (overlong_tlv, "TLV 0x24 of 65 bytes"),
        (short_counter, "TLV 0x50 of 2 bytes, not 4"),
        (short_tail, "2 bytes behind the last TLV"),
        (lambda image: image.extend(b"\xff"), "1 bytes behind the image"),
    ],
)
def test_tlvs_that_lie_are_refused(change: Callable[[bytearray], None], told: str) -> None:
    image = bytearray(IMAGE)
    change(image)

    with pytest.raises(ImageError, match=told):
        read_image(bytes(image))


def test_the_order_of_tlvs_is_free() -> None:
    image = bytearray(IMAGE)
    swap_tlvs(image)

    assert read_image(bytes(image)) == read_image(IMAGE)


def test_only_a_bundle_is_wrapped() -> None:
    for data in (b"", b"LSB1", bytes(200), IMAGE):
        with pytest.raises(BundleFormatError):
            wrap_image(data, version=VERSION, security_counter=0, signer=KEY)


@pytest.mark.parametrize(
    ("counter", "header_bytes"), [(-1, 4096), (2**32, 4096), (0, 31), (0, 65536)]
)
def test_numbers_beyond_their_limits_are_refused(counter: int, header_bytes: int) -> None:
    with pytest.raises(ImageError):
        wrap_image(
            GOOD[0],
            version=VERSION,
            security_counter=counter,
            signer=KEY,
            header_bytes=header_bytes,
        )


def test_a_signer_that_signs_with_another_key_wraps_nothing() -> None:
    class Confused:
        public = KEY.public

        def sign(self, data: bytes) -> bytes:
            return STRANGER.sign(data)

    with pytest.raises(SigningError):
        wrap_image(GOOD[0], version=VERSION, security_counter=0, signer=Confused())


@given(
    st.builds(
        ImageVersion,
        major=st.integers(0, 255),
        minor=st.integers(0, 255),
        revision=st.integers(0, 65535),
        build=st.integers(0, 2**32 - 1),
    )
)
def test_versions_read_back(version: ImageVersion) -> None:
    assert ImageVersion.parse(str(version)) == version


@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "1.4", "1.4.0+", "v1.4.0", "1.4.0-rc1", "256.0.0", "0.256.0", "0.0.65536"),
        *("0.0.0+4294967296", "01.0.0", "1.4.0\n", "١.٤.٠", "-1.0.0"),
    ],
)
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ImageError, match="image version"):
        ImageVersion.parse(text)


def test_versions_compare_number_by_number() -> None:
    words = ["0.9.0", "0.10.0", "1.4.2", "1.4.10", "1.4.10+1", "2.0.0"]

    versions = [ImageVersion.parse(word) for word in words]

    assert versions == sorted(versions)


def test_the_verb_writes_the_image_that_the_other_tools_take(
    imgtool: Imgtool, tiny_bundle: TinyBundle, tmp_path: Path
) -> None:
    key, _ = write_key_pair(tmp_path, "boot")
    image = tmp_path / "tiny.img"
    words = ["wrap", str(tiny_bundle.path), "--trust", str(tiny_bundle.public_key_path)]
    words += ["--engine", "onnxruntime", "--out", str(image)]
    said = CliRunner().invoke(sensor_verbs, [*words, "--mcuboot", str(key), "--json"])
    assert said.exit_code == 0, (said.output, said.exception)
    told = json.loads(said.stdout)

    assert imgtool.verify(image.read_bytes(), key).startswith("0 ")
    inside = read_image(image.read_bytes())
    assert (told["digest"], told["engine"]) == (inside.digest.hex(), "onnxruntime")
    trusted = load_trust(tiny_bundle.public_key_path)
    checked = check_bundle(memoryview(inside.bundle), trusted=trusted, source="inside")
    assert told["bundle"] == checked.hash
    assert len(inside.bundle) < tiny_bundle.path.stat().st_size

    sealed = tiny_bundle.path.read_bytes()
    words[-1] = str(tiny_bundle.path)
    assert CliRunner().invoke(sensor_verbs, [*words, "--mcuboot", str(key)]).exit_code == 2
    assert CliRunner().invoke(sensor_verbs, words).exit_code == 2
    assert tiny_bundle.path.read_bytes() == sealed
