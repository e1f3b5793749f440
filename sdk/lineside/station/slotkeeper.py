"""One store of a running station: what its record says is what judges, within a second."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Final

from lineside.errors import ConfigurationError, LinesideError, RefusedError, StorageError
from lineside.slots import Record, SlotState, rules
from lineside.station.arriving import Arrivals, wanted_of
from lineside.station.products import Product, Products
from lineside.station.slotmodels import SlotModels
from lineside.station.slotstart import REFUSALS, Occupant, SlotOpener, Start, reason_of
from lineside.station.slotwords import (
    SlotWords,
    Surroundings,
    check_meant,
    describe_slots,
    hash_in,
    slot_note,
    tell_event,
)
from lineside.station.trial import Outcome, TrialProgress, TrialSettings
from lineside.station.trialrun import TrialRun

# A disk that stands must not hold up the end.
_PATIENCE_S: Final = 2.0


class SlotKeeper:
    """Follows the record of one store, and changes it when a trial ends.

    ``look`` is for one thread, everything else for any.

    Attributes:
        store: it.

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
        room: Callable[[float], bool] = lambda _: True,
    ) -> None:
        self.store = opener.store
        self._opener = opener
        self._changing = threading.RLock()
        self._record = self.store.record
        self._start_words = start.words
        self._models = SlotModels(opener, settings, start, room=room)
        self._around = Surroundings()
        self._arrivals = Arrivals(opener, lambda: self._around.wake())
        self._fault = ""

    @property
    def product(self) -> Product:
        """What the station starts with."""
        return self._models.product

    @property
    def name(self) -> str:
        """Which product the store holds just now."""
        return self._models.name

    @property
    def words(self) -> SlotWords:
        """For the state; from memory."""
        run, now, record = self._models.run, self._models.now, self._record
        if run is not None and run.on_trial.stand_in is not None:
            return describe_slots(record, now.slot.other, is_trial=False)
        # One that was taken back judges on where nothing else opens: never told as confirmed.
        is_trial = run is not None or hash_in(record, SlotState.CONFIRMED) != now.card.hash
        return describe_slots(record, now.slot, is_trial=is_trial)

    @property
    def progress(self) -> TrialProgress | None:
        """Of the trial under way."""
        run = self._models.run
        return None if run is None else run.on_trial.progress

    @property
    def is_overdue(self) -> bool:
        """Whether a trial judges and goes on long beyond its end."""
        run = self._models.run
        return run is not None and run.is_overdue

    @property
    def trouble(self) -> str:
        """What is not well, in words; ``""`` when all is."""
        run = self._models.run
        words = (self._fault, self.store.damage, "" if run is None else run.trouble)
        return "; ".join(filter(None, words))

    def stand_behind(self) -> None:
        """After a restart: load what a trial is compared with, once all that judges is loaded."""
        self._models.stand_behind()

    def bind(self, products: Products) -> None:
        """All that the station judges by; before its first part."""
        self._models.bind(products)

    def start(self, around: Surroundings) -> None:
        """The station runs."""
        self._around = around
        if self._start_words:
            self._tell_taken_back("reverted", self._start_words)
        run = self._models.run
        if run is not None:
            bundle, words = run.now.card.hash, run.on_trial.progress.told()
            around.told(tell_event("trial", product=self.name, bundle=bundle, words=words))
        self._models.start(around)

    def look(self, passed_s: float) -> None:
        """Once a second: follow the record, judge the trial.

        Args:
            passed_s: since the last look, in which the station ran.
        """
        if not self._changing.acquire(blocking=False):
            return  # a command is at work here
        try:
            self._leave_if_hung(passed_s)
            self._record = self.store.record
            self._fault = self._follow(passed_s)
            self._models.free_retired()
        except LinesideError as error:
            self._fault = str(error)
        finally:
            self._changing.release()

    def stop(self) -> None:
        """The station ends; a trial goes on at the next start."""
        if self._changing.acquire(timeout=_PATIENCE_S):
            try:
                self._settle_at_last()
            finally:
                self._changing.release()
        self._arrivals.drop()
        self._models.stop()

    def close(self) -> None:
        """Free all models: no part comes any more."""
        self._models.close()

    def confirm(self, bundle: str = "") -> str:
        """The bundle on trial stays; durable at return.

        Args:
            bundle: how its hash must begin: between a state that was read and the command that came
                of it another may have come on trial. ``""``: whichever it is.

        Returns:
            What judges now, in words.

        Raises:
            RefusedError: none is on trial, or another one.
            StorageError: the store cannot be changed; the trial goes on.
        """
        with self._changed():
            run = self._models.run
            if run is None:
                raise RefusedError(f"{self.name}: no bundle is on trial")
            check_meant(bundle, run.now.card.hash, is_now="on trial")
            with run.on_trial.confirming():
                self.store.confirm()
            self._stay(run)
        return self._words_of_now()

    def revert(self, reason: str, bundle: str = "") -> str:
        """Leave the bundle on trial, cancel one that waits, or go back to that before.

        Durable at return. The third opens that bundle first, which takes seconds.

        Args:
            reason: a word, at most 24 ASCII letters.
            bundle: how the hash of the one that is left must begin; ``""``: whichever it is.

        Returns:
            What judges now, in words.

        Raises:
            RefusedError, DowngradeError: there is nothing to go back to, or another would be left.
            LinesideError: what was before does not open; nothing was changed.
            StorageError: the store cannot be changed.
        """
        with self._changed():
            run, record, words = self._models.run, self.store.record, "as commanded"
            if run is not None:
                check_meant(bundle, run.now.card.hash, is_now="on trial")
                run.on_trial.fail(reason, words)
                self._settle(run)
            elif pending := hash_in(record, SlotState.PENDING):
                check_meant(bundle, pending, is_now="pending")
                self._cancel(reason, words, pending)
            else:
                check_meant(bundle, hash_in(record, SlotState.CONFIRMED), is_now="confirmed")
                self._go_back(record, reason, words)
        return self._words_of_now()

    @contextlib.contextmanager
    def _changed(self) -> Iterator[None]:
        with self._changing:
            yield
            self._read_again()
        self._around.changed()

    def _words_of_now(self) -> str:
        now = self._models.now
        return f"slot {now.slot.value}, bundle {now.card.hash[:16]}"

    # The rest is called with the lock held.

    def _follow(self, passed_s: float) -> str:
        """Do what record and trial ask for; what is wrong meanwhile, in words."""
        run = self._models.run
        if run is None:
            return self._follow_arrivals()
        outcome = run.look(passed_s)
        if run.on_trial.reason:
            self._settle(run)
        elif hash_in(self._record, SlotState.TRIAL) != run.now.card.hash:
            self._end_as_recorded(run)
        elif outcome is Outcome.CONFIRM:
            self.confirm()
        elif outcome is Outcome.REVERT:
            run.on_trial.fail("disagreement", run.on_trial.progress.told())
            self._settle(run)
        elif words := run.fetch_overdue():
            self._tell("overdue", run.now, words=words)
        return ""

    def _follow_arrivals(self) -> str:
        now = self._models.now.card.hash
        found = self._arrivals.look(self._record, now)
        if isinstance(found, Occupant):
            found = self._admit(found)
        if found is not None:
            return self._refuse(found)
        return "" if wanted_of(self._record, now) is None else self._fault

    def _admit(self, found: Occupant) -> LinesideError | None:
        """Judge by what was opened, where the record still wants it; why it cannot be."""
        name = found.loaded.product.name
        try:
            if name in self._models.others:
                raise ConfigurationError(f"two bundles of this station would judge {name!r}")
            state, progress = self._claim(found)
        except LinesideError as error:
            found.loaded.close()
            self._arrivals.wait()
            return error
        if state is SlotState.TRIAL:
            self._models.begin_trial(found, progress)
            self._tell("trial", found)
        elif state is SlotState.CONFIRMED:
            self._models.take(found)
            self._tell("taken", found)
        else:
            found.loaded.close()
        return None

    def _claim(self, found: Occupant) -> tuple[SlotState, TrialProgress]:
        """What the record says of its slot now, after its trial has begun where it waited."""
        file = self._models.file
        with self.store.storage.exclusive():
            slot = self.store.record.slots[found.slot]
            if slot.card is None or slot.card.hash != found.card.hash:
                return SlotState.EMPTY, file.load(found.card.hash)
            if slot.state is not SlotState.PENDING:
                return slot.state, file.load(found.card.hash)
            progress = file.begin(found.card.hash)
            self.store.start_trial()
            return SlotState.TRIAL, progress

    def _refuse(self, error: LinesideError) -> str:
        if isinstance(error, REFUSALS) and self._record.find(SlotState.PENDING) is not None:
            self._cancel(reason_of(error), str(error), hash_in(self._record, SlotState.PENDING))
            return ""
        return str(error)

    def _cancel(self, reason: str, words: str, pending: str) -> None:
        """Take back the pending bundle with this hash; another may have taken its place."""
        self._arrivals.drop()
        with self.store.storage.exclusive():
            if hash_in(self.store.record, SlotState.PENDING) != pending:
                return
            self.store.revert(reason)
        self._tell_taken_back("cancelled", words)

    def _settle(self, run: TrialRun) -> None:
        """What the parts know already becomes durable."""
        trial = run.on_trial
        trial.fail(trial.reason, trial.words)  # waits for whoever is just doing it
        self._revert_durably(run, trial.reason)
        self._models.fall_back()
        words, figures = trial.words, trial.progress.told()
        if words != figures:  # those are a disagreement's own words
            words = f"{words} ({figures})"
        self._tell("reverted", run.now, reason=trial.reason, words=words)

    def _settle_at_last(self) -> None:
        run = self._models.run
        if run is not None and run.on_trial.reason:
            # A disk that does not take it: the next start counts, and finds out the same.
            with contextlib.suppress(StorageError):
                self._settle(run)

    def _end_as_recorded(self, run: TrialRun) -> None:
        """Another process has ended it."""
        if hash_in(self._record, SlotState.CONFIRMED) == run.now.card.hash:
            with run.on_trial.confirming():
                self._stay(run)
            return
        reverted = self._record.reverted
        run.on_trial.fail("command" if reverted is None else reverted.reason, "by another process")
        self._settle(run)

    def _stay(self, run: TrialRun) -> None:
        self._models.stay()
        self._tell("confirmed", run.now, words=run.on_trial.progress.told())

    def _go_back(self, before: Record, reason: str, words: str) -> None:
        rules.revert(before, reason)  # refuses in its own words
        slot = before.find(SlotState.REVERT)
        assert slot is not None, "the rules would have refused"
        found = self._opener.open(slot)
        try:
            with self.store.storage.exclusive():
                if self.store.record != before:
                    raise RefusedError(f"{self.name}: another process changed the store: try again")
                self.store.revert(reason)
        except LinesideError:
            found.loaded.close()
            raise
        left = self._models.now
        self._models.take(found)
        self._tell("reverted", left, reason=reason, words=words)

    def _leave_if_hung(self, passed_s: float) -> None:
        # Also one that was broken off meanwhile: its part holds up the inspection all the same.
        run = self._models.run or self._models.left
        turn = None if run is None else run.hangs(passed_s)
        if run is None or turn is None:
            return
        words = f"the model on trial computes on one part for more than {run.hang_limit_s:g} s"
        if run is self._models.run:
            reason = run.on_trial.reason or "watchdog"
            # What cannot be made durable is counted as a start, at the next.
            with contextlib.suppress(StorageError):
                self._revert_durably(run, reason)
            self._tell("reverted", run.now, reason=reason, words=words)
        self._around.leave(turn, words)

    def _revert_durably(self, run: TrialRun, reason: str) -> None:
        with self.store.storage.exclusive():
            if hash_in(self.store.record, SlotState.TRIAL) == run.now.card.hash:
                self.store.revert(reason)

    def _tell_taken_back(self, event: str, words: str) -> None:
        """Of what the record says of the last revert."""
        self._read_again()
        reverted = self._record.reverted
        if reverted is not None:
            self._say(event, bundle=reverted.hash, reason=reverted.reason, words=words)

    def _tell(self, event: str, about: Occupant, *, reason: str = "", words: str = "") -> None:
        self._read_again()
        self._say(event, bundle=about.card.hash, reason=reason, words=words)

    def _read_again(self) -> None:
        # What was done is done: a disk that cannot be read just now is said at the next look.
        with contextlib.suppress(StorageError):
            self._record = self.store.record

    def _say(self, event: str, *, bundle: str, reason: str, words: str) -> None:
        self._around.note(
            slot_note(event, product=self.name, bundle=bundle, reason=reason, words=words)
        )
        told = tell_event(event, product=self.name, bundle=bundle, reason=reason, words=words)
        self._around.told(told)
        if reason:
            self._around.blamed(told)
        self._around.changed()
