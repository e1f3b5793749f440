"""The published groups' requests, their bodies made by the `smp` library, and what is answered.

Answers are read by ourselves: the library's messages refuse keys that they do not know, and other
people's servers may add some.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec
from smp import header, image_management, os_management

from lineside_bridge import custom
from lineside_bridge.custom import Count
from lineside_bridge.message import Request

OS_GROUP: Final = int(header.GroupId.OS_MANAGEMENT)
IMAGE_GROUP: Final = int(header.GroupId.IMAGE_MANAGEMENT)


class OsCommand(IntEnum):
    """Of group 0, those that are used here."""

    ECHO = header.CommandId.OSManagement.ECHO
    RESET = header.CommandId.OSManagement.RESET
    PARAMETERS = header.CommandId.OSManagement.MCUMGR_PARAMETERS
    INFO = header.CommandId.OSManagement.OS_APPLICATION_INFO
    BOOTLOADER = header.CommandId.OSManagement.BOOTLOADER_INFO


class ImageCommand(IntEnum):
    """Of group 1; the library does not know slot info."""

    STATE = header.CommandId.ImageManagement.STATE
    UPLOAD = header.CommandId.ImageManagement.UPLOAD
    ERASE = header.CommandId.ImageManagement.ERASE
    SLOT_INFO = 6


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to parameters: of one message with its header, and how many at a time."""

    buf_size: Count
    buf_count: Count


class ImageState(msgspec.Struct, frozen=True, kw_only=True):
    """One slot in the answer to image state; what is absent is false."""

    slot: int
    version: str = ""
    image: int = 0
    hash: bytes = b""
    bootable: bool = False
    pending: bool = False
    confirmed: bool = False
    active: bool = False
    permanent: bool = False


class ImageStates(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to image state, read or written."""

    images: tuple[ImageState, ...] = ()

    @property
    def active(self) -> ImageState | None:
        """What runs."""
        return next((state for state in self.images if state.active), None)

    def find(self, hashes: tuple[bytes, ...]) -> ImageState | None:
        """The slot that holds one of these."""
        return next((state for state in self.images if state.hash in hashes), None)


class Uploaded(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to image upload.

    Attributes:
        off: where to go on.
        match: of the last: whether the SHA-256 is the one that was announced; ``None``: not said.
    """

    off: Count
    match: bool | None = None


def echo(text: str) -> Request:
    """The same text back, as ``r``."""
    return Request.of(os_management.EchoWriteRequest(d=text))


def read_parameters() -> Request:
    """`Parameters`; old servers and MCUboot's serial recovery may not know it."""
    return Request.of(os_management.MCUMgrParametersReadRequest())


def read_info() -> Request:
    """Words about the system, as ``output``: its hardware platform."""
    return Request.of(os_management.OSApplicationInfoReadRequest(format="i"))


def read_bootloader() -> Request:
    """The bootloader's name, as ``bootloader``."""
    return Request.of(os_management.BootloaderInformationReadRequest())


def reset() -> Request:
    """Start again. Not to be repeated: the second might reach a device that has just started."""
    return Request.of(os_management.ResetWriteRequest())


def read_states() -> Request:
    """`ImageStates`."""
    return Request.of(image_management.ImageStatesReadRequest())


def test_image(image_hash: bytes) -> Request:
    """To be tried at the next start. Answer: `ImageStates`."""
    return Request.of(image_management.ImageStatesWriteRequest(hash=image_hash, confirm=False))


def confirm_image(image_hash: bytes) -> Request:
    """To be kept. Answer: `ImageStates`."""
    return Request.of(image_management.ImageStatesWriteRequest(hash=image_hash, confirm=True))


def erase_slot(slot: int) -> Request:
    """Forget what lies there, a begun upload too."""
    return Request.of(image_management.ImageEraseRequest(slot=slot))


def begin_upload(data: bytes, *, size_bytes: int, sha256: bytes) -> Request:
    """The first bytes of an image, or the question how far one has come. Answer: `Uploaded`."""
    return Request.of(
        image_management.ImageUploadWriteRequest(
            off=0, data=data, image=0, len=size_bytes, sha=sha256
        )
    )


def go_on_uploading(off: int, data: bytes) -> Request:
    """Further bytes. Answer: `Uploaded`."""
    return Request.of(image_management.ImageUploadWriteRequest(off=off, data=data))


def name_request(request: Request) -> str:
    """For messages: ``image upload``."""
    names: dict[int, tuple[str, type[IntEnum]]] = {
        OS_GROUP: ("os", OsCommand),
        IMAGE_GROUP: ("image", ImageCommand),
        custom.GROUP: ("lineside", custom.Command),
    }
    try:
        group, commands = names[request.group]
        return f"{group} {commands(request.command).name.lower().replace('_', ' ')}"
    except (KeyError, ValueError):
        return f"group {request.group} command {request.command}"
