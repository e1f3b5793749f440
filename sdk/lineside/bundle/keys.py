"""Ed25519 keys: made and kept in files. The only room that knows cryptography.

A private key is PKCS#8 PEM, a public one SubjectPublicKeyInfo PEM with its name and id in comment
lines above (RFC 7468, sec. 2 and 5.2, lets readers skip them).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import exceptions as vendor
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from lineside.bundle.layout import KEY_ID_BYTES
from lineside.errors import KeyFileError, StorageError
from lineside.plainfile import read_whole

KEY_SUFFIX: Final = ".key"
TRUST_SUFFIX: Final = ".pub"
_MAX_KEY_FILE_BYTES: Final = 64 * 1024
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

# What loading may raise: TypeError for a missing or needless password, ValueError for all that
# cannot be decoded, the rest for algorithms that this build of OpenSSL lacks.
_LOAD_ERRORS: Final = (TypeError, ValueError, vendor.UnsupportedAlgorithm, vendor.InternalError)


@dataclass(frozen=True, kw_only=True)
class PublicKey:
    """A public key and where it came from.

    Attributes:
        raw: 32 bytes, RFC 8032.
        name: the file's stem, for people.
    """

    raw: bytes
    name: str = ""

    @property
    def key_id(self) -> bytes:
        """16 bytes: the first half of SHA-256 of the raw key."""
        return hashlib.sha256(self.raw).digest()[:KEY_ID_BYTES]

    def holds(self, signature: bytes, data: bytes) -> bool:
        """Whether the signature (64 bytes) is this key's over the data."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, data)
        except (vendor.InvalidSignature, ValueError):
            return False
        return True


class PrivateKey:
    """A key that seals; it never shows itself."""

    def __init__(self, seed: bytes, *, name: str = "") -> None:
        """Take the 32 bytes of RFC 8032's private key.

        Raises:
            KeyFileError: not 32 bytes.
        """
        try:
            self._key = Ed25519PrivateKey.from_private_bytes(seed)
        except (ValueError, TypeError) as error:
            raise KeyFileError(f"an Ed25519 private key has 32 bytes: {error}") from error
        self.public: Final = PublicKey(
            raw=self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw), name=name
        )

    def __repr__(self) -> str:
        return f"PrivateKey(id {self.public.key_id.hex()})"

    def sign(self, data: bytes) -> bytes:
        """64 bytes; the same data gives the same signature (RFC 8032, sec. 5.1.6)."""
        return self._key.sign(data)

    def _as_pem(self, password: str | None) -> bytes:
        encryption: KeySerializationEncryption = NoEncryption()
        try:
            if password is not None:
                encryption = BestAvailableEncryption(_encode(password))
            return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        except ValueError as error:
            raise KeyFileError(f"the password cannot be used: {error}") from error


def generate_key_pair(name: str = "") -> PrivateKey:
    """A new key from the system's random source."""
    return PrivateKey(os.urandom(32), name=name)


def write_key_pair(folder: str | Path, name: str, password: str | None = None) -> tuple[Path, Path]:
    """Make a key and write ``NAME.key`` (only its owner may read it) and ``NAME.pub``.

    Returns:
        The two paths.

    Raises:
        KeyFileError: one of the files is there already (nothing is ever overwritten), the name
            cannot be a file's, or the password is empty or longer than 1023 bytes.
        StorageError: the folder cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise KeyFileError(
            f"key name {name!r}: letters, digits, dot, dash and underscore, at most 64, and not a "
            "path: say where with --out"
        )
    private_path = Path(folder) / (name + KEY_SUFFIX)
    public_path = private_path.with_name(name + TRUST_SUFFIX)
    for path in (private_path, public_path):
        if path.exists():
            raise KeyFileError(
                f"{path}: is there already and is never overwritten: choose another name"
            )
    key = generate_key_pair(name)
    _write_new(private_path, key._as_pem(password), mode=0o600)
    try:
        _write_new(public_path, encode_public_key(key.public), mode=0o644)
    except (KeyFileError, StorageError):
        with contextlib.suppress(OSError):
            private_path.unlink()
        raise
    return private_path, public_path


def encode_public_key(key: PublicKey) -> bytes:
    """What a ``.pub`` file holds."""
    pem = Ed25519PublicKey.from_public_bytes(key.raw).public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    return f"# Lineside public key: {key.name}\n# key id: {key.key_id.hex()}\n".encode() + pem


def load_private_key(path: str | Path, password: str | None = None) -> PrivateKey:
    """Read a ``.key`` file.

    Raises:
        KeyFileError: missing, not an Ed25519 private key, or the password is wrong or missing.
    """
    path = Path(path)
    data = read_small(path)
    if b"PUBLIC KEY" in data:
        raise KeyFileError(
            f"{path}: is the public half, by which others check: a private key is needed to sign: "
            "give the .key file"
        )
    secret = None if password is None else _encode(password)
    try:
        key = load_pem_private_key(data, secret)
    except TypeError as error:
        why = (
            "is encrypted: give its password (--ask-password, --password-env)"
            if password is None
            else "has no password: give none"
        )
        raise KeyFileError(f"{path}: {why}") from error
    except _LOAD_ERRORS as error:
        what = "not a private key in PEM form" if secret is None else "wrong password, or damaged"
        raise KeyFileError(f"{path}: {what} ({error})") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(
            f"{path}: not an Ed25519 key ({type(key).__name__}): make one with `lineside keys new`"
        )
    seed = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    return PrivateKey(seed, name=path.stem)


def load_public_key(path: str | Path) -> PublicKey:
    """Read a ``.pub`` file.

    Raises:
        KeyFileError: missing, or not an Ed25519 public key.
    """
    path = Path(path)
    data = read_small(path)
    if b"PRIVATE KEY" in data:
        raise KeyFileError(
            f"{path}: holds a private key, which has no place in a device's trust: give the "
            f"{TRUST_SUFFIX} file"
        )
    try:
        key = load_pem_public_key(data)
    except _LOAD_ERRORS as error:
        raise KeyFileError(f"{path}: not a public key in PEM form ({error})") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{path}: not an Ed25519 key ({type(key).__name__})")
    return PublicKey(raw=key.public_bytes(Encoding.Raw, PublicFormat.Raw), name=path.stem)


def _encode(password: str) -> bytes:
    # An environment variable may hold bytes that are no UTF-8; Python hands them on as surrogates.
    return password.encode("utf-8", "surrogateescape")


def read_small(path: Path) -> bytes:
    """A key file's bytes.

    Raises:
        KeyFileError: missing, no regular file, or too large for one.
    """
    try:
        return read_whole(path, limit_bytes=_MAX_KEY_FILE_BYTES)
    except OSError as error:
        if error.errno == errno.EFBIG:
            told = f"not a key file: more than {_MAX_KEY_FILE_BYTES} bytes"
            raise KeyFileError(f"{path}: {told}") from error
        raise KeyFileError(f"{path}: {error.strerror}") from error


def _write_new(path: Path, data: bytes, *, mode: int) -> None:
    try:
        # O_EXCL with the mode at once: never somebody else's file, never readable for a moment.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise KeyFileError(f"{path}: is there already and is never overwritten") from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from error
