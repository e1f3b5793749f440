"""A bundle as a genuine MCUboot image: a sensor behind MCUboot takes it as it takes firmware.

```
  0  32  header: magic, sizes, flags, version                        \\
 32      0xff up to the header's size                                 | hashed
         the bundle                                                   |
         protected TLVs: 0x50 security counter                       /
         TLVs: 0x10 SHA-256 of all above, 0x01 SHA-256 of the key, 0x24 Ed25519 over the SHA-256
```

Little-endian; MCUboot's docs/design.md, "Image Format", describes it. The bytes are those that
MCUboot's own ``imgtool sign`` makes of the same bundle. Two seals hold then: MCUboot's, by whose
key the boot loader lets the image into its slot, and the bundle's own inside, by which the firmware
believes the model.

MCUboot names an image by the SHA-256 in its TLVs (`McubootImage.digest`), and so does a sensor's
list of images over SMP; it is neither the bundle's hash nor the file's.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from lineside.bundle import PublicKey, Signer
from lineside.bundle.layout import ALIGNMENT_BYTES, HEADER_BYTES, unpack_header
from lineside.bundle.signer import sign_checked
from lineside_bridge.errors import ImageError

IMAGE_MAGIC: Final = 0x96F3B83D
IMAGE_HEADER_BYTES: Final = 32
TLV_INFO_MAGIC: Final = 0x6907
PROTECTED_TLV_INFO_MAGIC: Final = 0x6908
TLV_KEY_HASH: Final = 0x01
TLV_SHA256: Final = 0x10
TLV_ED25519: Final = 0x24
TLV_SECURITY_COUNTER: Final = 0x50

_HEADER: Final = struct.Struct("<IIHHIIBBHII")
_TLV: Final = struct.Struct("<HH")  # of the area: magic, size; of an entry: type, size
_COUNTER: Final = struct.Struct("<I")
_SIZES_BYTES: Final = {
    TLV_KEY_HASH: 32,
    TLV_SHA256: 32,
    TLV_ED25519: 64,
    TLV_SECURITY_COUNTER: _COUNTER.size,
}
# MCUboot hashes a key as SubjectPublicKeyInfo; of Ed25519 (RFC 8410) all but the key is the same.
_KEY_INFO: Final = bytes.fromhex("302a300506032b6570032100")
_ERASED: Final = b"\xff"
_VERSION: Final = re.compile(
    r"(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,4})(?:\+(0|[1-9][0-9]{0,9}))?"
)
_VERSION_LIMITS: Final = (0xFF, 0xFF, 0xFFFF, 0xFFFF_FFFF)

assert _HEADER.size == IMAGE_HEADER_BYTES


@dataclass(frozen=True, kw_only=True, order=True)
class ImageVersion:
    """MCUboot's version of an image: docs/design.md, "Image Format", ``struct image_version``.

    Attributes:
        major, minor: 0 to 255.
        revision: 0 to 65,535.
        build: 0 to 4,294,967,295.
    """

    major: int
    minor: int
    revision: int
    build: int = 0

    def __post_init__(self) -> None:
        numbers = (self.major, self.minor, self.revision, self.build)
        if any(not 0 <= n <= limit for n, limit in zip(numbers, _VERSION_LIMITS, strict=True)):
            raise ImageError(
                f"image version {self}: beyond MCUboot's limits, which are "
                "255.255.65535+4294967295: give another one for the image"
            )

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.revision}" + (f"+{self.build}" * bool(self.build))

    @classmethod
    def parse(cls, text: str) -> ImageVersion:
        """Read ``MAJOR.MINOR.REVISION`` or ``MAJOR.MINOR.REVISION+BUILD``.

        A bundle's own version is free text; where it is no such version, the image needs one.

        Raises:
            ImageError: not such a version.
        """
        found = _VERSION.fullmatch(text)
        if found is None:
            raise ImageError(
                f"image version {text!r}: MCUboot's have the form 1.4.0 or 1.4.0+7: give one for "
                "the image"
            )
        major, minor, revision, build = (int(number or 0) for number in found.groups())
        return cls(major=major, minor=minor, revision=revision, build=build)


@dataclass(frozen=True, kw_only=True)
class McubootImage:
    """An image whose form and hash are sound; whether the signature holds is `is_signed_by`.

    Attributes:
        version: of the image, for MCUboot.
        header_bytes: where the bundle begins.
        security_counter: MCUboot refuses an image below the device's own; ``None``: it has none.
        bundle: the bytes that were wrapped.
        digest: SHA-256 over header, bundle and protected TLVs, 32 bytes: the image's name over SMP.
        key_hash: SHA-256 of the key's SubjectPublicKeyInfo, 32 bytes.
        signature: Ed25519 over ``digest``, 64 bytes.
    """

    version: ImageVersion
    header_bytes: int
    security_counter: int | None
    bundle: bytes
    digest: bytes
    key_hash: bytes
    signature: bytes

    def is_signed_by(self, key: PublicKey) -> bool:
        """Whether this key signed it: docs/design.md, "Integrity Check" and "Security"."""
        return self.key_hash == hash_key(key) and key.holds(self.signature, self.digest)


def hash_key(key: PublicKey) -> bytes:
    """What MCUboot finds a key by: SHA-256 of its SubjectPublicKeyInfo in DER, 32 bytes."""
    return hashlib.sha256(_KEY_INFO + key.raw).digest()


def wrap_image(
    bundle_bytes: bytes,
    *,
    version: ImageVersion,
    security_counter: int,
    signer: Signer,
    header_bytes: int = ALIGNMENT_BYTES,
) -> bytes:
    """Wrap a bundle; the same bytes as ``imgtool sign --pad-header`` with the same key makes.

    MCUboot's docs/design.md: "Image Format" (header and TLVs; the counter's is protected: hashed as
    well), "Integrity Check" (what a boot loader looks for), "Downgrade prevention" (the counter).

    Args:
        bundle_bytes: a whole bundle or a thin copy; whoever wraps it has checked it before.
        version: of the image; MCUboot's own downgrade check by version goes by it.
        security_counter: 0 to 4,294,967,295; the bundle's own, unless who signs knows better.
        signer: the key that MCUboot was built with: one of its own, not the factory's. What is
            signed is the SHA-256 of the image, so the signer is given 32 bytes.
        header_bytes: up to where the bundle begins; 32 to 65,535. A multiple of 4096 keeps its
            parts aligned to pages in flash.

    Raises:
        BundleError: not a bundle, or one that was wrapped already.
        ImageError: a number beyond its limits.
        SigningError: the key cannot be reached, or refuses.
    """
    _check_limits(bundle_bytes, security_counter, header_bytes)
    protected = _pack_area(
        PROTECTED_TLV_INFO_MAGIC, {TLV_SECURITY_COUNTER: _COUNTER.pack(security_counter)}
    )
    numbers = (version.major, version.minor, version.revision, version.build)
    sizes = (header_bytes, len(protected), len(bundle_bytes))
    # No flags, not even "non-bootable": MCUboot neither checks nor swaps an image that carries that
    # (its boot_validate_slot), and then it would never reach its slot.
    header = _HEADER.pack(IMAGE_MAGIC, 0, *sizes, 0, *numbers, 0)
    hashed = header.ljust(header_bytes, _ERASED) + bundle_bytes + protected
    digest = hashlib.sha256(hashed).digest()
    return hashed + _pack_area(
        TLV_INFO_MAGIC,
        {
            TLV_SHA256: digest,
            TLV_KEY_HASH: hash_key(signer.public),
            TLV_ED25519: sign_checked(signer, digest),
        },
    )


def read_image(data: bytes, *, source: str = "image") -> McubootImage:
    """Unwrap an image: plain, signed by Ed25519, nothing before, between or behind its pieces.

    MCUboot's docs/design.md, "Image Format" and "Integrity Check". The bundle inside is not read.

    Args:
        data: the whole image, without the trailer of a slot.
        source: its name, for messages.

    Raises:
        ImageError: not an image, damaged, or one of a kind that no bundle is wrapped in (encrypted,
            compressed, another key's kind).
    """
    header = _read_header(data, source)
    bundle_end = header.bundle_at + header.bundle_bytes
    counter, hashed_end = _read_counter(data, bundle_end, header.protected_bytes, source)
    tlvs, image_end = _read_area(data, hashed_end, TLV_INFO_MAGIC, source)
    if image_end != len(data):
        raise ImageError(f"{source}: {len(data) - image_end} bytes behind the image: cut them off")
    _check_kinds(tlvs, (TLV_SHA256, TLV_KEY_HASH, TLV_ED25519), source)
    if hashlib.sha256(memoryview(data)[:hashed_end]).digest() != tlvs[TLV_SHA256]:
        raise ImageError(f"{source}: damaged: its SHA-256 differs: copy it again")
    return McubootImage(
        version=header.version,
        header_bytes=header.bundle_at,
        security_counter=counter,
        bundle=data[header.bundle_at : bundle_end],
        digest=tlvs[TLV_SHA256],
        key_hash=tlvs[TLV_KEY_HASH],
        signature=tlvs[TLV_ED25519],
    )


@dataclass(frozen=True, kw_only=True)
class _Header:
    bundle_at: int
    bundle_bytes: int
    protected_bytes: int
    version: ImageVersion


def _read_header(data: bytes, source: str) -> _Header:
    if len(data) < IMAGE_HEADER_BYTES or data[:4] != IMAGE_MAGIC.to_bytes(4, "little"):
        raise ImageError(f"{source}: not an MCUboot image: give what imgtool or lineside wrapped")
    _, load_address, header_bytes, protected_bytes, bundle_bytes, flags, *numbers, pad = (
        _HEADER.unpack_from(data)
    )
    if header_bytes < IMAGE_HEADER_BYTES or load_address or flags or pad:
        raise ImageError(
            f"{source}: header of {header_bytes} bytes, flags {flags:#x}, load address "
            f"{load_address:#x}: no plain image: wrap the bundle without encryption or compression"
        )
    major, minor, revision, build = numbers
    return _Header(
        bundle_at=header_bytes,
        bundle_bytes=bundle_bytes,
        protected_bytes=protected_bytes,
        version=ImageVersion(major=major, minor=minor, revision=revision, build=build),
    )


def _check_limits(bundle_bytes: bytes, security_counter: int, header_bytes: int) -> None:
    # A header alone tells a bundle from an image that was wrapped already.
    unpack_header(bundle_bytes[:HEADER_BYTES], source="bundle to wrap")
    if not 0 <= security_counter <= 0xFFFF_FFFF:
        raise ImageError(f"security counter {security_counter}: 0 to 4294967295")
    if not IMAGE_HEADER_BYTES <= header_bytes <= 0xFFFF:
        raise ImageError(f"image header of {header_bytes} bytes: {IMAGE_HEADER_BYTES} to 65535")
    if len(bundle_bytes) > 0xFFFF_FFFF:
        raise ImageError(f"bundle of {len(bundle_bytes)} bytes: an MCUboot image ends at 4 GiB")


def _pack_area(magic: int, tlvs: dict[int, bytes]) -> bytes:
    entries = b"".join(_TLV.pack(kind, len(value)) + value for kind, value in tlvs.items())
    return _TLV.pack(magic, _TLV.size + len(entries)) + entries


def _read_counter(data: bytes, at: int, size_bytes: int, source: str) -> tuple[int | None, int]:
    """The security counter, and where the hashed bytes end."""
    if size_bytes == 0:
        return None, at
    tlvs, end = _read_area(data, at, PROTECTED_TLV_INFO_MAGIC, source)
    _check_kinds(tlvs, (TLV_SECURITY_COUNTER,), source)
    if end - at != size_bytes:
        raise ImageError(
            f"{source}: protected TLVs of {end - at} bytes, its header says {size_bytes}: damaged"
        )
    (counter,) = _COUNTER.unpack(tlvs[TLV_SECURITY_COUNTER])
    return counter, end


def _read_area(data: bytes, at: int, magic: int, source: str) -> tuple[dict[int, bytes], int]:
    """TLVs by kind, and where their area ends."""
    if at + _TLV.size > len(data):
        raise ImageError(f"{source}: cut short: {len(data)} bytes, its TLVs begin at {at}")
    found, size_bytes = _TLV.unpack_from(data, at)
    end = at + size_bytes
    if found != magic or size_bytes < _TLV.size or end > len(data):
        raise ImageError(
            f"{source}: TLVs at {at}: magic {found:#06x} and {size_bytes} bytes, where "
            f"{magic:#06x} and at most {len(data) - at} are: damaged or cut short"
        )
    tlvs: dict[int, bytes] = {}
    for kind, value in _walk(data, at + _TLV.size, end, source):
        if kind in tlvs:
            raise ImageError(f"{source}: TLV {kind:#04x} stands there twice: wrap the bundle anew")
        tlvs[kind] = value
    return tlvs, end


def _walk(data: bytes, at: int, end: int, source: str) -> Iterator[tuple[int, bytes]]:
    while at < end:
        start = at + _TLV.size
        if start > end:
            raise ImageError(f"{source}: {end - at} bytes behind the last TLV: damaged")
        kind, size_bytes = _TLV.unpack_from(data, at)
        at = start + size_bytes
        if at > end:
            raise ImageError(f"{source}: TLV {kind:#04x} of {size_bytes} bytes: damaged")
        yield kind, data[start:at]


def _check_kinds(tlvs: dict[int, bytes], expected: tuple[int, ...], source: str) -> None:
    if set(tlvs) != set(expected):
        found, wanted = (
            ", ".join(f"{kind:#04x}" for kind in sorted(kinds)) or "none"
            for kinds in (tlvs, expected)
        )
        raise ImageError(
            f"{source}: TLVs {found}, where {wanted} belong: sign it with one Ed25519 key, and "
            "without dependencies or boot record"
        )
    for kind, value in tlvs.items():
        size_bytes = _SIZES_BYTES[kind]
        if len(value) != size_bytes:
            raise ImageError(
                f"{source}: TLV {kind:#04x} of {len(value)} bytes, not {size_bytes}: damaged"
            )
