"""Seal a bundle, and copy one without the parts that a device does not need."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lineside.bundle.checks import thin_bits
from lineside.bundle.layout import (
    HEADER_BYTES,
    Header,
    align,
    pack_header,
    pack_signed_header,
)
from lineside.bundle.manifest import Manifest, PartEntry, encode_manifest
from lineside.bundle.reader import Bundle
from lineside.bundle.signer import Signer, sign_checked
from lineside.durable import write_durably
from lineside.errors import BundleError


@dataclass(frozen=True, kw_only=True)
class PartData:
    """A part to be sealed.

    Attributes:
        name: lower-case relative path, e.g. ``onnxruntime/model.onnx``.
        data: its bytes.
        engine: which engine alone needs it; ``""`` where every device does.
    """

    name: str
    data: bytes | memoryview
    engine: str = ""


def seal_bundle(
    path: str | Path, *, manifest: Manifest, parts: Sequence[PartData], key: Signer
) -> str:
    """Write a signed bundle: aside, flushed, renamed. The same input gives the same bytes.

    Args:
        path: where to; an old bundle there is replaced whole.
        manifest: what it says; its table of parts is made here from ``parts``.
        parts: in the order of the file.
        key: whose seal: a `PrivateKey`, or a token's `Signer`.

    Returns:
        The bundle's hash, 64 hex digits.

    Raises:
        BundleFormatError: the manifest breaks a rule of the format.
        SigningError: the key cannot sign.
        StorageError: the disk is full, read-only or not ours.
    """
    path = Path(path)
    table = tuple(_describe(part) for part in parts)
    sealed = msgspec.structs.replace(manifest, parts=table)
    manifest_bytes = encode_manifest(sealed, source=str(path))
    header, bundle_hash = _sign(manifest_bytes, (1 << len(parts)) - 1, key)
    write_durably(path, _lay_out(header, manifest_bytes, [part.data for part in parts]))
    return bundle_hash


def reseal_bundle(bundle: Bundle, path: str | Path, *, key: Signer) -> str:
    """Seal the same manifest and parts by another key; nothing is measured or encoded again.

    Args:
        bundle: opened and checked; a thin copy stays one.
        path: where to; an old file there is replaced whole.
        key: whose seal.

    Returns:
        The new bundle's hash, 64 hex digits: another one, because it covers the key's id.

    Raises:
        SigningError: the key cannot sign.
        StorageError: it cannot be written.
    """
    manifest_bytes = bundle.checked.manifest_bytes
    header, bundle_hash = _sign(manifest_bytes, bundle.checked.header.present_bits, key)
    parts = [bundle.part(name) for name in bundle.present]
    write_durably(Path(path), _lay_out(header, manifest_bytes, parts))
    return bundle_hash


def make_thin_copy(bundle: Bundle, path: str | Path, *, engine: str) -> Path:
    """Copy a bundle for one engine: same seal, same hash, without the other engines' parts.

    Raises:
        BundleError: the bundle holds nothing for that engine.
        StorageError: the copy cannot be written.
    """
    path = Path(path)
    present = [part for part in bundle.manifest.parts if part.name in bundle.checked.spans]
    if not any(part.engine == engine for part in present):
        held = ", ".join(sorted({part.engine for part in present if part.engine})) or "no engine"
        raise BundleError(f"{bundle.path}: holds no part for {engine!r}, but for {held}")
    header = Header(
        key_id=bundle.checked.header.key_id,
        manifest_bytes=bundle.checked.header.manifest_bytes,
        signature=bundle.checked.header.signature,
        present_bits=thin_bits(bundle.manifest, engine),
    )
    kept = [bundle.part(part.name) for part in present if part.engine in ("", engine)]
    write_durably(path, _lay_out(header, bundle.checked.manifest_bytes, kept))
    return path


def _sign(manifest_bytes: bytes, present_bits: int, key: Signer) -> tuple[Header, str]:
    """The header with its seal, and the bundle's hash."""
    key_id = key.public.key_id
    signed = pack_signed_header(key_id=key_id, manifest_bytes=len(manifest_bytes)) + manifest_bytes
    header = Header(
        key_id=key_id,
        manifest_bytes=len(manifest_bytes),
        signature=sign_checked(key, signed),
        present_bits=present_bits,
    )
    return header, hashlib.sha256(signed).hexdigest()


def _describe(part: PartData) -> PartEntry:
    return PartEntry(
        name=part.name,
        size_bytes=memoryview(part.data).nbytes,
        sha256=hashlib.sha256(part.data).hexdigest(),
        # Any word is let through to the manifest's check, whose message names the field.
        engine=part.engine,  # type: ignore[arg-type]
    )


def _lay_out(
    header: Header, manifest_bytes: bytes, parts: Sequence[bytes | memoryview]
) -> Iterator[bytes | memoryview]:
    yield pack_header(header)
    yield manifest_bytes
    end = HEADER_BYTES + len(manifest_bytes)
    for data in parts:
        start = align(end)
        yield bytes(start - end)
        yield data
        end = start + memoryview(data).nbytes
