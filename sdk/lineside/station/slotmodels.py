"""The models of one store that a running station holds: what judges, and what stands behind it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from lineside.errors import LinesideError
from lineside.slots import SlotState
from lineside.station.products import Product, Products
from lineside.station.retiring import Retirement
from lineside.station.slotstart import REFUSALS, Occupant, SlotOpener, Start
from lineside.station.slotwords import Surroundings
from lineside.station.trial import TrialProgress, TrialSettings
from lineside.station.trialfile import TrialFile
from lineside.station.trialrun import TrialRun

_NO_ROOM = "nothing is compared: both bundles take more than station.memory_budget_mib"


class SlotModels:
    """Exchanges them so that each part is judged by one of them, whole. The record is not touched.

    Used by one thread at a time, but for what `OnTrial` does.

    Attributes:
        now: the bundle that the record says, on trial or not.
        run: its trial; ``None``: it is on none.
        left: the trial that was broken off while its model computes on a part still.
        name: which product the store holds just now.

    Args:
        opener: of the store.
        settings: of trials.
        start: what judges at the start.
        room: whether the program may take so many MiB more.
    """

    def __init__(
        self,
        opener: SlotOpener,
        settings: TrialSettings,
        start: Start,
        *,
        room: Callable[[float], bool],
    ) -> None:
        self.file = TrialFile(opener.folder)
        self._opener = opener
        self._settings = settings
        self._room = room
        self._products: Products | None = None
        self._around = Surroundings()
        self._retirement = Retirement()
        self._reopened: Occupant | None = None
        self.now = start.now
        self.run: TrialRun | None = None
        self.left: TrialRun | None = None
        self.name = start.now.loaded.product.name
        if start.is_trial:
            self.run = self._make_run(start.now, None, self.file.load(start.now.card.hash))

    @property
    def product(self) -> Product:
        """What the station starts with."""
        return self.now.loaded.product if self.run is None else self.run.product

    def stand_behind(self) -> None:
        """Of a trial that goes on after a restart: the confirmed bundle, where there is room.

        Raises:
            StorageError: its file cannot be read for another reason than its own.
        """
        if self.run is not None and self._room(self.now.loaded.cost_mib):
            try:
                self.run.stand_behind(self._open_confirmed())
            except REFUSALS as error:
                self.run.alone = f"nothing is compared: {error}"

    def bind(self, products: Products) -> None:
        """All that the station judges by; before its first part."""
        self._products = products

    def start(self, around: Surroundings) -> None:
        """The station runs."""
        self._around = around
        if self.run is not None:
            self.run.begin(around)

    def stop(self) -> None:
        """The station ends; a trial goes on at the next start."""
        if self.run is not None:
            self.run.end()

    def close(self) -> None:
        """Free all of them: no part comes any more."""
        behind = None if self.run is None else self.run.behind
        for occupant in (self.now, behind, self._reopened):
            if occupant is not None:
                occupant.loaded.close()
        self._retirement.close()

    def free_retired(self) -> None:
        """Free what the last part has left."""
        if self.left is not None and self.left.on_trial.busy is None:
            self.left = None
        self._retirement.look()

    @property
    def others(self) -> frozenset[str]:
        """Products of the station's other bundles."""
        return frozenset(self._all.names) - {self.name}

    def begin_trial(self, found: Occupant, progress: TrialProgress) -> None:
        """The next part is judged by this one, on trial; the one so far stands behind it."""
        has_room, behind = self._room(0.0), self.now
        run = self._make_run(found, behind if has_room else None, progress)
        self.now, self.run = found, run
        run.begin(self._around)
        self._swap(run.product)
        if not has_room:
            self._retirement.retire(behind.loaded)

    def take(self, found: Occupant) -> None:
        """The next part is judged by this one."""
        left, self.now = self.now, found
        self._swap(found.loaded.product)
        self._retirement.retire(left.loaded)

    def stay(self) -> None:
        """The one on trial is confirmed."""
        run = self._end_run()
        self._swap(dataclasses.replace(self._current, on_trial=None))
        if run.behind is not None:
            self._retirement.retire(run.behind.loaded)

    def fall_back(self) -> None:
        """The one on trial was taken back. The parts know already; where nothing else opens, it
        judges on until something does."""
        run = self.left = self._end_run()
        behind = run.behind or self._reopened
        self._reopened = None
        if behind is None:
            self._swap(dataclasses.replace(self._current, on_trial=None))
            return
        self._retirement.retire(self.now.loaded)
        self.now = behind

    @property
    def _all(self) -> Products:
        assert self._products is not None, "bound before the station runs"
        return self._products

    @property
    def _current(self) -> Product:
        product = self._all.find(self.name)
        assert product is not None
        return product

    def _swap(self, product: Product) -> None:
        self._all.replace(self.name, product)
        self.name = product.name

    def _end_run(self) -> TrialRun:
        run = self.run
        assert run is not None
        self.run = None
        run.end()
        return run

    def _make_run(
        self, now: Occupant, behind: Occupant | None, progress: TrialProgress
    ) -> TrialRun:
        return TrialRun(
            now,
            behind,
            settings=self._settings,
            file=self.file,
            progress=progress,
            reopen=self._reopen,
            swap=self._swap,
            dress=lambda product: self._all.dress(product),
            alone="" if behind is not None else _NO_ROOM,
        )

    def _reopen(self) -> Product:
        self._reopened = self._open_confirmed()
        return self._reopened.loaded.product

    def _open_confirmed(self) -> Occupant:
        slot = self._opener.store.record.find(SlotState.CONFIRMED)
        if slot is None:
            raise LinesideError(f"{self._opener.folder}: no bundle is confirmed")
        return self._opener.open(slot)
