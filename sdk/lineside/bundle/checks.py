"""The rules by which a bundle is believed, over bytes already in memory. No files, no clock.

The order is the point: form of the header, known key, signature, and only then the manifest,
the layout, and every part's hash. Nothing behind the header is parsed before the signature holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lineside.bundle.keys import PublicKey
from lineside.bundle.layout import (
    HEADER_BYTES,
    SIGNED_HEADER_BYTES,
    Header,
    Span,
    place_parts,
    unpack_header,
)
from lineside.bundle.manifest import Manifest, PartEntry, decode_manifest
from lineside.bundle.trust import TrustedKeys
from lineside.errors import (
    BundleFormatError,
    PartHashError,
    RevokedKeyError,
    SignatureError,
    UntrustedBundleError,
)

HASH_CHUNK_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class CheckedBundle:
    """What is known of a bundle once every check has held.

    Attributes:
        header: as read.
        manifest_bytes: the sealed bytes of the manifest, for copies.
        manifest: the same, decoded.
        signer: whose seal it is.
        hash: SHA-256 over the signed bytes, 64 hex digits.
        spans: where each present part lies, by name, in the file's order.
    """

    header: Header
    manifest_bytes: bytes
    manifest: Manifest
    signer: PublicKey
    hash: str
    spans: dict[str, Span]


def check_bundle(
    view: memoryview,
    *,
    trusted: TrustedKeys,
    source: str,
    done_with: Callable[[Span], None] = lambda _span: None,
) -> CheckedBundle:
    """Check a whole bundle.

    Args:
        view: the file's bytes, format ``B``.
        trusted: whose seal counts.
        source: the file's name, for messages.
        done_with: told of each stretch that has been hashed, so that its memory may be let go.

    Raises:
        BundleFormatError, IncompatibleBundleError: damaged, cut short, too long, or another format.
        UntrustedBundleError: the key is not trusted; `RevokedKeyError`: it was, and is no more.
        SignatureError: the seal does not hold.
        PartHashError: a part is not what was sealed.
    """
    header = unpack_header(bytes(view[:HEADER_BYTES]), source=source)
    end = HEADER_BYTES + header.manifest_bytes
    if end > len(view):
        raise BundleFormatError(
            f"{source}: cut short: {len(view)} bytes, the manifest alone ends at {end}"
        )
    signer = _find_signer(header, trusted, source)
    # One private copy: what is verified is what is parsed, whatever happens to the file.
    manifest_bytes = bytes(view[HEADER_BYTES:end])
    signed = bytes(view[:SIGNED_HEADER_BYTES]) + manifest_bytes
    if not signer.holds(header.signature, signed):
        raise SignatureError(
            f"{source}: the seal of key {signer.key_id.hex()} ({signer.name}) does not hold: "
            "header or manifest were changed after sealing. Copy the bundle again from where it "
            "was sealed; if that does not help, do not use it"
        )
    manifest = decode_manifest(manifest_bytes, source=source)
    spans = _check_layout(view, header, manifest, source)
    for entry in manifest.parts:
        if entry.name in spans:
            _check_part(view, spans[entry.name], entry, source, done_with)
    return CheckedBundle(
        header=header,
        manifest_bytes=manifest_bytes,
        manifest=manifest,
        signer=signer,
        hash=hashlib.sha256(signed).hexdigest(),
        spans=spans,
    )


def thin_bits(manifest: Manifest, engine: str) -> int:
    """The present bits of a copy for one engine: its parts, and those that every device needs."""
    return sum(
        1 << index for index, part in enumerate(manifest.parts) if part.engine in ("", engine)
    )


def _find_signer(header: Header, trusted: TrustedKeys, source: str) -> PublicKey:
    if header.key_id in trusted.revoked:
        raise RevokedKeyError(
            f"{source}: sealed by key {header.key_id.hex()}, which was revoked on this machine: "
            "whoever holds that key may not be the factory any more. Get the bundle anew, sealed "
            f"by a key that is trusted here: {trusted}",
            key_id=header.key_id.hex(),
        )
    signer = trusted.find(header.key_id)
    if signer is None:
        raise UntrustedBundleError(
            f"{source}: sealed by key {header.key_id.hex()}, which is not trusted here; trusted "
            f"are: {trusted}. If the bundle is meant for this machine, give its factory's .pub too",
            key_id=header.key_id.hex(),
        )
    return signer


def _check_layout(
    view: memoryview, header: Header, manifest: Manifest, source: str
) -> dict[str, Span]:
    _check_present(header.present_bits, manifest, source)
    sizes_bytes = [part.size_bytes for part in manifest.parts]
    placed = place_parts(header.manifest_bytes, sizes_bytes, header.present_bits)
    spans = {
        part.name: span
        for part, span in zip(manifest.parts, placed, strict=True)
        if span is not None
    }
    end = HEADER_BYTES + header.manifest_bytes
    # Length first: only then do the spans lie inside the file.
    expected = max([end, *(span.stop for span in spans.values())])
    if len(view) != expected:
        what = "cut short" if len(view) < expected else "longer than sealed"
        raise BundleFormatError(
            f"{source}: {what}: {len(view)} bytes, its table of parts makes {expected}; "
            "copy the file again"
        )
    for name, span in spans.items():
        if any(view[end : span.start]):
            raise BundleFormatError(
                f"{source}: the bytes before part {name!r} are not zero: damaged; copy it again"
            )
        end = span.stop
    return spans


def _check_present(present_bits: int, manifest: Manifest, source: str) -> None:
    """These bits are not signed, so only whole engines may be left out, never a common part."""
    engines = {part.engine for part in manifest.parts if part.engine}
    kept = {
        part.engine
        for index, part in enumerate(manifest.parts)
        if part.engine and present_bits >> index & 1
    }
    expected = thin_bits(manifest, "")
    for engine in kept:
        expected |= thin_bits(manifest, engine)
    if present_bits != expected or (engines and not kept):
        raise BundleFormatError(
            f"{source}: header: present parts {present_bits:#x}: a copy may leave out the parts of "
            "an engine as a whole, and must keep one engine and every common part"
        )


def _check_part(
    view: memoryview,
    span: Span,
    entry: PartEntry,
    source: str,
    done_with: Callable[[Span], None],
) -> None:
    digest = hashlib.sha256()
    for start in range(span.start, span.stop, HASH_CHUNK_BYTES):
        stop = min(start + HASH_CHUNK_BYTES, span.stop)
        digest.update(view[start:stop])
        done_with(Span(start=start, stop=stop))
    actual = digest.hexdigest()
    if actual != entry.sha256:
        raise PartHashError(
            f"{source}: part {entry.name!r} is not the sealed one: SHA-256 {actual}, "
            f"sealed {entry.sha256}; copy the file again",
            part=entry.name,
            expected=entry.sha256,
            actual=actual,
        )
