"""Back to the bundle before: it is known to judge here before the confirmed one is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lineside.bundle import Trust, load_trust
from lineside.errors import BundleFormatError, RefusedError
from lineside.installing.admission import Admission, slot_file
from lineside.installing.terms import DEFAULT_TERMS, InstallTerms
from lineside.slots import SlotState, Store


def go_back(
    store: Store,
    reason: str,
    *,
    trust: Callable[[], Trust],
    engine: str = "auto",
    terms: InstallTerms = DEFAULT_TERMS,
) -> None:
    """Leave the bundle on trial, cancel the pending one, or take back that confirmed before.

    The last is opened and proved first, as a station does: what is left cannot be had back.

    Args:
        store: over a folder.
        reason: a word, at most 24 ASCII letters.
        trust: whose seal counts; asked only where a bundle is taken back.
        engine: ``auto`` or one engine's name: what must pass the golden self-test here.
        terms: the rest.

    Raises:
        RefusedError: there is nothing to go back to, or another process changed the store.
        BundleError: that before is refused; `DowngradeError`: below what was confirmed since.
        EngineError: a provider does not come up, or `SelfTestError`: nothing of it passes here.
        ConfigurationError, KeyFileError: no key is trusted here, or one cannot be read.
        StorageError: the store cannot be changed.
    """
    seen = store.record
    before = seen.find(SlotState.REVERT)
    if before is not None:
        card = seen.slots[before].card
        assert card is not None
        store.check_counter(card)
        admission = Admission(store, trusted=load_trust(trust()), engine=engine, terms=terms)
        _prove(admission, slot_file(store, before), card.hash)
    with store.storage.exclusive():
        if store.record != seen:
            raise RefusedError(
                f"{store.storage}: another process changed the store meanwhile: look at it "
                "(lineside slots list) and try again"
            )
        store.revert(reason)


def _prove(admission: Admission, file: Path, expected_hash: str) -> None:
    with admission.open(file) as bundle:
        if bundle.hash != expected_hash:
            raise BundleFormatError(
                f"{file}: bundle {bundle.hash[:16]} lies there, confirmed was "
                f"{expected_hash[:16]}: somebody exchanged the file; install the bundle again"
            )
        admission.prove(bundle)
