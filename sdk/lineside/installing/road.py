"""The road of a bundle into a slot: checked, copied, verified where it lies, proved, pending.

The record is changed last. Whatever fails before leaves the active bundle as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from lineside.bundle import Trust, load_trust
from lineside.errors import BundleError, LinesideError, RefusedError, StorageError
from lineside.installing.admission import Admission, slot_file
from lineside.installing.arrival import (
    CHUNK_BYTES,
    check_complete,
    check_unchanged,
    describe_stream,
    find_arrival,
    forget_arrival,
)
from lineside.installing.checking import CheckedFile
from lineside.installing.proof import Proof
from lineside.installing.room import check_room
from lineside.installing.terms import DEFAULT_TERMS, Installed, InstallTerms
from lineside.installing.turn import install_turn
from lineside.slots import Incoming, SlotName, Store

OnProgress = Callable[[int, int], None]


def install_file(
    store: Store,
    path: str | Path,
    *,
    trust: Trust,
    engine: str = "auto",
    terms: InstallTerms = DEFAULT_TERMS,
    on_progress: OnProgress = lambda _done_bytes, _size_bytes: None,
) -> Installed:
    """Bring a bundle's file into the free slot, to be tried next.

    One that was cut off goes on where it was.

    Args:
        store: over a folder.
        path: the bundle, ``.lsb``.
        trust: whose seal counts.
        engine: ``auto`` or one engine's name: what must pass the golden self-test here.
        terms: the rest.
        on_progress: told of bytes that are there, first of those that an earlier install copied,
            and of how many there will be.

    Raises:
        BundleError: refused; the kind says why: `TargetError`, `DowngradeError`, …
        EngineError: nothing of it runs here, or `SelfTestError`: nothing passes.
        RefusedError: one is pending or on trial, or it judges another product.
        StorageError: no room, or the disk failed; `StoreBusyError`: somebody else installs.
        ConfigurationError, KeyFileError: this machine's words or a trusted key cannot be read.
    """
    path = Path(path)
    admission = Admission(store, trusted=load_trust(trust), engine=engine, terms=terms)
    with install_turn(_folder(store)):
        with admission.open(path) as bundle:
            found = admission.find_installed(admission.admit(bundle))
        if found is not None:
            return found
        store.free()  # raises where there is none, before a long file is read
        _bring(store, path, on_progress)
        return _finish(store, admission)


def finish_install(
    store: Store, *, trust: Trust, engine: str = "auto", terms: InstallTerms = DEFAULT_TERMS
) -> Installed:
    """The same for bytes that came by another way: `Store.begin` and `Store.write` were called.

    A refusal forgets what came; that bytes are still lacking does not.

    Raises:
        RefusedError: nothing is being installed, or not all of it has come.
        StorageError: what came is not what was announced.
        LinesideError: all that `install_file` raises.
    """
    admission = Admission(store, trusted=load_trust(trust), engine=engine, terms=terms)
    with install_turn(_folder(store)):
        return _finish(store, admission)


def _bring(store: Store, path: Path, on_progress: OnProgress) -> None:
    try:
        # Open all the while: it may lie in the very slot that is erased for it.
        with path.open("rb") as file:
            incoming = describe_stream(file)
            check_room(store, incoming.size_bytes)
            _copy(store, file, incoming, on_progress)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}; copy it again") from error


def _copy(store: Store, file: BinaryIO, incoming: Incoming, on_progress: OnProgress) -> None:
    try:
        offset = store.begin(incoming)
        on_progress(offset, incoming.size_bytes)
        file.seek(offset)
        while chunk := file.read(CHUNK_BYTES):
            store.write(offset, chunk)
            offset += len(chunk)
            on_progress(offset, incoming.size_bytes)
    except (OSError, StorageError):
        # What lies there takes room, perhaps on a disk that has none.
        forget_arrival(store, incoming)
        raise


def _finish(store: Store, admission: Admission) -> Installed:
    slot, incoming = find_arrival(store)
    file = slot_file(store, slot)
    check_complete(file, incoming)
    try:
        check_unchanged(file, incoming)
        with admission.open(file) as bundle:
            # Also what was admitted before it was copied: by now its file may be another.
            offered = admission.admit(bundle)
            found = admission.find_installed(offered)
            if found is None:
                return _settle(store, incoming, offered, admission.prove(bundle))
    except LinesideError:
        forget_arrival(store, incoming)
        raise
    forget_arrival(store, incoming)
    return found


def _settle(store: Store, incoming: Incoming, offered: CheckedFile, proof: Proof) -> Installed:
    # Bytes may be begun without a turn, by whoever receives them.
    if find_arrival(store)[1] != incoming:
        raise RefusedError(
            f"{_folder(store)}: another bundle was begun while this one was proved: install it "
            "again"
        )
    slot = store.finish(offered.card)
    return Installed(
        slot=slot,
        state=store.record.slots[slot].state,
        card=offered.card,
        product=offered.product,
        version=offered.version,
        proof=proof,
    )


def _folder(store: Store) -> Path:
    return slot_file(store, SlotName.A).parent
