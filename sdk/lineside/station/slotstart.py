"""Which bundle of a store a station starts with: the one on trial, the confirmed one, or that
before it. Whatever does not open is left for the next best, and the record says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lineside.errors import (
    BundleError,
    BundleFormatError,
    ConfigurationError,
    EngineError,
    LinesideError,
    OverrideError,
    RefusedError,
    StorageError,
)
from lineside.slots import FolderStorage, Record, SlotCard, SlotName, SlotState, Store
from lineside.station.loaded import Loaded
from lineside.station.trialfile import TrialFile

REFUSALS = (BundleError, EngineError, OverrideError, ConfigurationError)
"""Errors by which a bundle shows that it cannot judge here; others are the machine's own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Occupant:
    """A slot's bundle, opened and proved."""

    slot: SlotName
    card: SlotCard
    loaded: Loaded


class SlotOpener:
    """Opens what lies in the slots of a store as the station's file says.

    Args:
        store: over a folder.
        load: opens a file and proves it here.
        prove: proves a file in another process, which may crash or hang.
    """

    def __init__(
        self, store: Store, *, load: Callable[[Path], Loaded], prove: Callable[[Path], None]
    ) -> None:
        self.store = store
        self._load = load
        self._prove = prove

    @property
    def folder(self) -> Path:
        """The store's."""
        return self._path_of(SlotName.A).parent

    def open(self, slot: SlotName) -> Occupant:
        """Verified, proved, and what the record says.

        Raises:
            LinesideError: one of `REFUSALS`: it cannot judge here.
            RefusedError: no bundle lies there.
        """
        card = self.store.record.slots[slot].card
        if card is None:
            raise RefusedError(f"{self.folder}: slot {slot.value} holds no bundle")
        loaded = self._load(self._path_of(slot))
        found = loaded.product.card.bundle
        if found != card.hash:
            # Sealed by a trusted key, and perhaps one whose counter was passed long ago.
            loaded.close()
            raise BundleFormatError(
                f"{self._path_of(slot)}: bundle {found[:16]} lies there, installed was "
                f"{card.hash[:16]}: somebody exchanged the file; install the bundle again"
            )
        return Occupant(slot=slot, card=card, loaded=loaded)

    def prove(self, slot: SlotName) -> None:
        """Whether it can judge here, found out without risk for this process; errors as `open`."""
        self._prove(self._path_of(slot))
        self.open(slot).loaded.close()

    def _path_of(self, slot: SlotName) -> Path:
        storage = self.store.storage
        assert isinstance(storage, FolderStorage), "a station opens its bundles from files"
        return storage.path_of(slot)


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a station starts with.

    Attributes:
        now: judges.
        is_trial: it is on trial.
        words: what was taken back on the way, for people; ``""``: nothing was.
    """

    now: Occupant
    is_trial: bool = False
    words: str = ""


def start_store(
    opener: SlotOpener,
    *,
    restarts: int,
    guard: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> Start:
    """Count the start, then open what is to judge.

    The count is durable before anything of the model is touched: one that ends the program while it
    is opened is taken back after so many starts.

    Args:
        opener: of the store.
        restarts: so many starts without confirm a trial may have; one more takes it back.
        guard: entered while the bundle on trial is opened; may end the program when it hangs.

    Raises:
        RefusedError: the store is empty.
        LinesideError: nothing in it opens; the confirmed bundle's own error.
        StorageError: the store cannot be changed.
    """
    words = _count(opener, restarts)
    record = opener.store.record
    slot = record.find(SlotState.TRIAL)
    if slot is None:
        return _start_confirmed(opener, record, words)
    try:
        with guard():
            return Start(now=opener.open(slot), is_trial=True)
    except REFUSALS as error:
        # First that: where it does not open either, the machine is at fault and not the bundle.
        confirmed = _start_confirmed(opener, record, words)
        with contextlib.suppress(RefusedError):  # another process was quicker
            opener.store.revert(reason_of(error))
        told = _join(confirmed.words, f"slot {slot.value} is no longer on trial: {error}")
        return Start(now=confirmed.now, words=told)


def reason_of(error: LinesideError) -> str:
    """The store's word for why a bundle cannot judge here."""
    if isinstance(error, (OverrideError, ConfigurationError)):
        return "settings"
    return "self_test" if isinstance(error, EngineError) else "damaged"


def _count(opener: SlotOpener, restarts: int) -> str:
    store = opener.store
    record = store.record
    pending = record.find(SlotState.PENDING)
    if pending is not None:
        # On trial before it is opened: should opening it end the program, the next start counts.
        card = record.slots[pending].card
        assert card is not None
        # A disk that is full may be so for a while: it waits, and the confirmed one judges.
        with contextlib.suppress(StorageError):
            TrialFile(opener.folder).begin(card.hash)
            store.start_trial()
    elif record.find(SlotState.TRIAL) is not None and store.count_start() > restarts:
        left = store.record.find(SlotState.TRIAL)
        store.revert("restarts")
        return (
            f"slot {'' if left is None else left.value} is no longer on trial: more than "
            f"{restarts} starts without confirm"
        )
    return ""


def _start_confirmed(opener: SlotOpener, record: Record, words: str) -> Start:
    slot = record.find(SlotState.CONFIRMED)
    if slot is None:
        raise RefusedError(
            f"{opener.folder}: no bundle is installed there: lineside slots install BUNDLE.lsb "
            f"--store {opener.folder}"
        )
    try:
        return Start(now=opener.open(slot), words=words)
    except (BundleError, EngineError) as error:
        before = record.find(SlotState.REVERT)
        if before is None:
            raise
        try:
            now = _go_back(opener, before)
        except LinesideError as other:
            raise error from other
        told = f"slot {slot.value} does not open any more, back to slot {before.value}: {error}"
        return Start(now=now, words=_join(words, told))


def _go_back(opener: SlotOpener, before: SlotName) -> Occupant:
    """To the one before, once it is known that it opens: what is left behind is erased."""
    card = opener.store.record.slots[before].card
    assert card is not None
    opener.store.check_counter(card)
    now = opener.open(before)
    with _closing_on_fault(now.loaded):
        opener.store.revert("damaged")
    return now


@contextlib.contextmanager
def _closing_on_fault(loaded: Loaded) -> Iterator[None]:
    try:
        yield
    except BaseException:
        loaded.close()
        raise


def _join(*words: str) -> str:
    return "; ".join(filter(None, words))
