"""Simulated flash over several runs of its simulator: its contents in a file."""

from __future__ import annotations

from pathlib import Path

import msgspec

from lineside.durable import write_durably
from lineside.errors import ConfigurationError, StorageError
from lineside.plainfile import read_whole
from lineside.slots import Area, SimulatedFlash

_BLANK = b"\xff"
_LIMIT_BYTES = 1 << 31


class _Image(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What lies in the file: each page without the blank bytes at its end."""

    format: int = 1
    page_bytes: int
    slot_bytes: int
    pages: dict[str, list[bytes]]
    wear: dict[str, list[int]]


def save_flash(path: Path, flash: SimulatedFlash) -> None:
    """Keep it; written aside, so that the file is always whole.

    Raises:
        StorageError: the disk does not take it.
    """
    size = flash.page_bytes
    image = _Image(
        page_bytes=size,
        slot_bytes=flash.capacity_bytes(Area.SLOT_A),
        pages={
            area.value: [
                flash.read(area, start, size).rstrip(_BLANK)
                for start in range(0, flash.capacity_bytes(area), size)
            ]
            for area in Area
        },
        wear={area.value: pages for area, pages in flash.wear.items()},
    )
    write_durably(path, [msgspec.msgpack.encode(image)])


def load_flash(path: Path, *, slot_bytes: int) -> SimulatedFlash:
    """What was kept, or new flash where no file is.

    Raises:
        ConfigurationError: no such file, or of other flash.
        StorageError: it cannot be read.
    """
    try:
        image = msgspec.msgpack.decode(read_whole(path, limit_bytes=_LIMIT_BYTES), type=_Image)
    except FileNotFoundError:
        return SimulatedFlash(slot_bytes=slot_bytes)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise ConfigurationError(
            f"{path}: holds no simulated flash ({error}): name another file, or delete it",
            file=path,
        ) from error
    if image.slot_bytes != slot_bytes:
        raise ConfigurationError(
            f"{path}: has slots of {image.slot_bytes:,} bytes and {slot_bytes:,} were asked for: "
            "give the same --slot-mib as before, or another file",
            file=path,
        )
    flash = SimulatedFlash(page_bytes=image.page_bytes, slot_bytes=slot_bytes)
    for area in Area:
        for number, page in enumerate(image.pages[area.value]):
            if page:
                flash.write(area, number * image.page_bytes, page)
        flash.wear[area] = list(image.wear[area.value])
    return flash
