"""The stores of a station: one thread looks at all of them, commands reach each by its product."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from lineside.errors import RefusedError
from lineside.slots import Store
from lineside.station.products import Products
from lineside.station.slotkeeper import SlotKeeper
from lineside.station.slotwords import SlotWords, Surroundings
from lineside.worker import Worker

_LOOK_S: Final = 1.0
_JOIN_S: Final = 10.0


class Slotting:
    """Thread-safe. A station without a store has one too, which refuses.

    Args:
        products: all that the station judges by.
        keepers: of each store.
        look_s: between two looks.
    """

    def __init__(
        self, products: Products, keepers: Sequence[SlotKeeper] = (), *, look_s: float = _LOOK_S
    ) -> None:
        self._products = products
        self._keepers = tuple(keepers)
        self._look_s = look_s
        self._waking = threading.Event()
        self._stopping = threading.Event()
        self._worker = Worker(self._watch, name="lineside-slots")
        self.last_words = ""
        for keeper in self._keepers:
            keeper.bind(products)

    @property
    def has_stores(self) -> bool:
        """Whether there is anything to confirm or to revert, ever."""
        return bool(self._keepers)

    def start(self, around: Surroundings) -> None:
        """The station runs; ``around.wake`` is ours to set."""
        if not self._keepers:
            return
        for keeper in self._keepers:
            keeper.start(
                dataclasses.replace(around, wake=self._waking.set, told=self._hear(around))
            )
        self._worker.start()

    def check(self) -> None:
        """Raise what ended the thread, if something did."""
        self._worker.check()

    def stop(self) -> None:
        """The station ends; trials go on at the next start."""
        self._stopping.set()
        self._waking.set()
        self._worker.join(_JOIN_S)
        for keeper in self._keepers:
            keeper.stop()

    def confirm(self, product: str = "", *, bundle: str = "") -> str:
        """The bundle on trial stays. Durable at return, and in force.

        Args:
            product: whose store; ``""``: of the product in use.
            bundle: how the hash of the one on trial must begin; ``""``: whichever it is.

        Returns:
            Which slot and bundle judge now, in words.

        Raises:
            RefusedError: no bundle of it is on trial, or another; or it lies in no store.
            StorageError: the store cannot be changed; the trial goes on.
        """
        return self._keeper(product).confirm(bundle)

    def revert(self, product: str = "", reason: str = "command", *, bundle: str = "") -> str:
        """Leave the bundle on trial, cancel one that waits, or go back to that before.

        Durable at return, and in force. Going back without a trial opens that bundle first, which
        takes seconds: not for a thread that must not wait.

        Args:
            product: whose store; ``""``: of the product in use.
            reason: a word, at most 24 ASCII letters; state and record have it.
            bundle: how the hash of the one that is left must begin; ``""``: whichever it is.

        Returns:
            As `confirm`.

        Raises:
            RefusedError, DowngradeError: there is nothing to go back to, another bundle would be
                left, or it lies in no store.
            LinesideError: what was before does not open; nothing was changed.
            StorageError: the store cannot be changed.
        """
        return self._keeper(product).revert(reason, bundle)

    def store_of(self, product: str = "") -> Store:
        """Where bundles of a product are installed.

        Raises:
            RefusedError: its bundle lies in no store.
        """
        return self._keeper(product).store

    def words_of(self, product: str) -> SlotWords:
        """For the state; from memory."""
        keeper = self._find(product)
        return SlotWords() if keeper is None else keeper.words

    @property
    def trouble(self) -> str:
        """What is not well with a store or a trial, in words; ``""`` when all is."""
        return "; ".join(keeper.trouble for keeper in self._keepers if keeper.trouble)

    @property
    def is_overdue(self) -> bool:
        """Whether a trial judges and goes on long beyond its end; the trouble says why."""
        return any(keeper.is_overdue for keeper in self._keepers)

    @property
    def figures(self) -> Mapping[str, int]:
        """For health: of the trial under way; none without."""
        for keeper in self._keepers:
            progress = keeper.progress
            if progress is not None:
                return {
                    "parts": progress.parts,
                    "compared": progress.compared,
                    "disagreements": progress.disagreements,
                    "late": progress.late,
                    "skipped": progress.skipped,
                    "minutes": int(progress.ran_s / 60),
                }
        return {}

    def tell(self, words: str) -> None:
        """What befell a bundle, for whoever watches the station; from any thread."""
        self.last_words = words

    def _watch(self) -> None:
        before_s = time.monotonic()
        while not self._stopping.is_set():
            self._waking.wait(self._look_s)
            self._waking.clear()
            now_s = time.monotonic()
            # Bounded: a process that was stopped has not run meanwhile.
            passed_s, before_s = min(now_s - before_s, 2 * self._look_s), now_s
            for keeper in self._keepers:
                keeper.look(passed_s)

    def _hear(self, around: Surroundings) -> Callable[[str], None]:
        def hear(words: str) -> None:
            self.tell(words)
            around.told(words)

        return hear

    def _find(self, product: str) -> SlotKeeper | None:
        name = product or self._products.active.name
        return next((keeper for keeper in self._keepers if keeper.name == name), None)

    def _keeper(self, product: str) -> SlotKeeper:
        keeper = self._find(product)
        if keeper is None:
            raise RefusedError(
                f"{product or self._products.active.name!r}: its bundle lies in no store "
                "([bundle] store): there is nothing to confirm or to revert"
            )
        return keeper
