"""A signed override: limits that the factory allows for one bundle, looser than the sealed ones.

```
  0   4  magic "LSO1"                     \\
  4   2  format, 1                         |
  6   2  header size, 96                   |  signed, with the terms
  8  16  key id                            |
 24   4  size of the terms                 |
 28   4  zero                             /
 32  64  Ed25519 signature over bytes 0..32 followed by the terms
 96      terms, canonical JSON; the file ends with them
```

Little-endian. The magic stands in what is signed, so no signature of a bundle passes for one of an
override, nor the other way round. docs/bundle-format.md describes it for other implementations.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from lineside.bundle.canonical import decode_whole
from lineside.bundle.evidence import Date, Sha256Hex
from lineside.bundle.keys import PublicKey
from lineside.bundle.layout import KEY_ID_BYTES, SIGNATURE_BYTES, SIGNED_HEADER_BYTES
from lineside.bundle.manifest import Text
from lineside.bundle.reader import Bundle
from lineside.bundle.signer import Signer, sign_checked
from lineside.bundle.trust import TrustedKeys
from lineside.contract import LimitRule
from lineside.durable import write_durably
from lineside.errors import ConfigurationError, OverrideError
from lineside.plainfile import read_whole

MAGIC: Final = b"LSO1"
HEADER_BYTES: Final = 96
# Two texts of 200 letters at six bytes each, and room for a unit.
MAX_OVERRIDE_BYTES: Final = 4096
_FORMAT: Final = 1

_SIGNED: Final = struct.Struct(f"<4sHH{KEY_ID_BYTES}sII")
assert _SIGNED.size == SIGNED_HEADER_BYTES
assert _SIGNED.size + SIGNATURE_BYTES == HEADER_BYTES


class OverrideTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is signed.

    Attributes:
        bundle: the hash of the one bundle that it is for, 64 hex digits.
        rule: takes the place of the sealed one; same unit, same worse end.
        reason: why, for people.
        by: who decided it, for people.
        date: of the decision, as who signed gave it; no clock is read.
    """

    format: Literal[1] = 1
    bundle: Sha256Hex
    rule: LimitRule
    reason: Text
    by: Text
    date: Date

    def __post_init__(self) -> None:
        for field in ("reason", "by"):
            # They go into one line of a log.
            if not getattr(self, field).isprintable():
                raise ValueError(f"{field}: holds letters that cannot be printed")


@dataclass(frozen=True, kw_only=True)
class Override:
    """An override whose every check has held.

    Attributes:
        terms: what it says.
        signer: whose signature it is.
    """

    terms: OverrideTerms
    signer: PublicKey


def seal_override(
    path: str | Path,
    *,
    bundle: Bundle,
    rule: LimitRule,
    reason: str,
    by: str,
    date: str,
    key: Signer,
) -> None:
    """Write a signed override: aside, flushed, renamed. The same input gives the same bytes.

    Args:
        path: where to; an old file there is replaced whole.
        bundle: opened and checked; the override is for it alone, and for its thin copies.
        rule: what a device may judge by instead of the sealed rule.
        reason: 1 to 200 printable letters.
        by: who decided it, 1 to 200 printable letters.
        date: ``YYYY-MM-DD``.
        key: whose signature.

    Raises:
        ConfigurationError: a text or a limit that cannot be signed.
        SigningError: the key cannot sign.
        StorageError: the disk is full, read-only or not ours.
    """
    terms = _encode_terms(
        {"bundle": bundle.hash, "rule": rule, "reason": reason, "by": by, "date": date}
    )
    if HEADER_BYTES + len(terms) > MAX_OVERRIDE_BYTES:
        raise ConfigurationError(f"{path}: more than {MAX_OVERRIDE_BYTES} bytes: say it shorter")
    key_id = key.public.key_id
    header = _SIGNED.pack(MAGIC, _FORMAT, HEADER_BYTES, key_id, len(terms), 0)
    write_durably(Path(path), [header, sign_checked(key, header + terms), terms])


def read_override(path: str | Path, *, bundle: Bundle, trusted: TrustedKeys) -> Override:
    """Read and check an override for a bundle.

    Raises:
        OverrideError: missing, damaged, for another bundle, or the key does not count here.
    """
    path = Path(path)
    try:
        data = read_whole(path, limit_bytes=MAX_OVERRIDE_BYTES)
    except OSError as error:
        raise OverrideError(f"{path}: {error.strerror}", file=path) from error
    try:
        return check_override(data, bundle_hash=bundle.hash, trusted=trusted)
    except ValueError as error:
        raise OverrideError(f"{path}: override of limits: {error}", file=path) from error


def check_override(data: bytes, *, bundle_hash: str, trusted: TrustedKeys) -> Override:
    """The rules by which an override is believed, over its bytes. No files, no clock.

    In the order of a bundle's checks: nothing behind the header is parsed before the signature
    holds.

    Args:
        data: the whole file.
        bundle_hash: of the bundle that is to be judged by, 64 hex digits.
        trusted: whose signature counts.

    Raises:
        ValueError: refused, with the reason.
    """
    key_id, signature, signed = _split(data)
    signer = _find_signer(key_id, trusted)
    if not signer.holds(signature, signed):
        raise ValueError(
            f"the signature of key {key_id.hex()} ({signer.name}) does not hold: it was changed or "
            "damaged; copy it again from where it was signed"
        )
    terms = decode_whole(signed[SIGNED_HEADER_BYTES:], OverrideTerms)
    if terms.bundle != bundle_hash:
        raise ValueError(
            f"it is for the bundle with the hash {terms.bundle}, this one's is {bundle_hash}: have "
            "one signed for this bundle (lineside bundle override)"
        )
    return Override(terms=terms, signer=signer)


def _split(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Key id, signature, and the bytes that are signed; no more is known of them than their form.

    Raises:
        ValueError: no override, a later format, cut short, or longer than it says.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise ValueError(f"is none: it does not begin with {MAGIC.decode()}")
    if len(data) < HEADER_BYTES:
        raise ValueError(f"cut short: {len(data)} bytes, a header alone has {HEADER_BYTES}")
    _, form, size, key_id, terms_bytes, zero = _SIGNED.unpack_from(data)
    if form != _FORMAT:
        raise ValueError(f"format {form}; this runtime reads {_FORMAT}: update the runtime")
    if size != HEADER_BYTES or zero:
        raise ValueError("header size or reserved bytes are not as format 1 says")
    expected = HEADER_BYTES + terms_bytes
    if len(data) != expected:
        raise ValueError(f"{len(data)} bytes, its header makes {expected}: copy it again")
    signature = data[SIGNED_HEADER_BYTES:HEADER_BYTES]
    return key_id, signature, data[:SIGNED_HEADER_BYTES] + data[HEADER_BYTES:]


def _find_signer(key_id: bytes, trusted: TrustedKeys) -> PublicKey:
    if key_id in trusted.revoked:
        raise ValueError(
            f"signed by key {key_id.hex()}, which was revoked on this machine; have it signed anew "
            f"by a key that is trusted here: {trusted}"
        )
    signer = trusted.find(key_id)
    if signer is None:
        raise ValueError(
            f"signed by key {key_id.hex()}, which is not trusted here; trusted are: {trusted}"
        )
    return signer


def _encode_terms(fields: dict[str, object]) -> bytes:
    """Canonical JSON, as the manifest's: keys sorted, no white space, every field written."""
    try:
        # Through decoding once, because a struct built in Python is not checked by msgspec.
        encoded = msgspec.json.encode({"format": _FORMAT, **fields}, order="sorted")
        return msgspec.json.encode(decode_whole(encoded, OverrideTerms), order="sorted")
    except ValueError as error:
        raise ConfigurationError(f"override: {error}") from error
