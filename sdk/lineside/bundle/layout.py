"""Where each byte of a bundle lies. Pure; docs/bundle-format.md is its description.

```
  0   4  magic "LSB1"                     \\
  4   2  format, 1                         |
  6   2  header size, 128                  |  signed, with the manifest
  8  16  key id                            |
 24   4  manifest size                     |
 28   4  zero                             /
 32  64  Ed25519 signature over bytes 0..32 followed by the manifest
 96   8  which parts are present: bit i is the manifest's part i
104  20  zero
124   4  CRC-32 of bytes 0..124
128      manifest, then each present part at the next multiple of 4096
```

Little-endian. The present bits are not signed, so that a thin copy keeps the seal.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lineside.errors import BundleFormatError, IncompatibleBundleError

MAGIC: Final = b"LSB1"
FORMAT: Final = 1
HEADER_BYTES: Final = 128
SIGNED_HEADER_BYTES: Final = 32
KEY_ID_BYTES: Final = 16
SIGNATURE_BYTES: Final = 64
ALIGNMENT_BYTES: Final = 4096
# Decoded it may take over twenty times this (short keys, or one letter beyond the basic plane). A
# device is promised 16 MB for all of verifying: measured 84 MiB when this was 4 MiB, at most 12 MB
# now (tests/sdk/test_bundle_memory.py).
MAX_MANIFEST_BYTES: Final = 256 * 1024

_SIGNED: Final = struct.Struct(f"<4sHH{KEY_ID_BYTES}sII")
_HEADER: Final = struct.Struct(f"{_SIGNED.format}{SIGNATURE_BYTES}sQ20s")
_CRC: Final = struct.Struct("<I")
_CRC_OFFSET: Final = 124

assert _SIGNED.size == SIGNED_HEADER_BYTES
assert _HEADER.size == _CRC_OFFSET
assert _HEADER.size + _CRC.size == HEADER_BYTES


@dataclass(frozen=True, kw_only=True)
class Header:
    """The first 128 bytes.

    Attributes:
        key_id: 16 bytes; the first half of SHA-256 of the raw public key.
        manifest_bytes: size of the manifest.
        signature: 64 bytes.
        present_bits: bit i is set where the manifest's part i is in this file.
    """

    key_id: bytes
    manifest_bytes: int
    signature: bytes
    present_bits: int


@dataclass(frozen=True, kw_only=True)
class Span:
    """Bytes ``[start, stop)`` of the file."""

    start: int
    stop: int


def pack_signed_header(*, key_id: bytes, manifest_bytes: int) -> bytes:
    """The first 32 bytes, which are signed together with the manifest."""
    return _SIGNED.pack(MAGIC, FORMAT, HEADER_BYTES, key_id, manifest_bytes, 0)


def pack_header(header: Header) -> bytes:
    """All 128 bytes."""
    signed = pack_signed_header(key_id=header.key_id, manifest_bytes=header.manifest_bytes)
    body = _HEADER.pack(*_SIGNED.unpack(signed), header.signature, header.present_bits, bytes(20))
    return body + _CRC.pack(zlib.crc32(body))


def unpack_header(data: bytes, *, source: str) -> Header:
    """Read the header, the first of the checks; nothing of it can be believed yet but its form.

    Raises:
        BundleFormatError: not a bundle, cut short, or damaged.
        IncompatibleBundleError: a later format.
    """
    if data[:4] != MAGIC:
        raise BundleFormatError(f"{source}: not a bundle: it does not begin with {MAGIC.decode()}")
    if len(data) != HEADER_BYTES:
        raise BundleFormatError(
            f"{source}: cut short: {len(data)} bytes, a header alone has {HEADER_BYTES}"
        )
    if _CRC.unpack_from(data, _CRC_OFFSET)[0] != zlib.crc32(data[:_CRC_OFFSET]):
        raise BundleFormatError(f"{source}: header: damaged (CRC differs); copy the file again")
    _, form, size, key_id, manifest_bytes, zero, signature, present, zeros = _HEADER.unpack_from(
        data
    )
    if form != FORMAT:
        raise IncompatibleBundleError(
            f"{source}: header: format {form}; this runtime reads {FORMAT}: update the runtime",
            expected=str(form),
            actual=str(FORMAT),
        )
    if size != HEADER_BYTES or zero or any(zeros):
        raise BundleFormatError(
            f"{source}: header: size or reserved bytes are not as format 1 says"
        )
    if not 0 < manifest_bytes <= MAX_MANIFEST_BYTES:
        raise BundleFormatError(
            f"{source}: header: manifest of {manifest_bytes} bytes; 1 to {MAX_MANIFEST_BYTES}"
        )
    return Header(
        key_id=key_id, manifest_bytes=manifest_bytes, signature=signature, present_bits=present
    )


def align(offset: int) -> int:
    """The next multiple of 4096, or the offset itself where it is one."""
    return -(-offset // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def place_parts(
    manifest_bytes: int, sizes_bytes: Sequence[int], present_bits: int
) -> tuple[Span | None, ...]:
    """Where each part lies; `None` for those that this copy lacks.

    Args:
        manifest_bytes: size of the manifest.
        sizes_bytes: of every part of the manifest, in its order.
        present_bits: as in the header.
    """
    spans: list[Span | None] = []
    end = HEADER_BYTES + manifest_bytes
    for index, size_bytes in enumerate(sizes_bytes):
        if not present_bits >> index & 1:
            spans.append(None)
            continue
        start = align(end)
        end = start + size_bytes
        spans.append(Span(start=start, stop=end))
    return tuple(spans)
