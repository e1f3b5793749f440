"""Whether a store takes a bundle in: nothing is written to find that out."""

from __future__ import annotations

from pathlib import Path

from lineside.bundle import Bundle, TrustedKeys, open_bundle
from lineside.errors import BundleError, EngineError, RefusedError
from lineside.installing.checking import CheckedFile, card_bundle, check_engines, describe_bundle
from lineside.installing.proof import Proof
from lineside.installing.proving import prove_apart
from lineside.installing.terms import Installed, InstallTerms
from lineside.slots import FolderStorage, SlotName, SlotState, Store

_COUNTS = (SlotState.PENDING, SlotState.TRIAL, SlotState.CONFIRMED)


def slot_file(store: Store, slot: SlotName) -> Path:
    """The file of a slot; the store must lie in a folder, because engines open files."""
    storage = store.storage
    assert isinstance(storage, FolderStorage), "a bundle is proved from its file"
    return storage.path_of(slot)


class Admission:
    """One store's questions to bundles."""

    def __init__(
        self, store: Store, *, trusted: TrustedKeys, engine: str, terms: InstallTerms
    ) -> None:
        self._store = store
        self._trusted = trusted
        self._engine = engine
        self._terms = terms

    def open(self, path: Path) -> Bundle:
        """Open what must be sealed by a trusted key.

        Raises:
            BundleError: it is refused.
        """
        return open_bundle(path, trust=self._trusted)

    def admit(self, bundle: Bundle) -> CheckedFile:
        """Target, engine, counter and product.

        Raises:
            TargetError, DowngradeError: for other hardware; below what was confirmed here.
            EngineError: nothing of it runs here.
            RefusedError: it judges another product.
            ConfigurationError: this machine's words cannot be read.
        """
        offered = describe_bundle(bundle, targets=self._terms.targets)
        check_engines(bundle, engine=self._engine, precision=self._terms.precision)
        self._store.check_counter(offered.card)
        if not self._terms.other_product:
            self._check_product(offered, source=str(bundle.path))
        return offered

    def find_installed(self, offered: CheckedFile) -> Installed | None:
        """The slot that has it already, whole and with the engine asked for.

        A thin copy may lack it, and a disk may have lost some of it.
        """
        for name, slot in self._store.record.slots.items():
            if slot.card is None or slot.card.hash != offered.card.hash:
                continue
            if slot.state in _COUNTS and self._is_usable(name):
                return Installed(
                    slot=name,
                    state=slot.state,
                    card=slot.card,
                    product=offered.product,
                    version=offered.version,
                    already=True,
                )
        return None

    def prove(self, bundle: Bundle) -> Proof:
        """The golden self-test, in a process of its own.

        Raises:
            EngineError, BundleError: see `prove_apart`.
        """
        return prove_apart(
            bundle,
            engine=self._engine,
            precision=self._terms.precision,
            settings=self._terms.settings,
            timeout_s=self._terms.timeout_s,
        )

    def _check_product(self, offered: CheckedFile, *, source: str) -> None:
        confirmed = self._store.record.find(SlotState.CONFIRMED)
        if confirmed is None:
            return
        try:
            with self.open(slot_file(self._store, confirmed)) as bundle:
                product = card_bundle(bundle).product
        except BundleError:
            # Damaged, or its key was revoked: a sound bundle is what this store needs most.
            return
        if product != offered.product:
            raise RefusedError(
                f"{source}: judges {offered.product!r}, and the confirmed bundle of this store "
                f"judges {product!r}: is it meant for another station? Where the product is to "
                "change, lineside slots install --other-product"
            )

    def _is_usable(self, slot: SlotName) -> bool:
        try:
            with self.open(slot_file(self._store, slot)) as bundle:
                check_engines(bundle, engine=self._engine, precision=self._terms.precision)
        except (BundleError, EngineError):
            return False
        return True
