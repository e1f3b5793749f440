"""What is sent: a bundle's copy for one engine, and under which names a sensor may know it."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lineside.bundle import Bundle, Signer, TrustedKeys, make_thin_copy
from lineside.bundle.checks import check_bundle
from lineside.bundle.manifest import Manifest
from lineside.errors import BundleError, ConfigurationError
from lineside.plainfile import read_whole
from lineside_bridge.mcuboot import IMAGE_MAGIC, ImageVersion, read_image, wrap_image

AUTO: Final = "auto"

_LIMIT_BYTES: Final = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Wrapping:
    """How to make an MCUboot image of it.

    Attributes:
        signer: of the key that the sensor's MCUboot was built with.
        version: of the image; empty: the bundle's own.
    """

    signer: Signer
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class Sendable:
    """A file that was checked, read once: what goes out is what was looked at.

    Attributes:
        data: all of it.
        is_image: it is an MCUboot image that the bundle came in.
    """

    bundle: Bundle
    data: bytes
    is_image: bool


@dataclass(frozen=True, kw_only=True)
class Payload:
    """Bytes that were checked, and whose they are.

    Attributes:
        data: all that is sent.
        hash: the bundle's, 32 bytes, the same for every copy.
        wrapped_hash: of the MCUboot image around it, 32 bytes; none where it goes bare.
        engine: whose parts it holds; ``""``: all that the bundle has.
        key_id: whose seal it is, 16 bytes.
    """

    name: str
    data: bytes
    hash: bytes
    wrapped_hash: bytes
    engine: str
    key_id: bytes
    manifest: Manifest

    @property
    def sha256(self) -> bytes:
        """Of all that is sent."""
        return hashlib.sha256(self.data).digest()

    @property
    def names(self) -> tuple[bytes, ...]:
        """Any of which a sensor may tell as the image's hash."""
        return tuple(filter(None, (self.hash, self.wrapped_hash, self.sha256)))


@contextlib.contextmanager
def open_sendable(path: str | Path, *, trusted: TrustedKeys) -> Iterator[Sendable]:
    """Open and check a bundle, or an MCUboot image with one inside.

    Raises:
        BundleError, ImageError: refused; the kind says why.
    """
    data = _read(Path(path))
    is_image = data.startswith(IMAGE_MAGIC.to_bytes(4, "little"))
    view = memoryview(read_image(data, source=str(path)).bundle if is_image else data)
    checked = check_bundle(view, trusted=trusted, source=str(path))
    with Bundle(Path(path), checked, view) as bundle:
        yield Sendable(bundle=bundle, data=data, is_image=is_image)


def choose_engine(bundle: Bundle, asked: str, device: str) -> str:
    """Whose parts to send; ``""``: all.

    Args:
        asked: ``auto``, or an engine's name.
        device: what the sensor says; ``""``: nothing.

    Raises:
        BundleError: the bundle holds nothing for it.
    """
    present = _engines(bundle)
    engine = device if asked == AUTO else asked
    if not engine or not present:
        return ""
    if engine not in present:
        whose = "the sensor's engine" if asked == AUTO else "--engine"
        raise BundleError(
            f"{bundle.path}: holds parts for {', '.join(sorted(present))}, and {whose} is "
            f"{engine}: export it for that one too, or take the bundle that a thin copy was made of"
        )
    return engine


def pack_payload(sendable: Sendable, engine: str, wrapping: Wrapping | None = None) -> Payload:
    """The bundle's copy for one engine; an image that was wrapped before goes as it is.

    Raises:
        ConfigurationError: it is wrapped already.
        ImageError: the bundle's version is none that MCUboot knows.
        SigningError: the key cannot be reached.
        StorageError: no room for the copy in the folder of temporary files.
    """
    bundle = sendable.bundle
    if sendable.is_image and wrapping is not None:
        raise ConfigurationError(
            f"{bundle.path}: is an MCUboot image already: send it without --mcuboot",
            path="mcuboot",
        )
    data, wrapped_hash = sendable.data, b""
    if not sendable.is_image and engine and _engines(bundle) != {engine}:
        data = _thin(bundle, engine)
    if wrapping is not None:
        data = _wrap(data, bundle.manifest, wrapping)
    if sendable.is_image or wrapping is not None:
        wrapped_hash = read_image(data, source=str(bundle.path)).digest
    return Payload(
        name=str(bundle.path),
        data=data,
        hash=bytes.fromhex(bundle.hash),
        wrapped_hash=wrapped_hash,
        engine=engine,
        key_id=bundle.signer.key_id,
        manifest=bundle.manifest,
    )


def _read(path: Path) -> bytes:
    try:
        return read_whole(path, limit_bytes=_LIMIT_BYTES)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error


def _wrap(data: bytes, manifest: Manifest, wrapping: Wrapping) -> bytes:
    identity = manifest.identity
    return wrap_image(
        data,
        version=ImageVersion.parse(wrapping.version or identity.version),
        security_counter=identity.security_counter,
        signer=wrapping.signer,
    )


def _engines(bundle: Bundle) -> set[str]:
    """Of which parts are in this copy."""
    parts = bundle.manifest.parts
    return {part.engine for part in parts if part.engine and part.name in bundle.checked.spans}


def _thin(bundle: Bundle, engine: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="lineside-") as folder:
        return make_thin_copy(bundle, Path(folder) / "thin.lsb", engine=engine).read_bytes()
