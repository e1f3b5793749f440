"""What has come into the free slot so far, and whether it is the file that was announced."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import BinaryIO, Final

from lineside.errors import BundleError, RefusedError, StorageError
from lineside.installing.admission import slot_file
from lineside.slots import Incoming, SlotName, Store

CHUNK_BYTES: Final = 2**20


def describe_file(path: Path) -> Incoming:
    """What to announce.

    Raises:
        BundleError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return describe_stream(file)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error


def describe_stream(file: BinaryIO) -> Incoming:
    """The same of one that is open at its beginning; raises `OSError`."""
    digest, size_bytes = hashlib.sha256(), 0
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
        size_bytes += len(chunk)
    return Incoming(sha256=digest.digest(), size_bytes=size_bytes)


def find_arrival(store: Store) -> tuple[SlotName, Incoming]:
    """Which slot is being filled, and with what.

    Raises:
        RefusedError: none is.
    """
    for name, slot in store.record.slots.items():
        if slot.incoming is not None:
            return name, slot.incoming
    folder = slot_file(store, SlotName.A).parent
    raise RefusedError(f"{folder}: nothing is being installed there: send it first")


def check_complete(file: Path, incoming: Incoming) -> None:
    """Have all bytes come?

    Raises:
        RefusedError: some are lacking.
        StorageError: the disk cannot be asked.
    """
    try:
        found_bytes = file.stat().st_size
    except OSError as error:
        raise StorageError(f"{file}: cannot be looked at: {error.strerror}") from error
    if found_bytes < incoming.size_bytes:
        raise RefusedError(
            f"{file}: {found_bytes:,} of {incoming.size_bytes:,} bytes have come: send the rest"
        )


def check_unchanged(file: Path, incoming: Incoming) -> None:
    """Is it what was announced?

    Raises:
        StorageError: it is another file.
    """
    if describe_file(file) != incoming:
        raise StorageError(f"{file}: is not what was announced (SHA-256 differs): send it again")


def forget_arrival(store: Store, incoming: Incoming) -> None:
    """Give up what was coming in, unless something else is coming in by now."""
    # Why it is given up is worth more than that it could not be, which the next `begin` makes up.
    with contextlib.suppress(StorageError):
        if any(slot.incoming == incoming for slot in store.record.slots.values()):
            store.discard()
