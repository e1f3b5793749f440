"""Who seals: a key file, or a plug-in that reaches a key which never leaves its token.

A plug-in is an entry point in the group `lineside.signers`, named for the scheme that it answers:
``--key pkcs11:token=factory`` asks the one that is called ``pkcs11``.
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import Final, Protocol

from lineside.bundle.keys import PublicKey, load_private_key
from lineside.bundle.layout import SIGNATURE_BYTES
from lineside.errors import LinesideError, SigningError

SIGNER_GROUP: Final = "lineside.signers"
# Two letters at least, as RFC 7512's "pkcs11:"; a file of such a name is written ./pkcs11:x.
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]+):")


class Signer(Protocol):
    """What seals a bundle: `PrivateKey`, or whatever stands for a key in a token or a service."""

    @property
    def public(self) -> PublicKey:
        """The public half, whose id goes into the header."""

    def sign(self, data: bytes) -> bytes:
        """Ed25519 (RFC 8032, sec. 5.1: no context, no prehash) over all of the data, 64 bytes.

        Raises:
            SigningError: the key cannot be reached, or refuses.
        """


class OpenSigner(Protocol):
    """What an entry point of the group names."""

    def __call__(self, locator: str, password: str | None) -> Signer:
        """Reach the key, but sign nothing yet.

        Args:
            locator: all that was given as ``--key``, scheme included.
            password: the token's PIN or the like, from the password options; ``None`` without.

        Raises:
            SigningError: there is no such key, or the password is wrong.
        """


def open_signer(key: str | Path, password: str | None = None) -> Signer:
    """Find who seals.

    Args:
        key: a ``.key`` file, or ``SCHEME:…`` for a plug-in.
        password: of the file, or the token's PIN.

    Raises:
        KeyFileError: the file is missing, no private key, or the password is wrong.
        SigningError: no plug-in for the scheme, or it cannot reach its key.
    """
    scheme = _SCHEME.match(key) if isinstance(key, str) else None
    if scheme is None:
        return load_private_key(key, password)
    found: OpenSigner = _load(scheme[1])
    try:
        signer = found(str(key), password)
        if isinstance(signer.public, PublicKey):
            return signer
    except LinesideError:
        raise
    except Exception as error:
        raise SigningError(f"{key}: {_told(error)}") from error
    raise SigningError(f"{key}: its plug-in hands out no lineside.bundle.PublicKey")


def sign_checked(signer: Signer, data: bytes) -> bytes:
    """Sign, and believe nothing: a token with another key gives a seal that nobody can open.

    Returns:
        64 bytes.

    Raises:
        SigningError: it cannot sign, or the signature is not its own.
    """
    try:
        signature = signer.sign(data)
    except LinesideError:
        raise
    except Exception as error:
        raise SigningError(f"key {signer.public.key_id.hex()}: {_told(error)}") from error
    given = f"{len(signature)} bytes" if isinstance(signature, bytes) else type(signature).__name__
    if given != f"{SIGNATURE_BYTES} bytes" or not signer.public.holds(signature, data):
        raise SigningError(
            f"key {signer.public.key_id.hex()} ({signer.public.name}): what came back is no "
            f"Ed25519 signature of this key ({given}): is the public key the one of the token, and "
            "its mechanism plain EdDSA?"
        )
    return signature


def _load(scheme: str) -> OpenSigner:
    points = metadata.entry_points(group=SIGNER_GROUP)
    for point in points:
        if point.name == scheme:
            try:
                found: OpenSigner = point.load()
            except (ImportError, AttributeError) as error:
                raise SigningError(f"{scheme}: its plug-in {point.value}: {error}") from error
            return found
    known = ", ".join(sorted({point.name for point in points})) or "none"
    raise SigningError(
        f"{scheme}: no plug-in for such keys is installed (there is {known}): install the one of "
        "your token, or give a .key file (one whose name has a colon as ./NAME)"
    )


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
