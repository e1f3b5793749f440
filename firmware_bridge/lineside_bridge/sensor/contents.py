"""What a slot's bytes are: a bundle whose checks hold, bare or inside an MCUboot image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lineside.bundle import Bundle, TrustedKeys
from lineside.bundle.checks import CheckedBundle, check_bundle
from lineside.errors import BundleFormatError, EngineError
from lineside.installing import check_target
from lineside.slots import SlotCard
from lineside_bridge.errors import ImageError
from lineside_bridge.mcuboot import IMAGE_MAGIC, read_image

_IMAGE_MAGIC: Final = IMAGE_MAGIC.to_bytes(4, "little")


@dataclass(frozen=True, kw_only=True, eq=False)
class Contents:
    """Bytes that were checked, held in memory: what is verified is what is used.

    Attributes:
        data: the bundle.
        checked: what the checks found.
        wrapped_hash: of the MCUboot image that it came in, 32 bytes; none where it came bare.
    """

    data: bytes
    checked: CheckedBundle
    wrapped_hash: bytes = b""

    @property
    def card(self) -> SlotCard:
        """What a record knows of it."""
        return SlotCard(
            hash=self.checked.hash,
            size_bytes=len(self.data),
            key_id=self.checked.signer.key_id,
            security_counter=self.checked.manifest.identity.security_counter,
        )

    @property
    def names(self) -> tuple[bytes, ...]:
        """By which a client may mean it: the bundle's hash, its file's SHA-256, its image's."""
        wrapped = (self.wrapped_hash,) if self.wrapped_hash else ()
        return (bytes.fromhex(self.checked.hash), self.sha256, *wrapped)

    @property
    def sha256(self) -> bytes:
        """Of the bundle's bytes."""
        return hashlib.sha256(self.data).digest()

    def open(self, name: str) -> Bundle:
        """As engines want it; ``name`` stands for the file in messages."""
        return Bundle(Path(name), self.checked, memoryview(self.data))


def check_contents(
    data: bytes, *, trusted: TrustedKeys, targets: tuple[str, ...], source: str
) -> Contents:
    """Signature, hashes, runtime, target; of an MCUboot image, what is wrapped in it.

    An image's own signature is for its boot loader. The bundle's counts here.

    Raises:
        BundleError: refused; the kind says why.
    """
    wrapped_hash = b""
    if data[: len(_IMAGE_MAGIC)] == _IMAGE_MAGIC:
        try:
            image = read_image(data, source=source)
        except ImageError as error:
            raise BundleFormatError(str(error)) from error
        data, wrapped_hash = image.bundle, image.digest
    checked = check_bundle(memoryview(data), trusted=trusted, source=source)
    check_target(checked.manifest.identity.target, targets, source=source)
    return Contents(data=data, checked=checked, wrapped_hash=wrapped_hash)


def check_engine(contents: Contents, engine: str, *, source: str) -> None:
    """That a copy holds what this sensor's engine opens.

    Raises:
        EngineError: a thin copy for another engine.
    """
    models = contents.checked.manifest.models
    if any(
        model.engine == engine and all(part in contents.checked.spans for part in model.parts)
        for model in models
    ):
        return
    offered = ", ".join(sorted({model.engine for model in models}))
    raise EngineError(
        f"{source}: holds no form for {engine}; it was sealed for {offered}: send the copy for "
        f"{engine}"
    )
