"""All operations in random order over flash, with power cuts and rot; a model stands beside.

After each cut the store must be as before the operation or as after it, judge by whole bytes, have
forgotten no counter, and take a later install.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from guarded_flash import GuardedFlash
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from slot_files import active_data, install, install_confirmed, send, slot_file

from lineside.errors import DowngradeError, RefusedError
from lineside.slots import Area, PowerCut, Store

PAGE = 256
KEYS = (b"a" * 16, b"b" * 16)
FILES = tuple(
    slot_file(number, size_bytes=size_bytes, counter=counter, key_id=key_id)
    for number, (size_bytes, counter, key_id) in enumerate(
        [
            (1, 1, KEYS[0]),
            (700, 1, KEYS[0]),
            (256, 2, KEYS[0]),
            (1024, 0, KEYS[1]),
            (600, 3, KEYS[1]),
        ]
    )
)


@dataclass(frozen=True)
class Model:
    """What should be, in the plainest words; slots hold numbers of files.

    Attributes:
        confirmed, trial, pending, before: which file is what; `before` may be taken back.
        coming: which is on its way.
        counters: by key.
    """

    confirmed: int | None = None
    trial: int | None = None
    pending: int | None = None
    before: int | None = None
    coming: int | None = None
    counters: dict[bytes, int] = field(default_factory=dict)

    @property
    def active(self) -> int | None:
        return self.confirmed if self.trial is None else self.trial

    @property
    def is_taken(self) -> bool:
        return self.trial is not None or self.pending is not None

    def is_below(self, number: int) -> bool:
        card = FILES[number].card
        return card.security_counter < self.counters.get(card.key_id, 0)

    def raised(self, number: int) -> dict[bytes, int]:
        card = FILES[number].card
        highest = max(card.security_counter, self.counters.get(card.key_id, 0))
        return self.counters | ({card.key_id: highest} if highest else {})

    def finished(self) -> Model:
        assert self.coming is not None
        if self.confirmed is not None:
            return replace(self, pending=self.coming, coming=None)
        counters = self.raised(self.coming)
        return replace(self, confirmed=self.coming, coming=None, counters=counters)


def seen(store: Store) -> Model:
    """The store in the model's words."""
    record = store.record
    by_hash = {file.card.hash: number for number, file in enumerate(FILES)}
    by_sha256 = {file.incoming.sha256: number for number, file in enumerate(FILES)}
    found: dict[str, int] = {}
    for slot in record.slots.values():
        if slot.card is not None:
            name = "before" if slot.state.value == "revert" else slot.state.value
            assert name not in found
            found[name] = by_hash[slot.card.hash]
        if slot.incoming is not None:
            found["coming"] = by_sha256[slot.incoming.sha256]
    return Model(**found, counters=record.counters)  # type: ignore[arg-type]


# How many operations on, and how far within that one. More than an operation has: no cut.
CUTS = st.none() | st.tuples(st.integers(0, 11), st.integers(0, 2 * PAGE))
Cut = tuple[int, int] | None
NUMBERS = st.integers(0, len(FILES) - 1)


class SlotMachine(RuleBasedStateMachine):
    """Each operation may be cut, and the opening after that as well."""

    @initialize(seed=st.integers(0, 1000))
    def start(self, seed: int) -> None:
        self.flash = GuardedFlash(page_bytes=PAGE, slot_bytes=4 * PAGE, seed=seed)
        self.store = Store(self.flash)
        self.model = Model()

    @precondition(lambda self: not self.model.is_taken)
    @rule(number=NUMBERS, part=st.none() | st.integers(0, 1024), cuts=st.tuples(CUTS, CUTS))
    def send(self, number: int, part: int | None, cuts: tuple[Cut, Cut]) -> None:
        coming = replace(self.model, before=None, coming=number)

        def act() -> None:
            send(self.store, FILES[number], chunk_bytes=100, end=part)

        self.attempt(act, coming, cuts, or_else=replace(coming, coming=None))

    @precondition(lambda self: not self.model.is_taken)
    @rule(number=NUMBERS)
    def install(self, number: int) -> None:
        """The likeliest way, so that machines get far."""
        if not self.model.is_below(number):
            self.send(number, None, (None, None))
            self.finish((None, None))

    @precondition(lambda self: self.model.coming is not None)
    @rule(cuts=st.tuples(CUTS, CUTS))
    def finish(self, cuts: tuple[Cut, Cut]) -> None:
        number = self.model.coming
        assert number is not None
        file = FILES[number]
        if self.model.is_below(number):
            self.refuse(lambda: self.store.finish(file.card))
        elif self.store.read_incoming(0, len(file.data)) == file.data:
            self.attempt(lambda: self.store.finish(file.card), self.model.finished(), cuts)

    @precondition(lambda self: self.model.coming is not None)
    @rule(cuts=st.tuples(CUTS, CUTS))
    def discard(self, cuts: tuple[Cut, Cut]) -> None:
        self.attempt(self.store.discard, replace(self.model, coming=None), cuts)

    @precondition(lambda self: self.model.pending is not None)
    @rule(cuts=st.tuples(CUTS, CUTS))
    def start_trial(self, cuts: tuple[Cut, Cut]) -> None:
        after = replace(self.model, trial=self.model.pending, pending=None)
        self.attempt(self.store.start_trial, after, cuts)

    @precondition(lambda self: self.model.trial is not None)
    @rule(cuts=st.tuples(CUTS, CUTS))
    def count_start(self, cuts: tuple[Cut, Cut]) -> None:
        starts = self.store.record.starts
        self.attempt(self.store.count_start, self.model, cuts)
        assert self.store.record.starts in (starts, starts + 1)

    @precondition(lambda self: self.model.trial is not None)
    @rule(cuts=st.tuples(CUTS, CUTS))
    def confirm(self, cuts: tuple[Cut, Cut]) -> None:
        model = self.model
        assert model.trial is not None
        counters = model.raised(model.trial)
        after = Model(confirmed=model.trial, before=model.confirmed, counters=counters)
        self.attempt(self.store.confirm, after, cuts)

    @precondition(lambda self: self.model.is_taken)
    @rule(cuts=st.tuples(CUTS, CUTS))
    def revert(self, cuts: tuple[Cut, Cut]) -> None:
        after = replace(self.model, trial=None, pending=None)
        self.attempt(lambda: self.store.revert("watchdog"), after, cuts)

    @precondition(lambda self: self.model.before is not None)
    @rule(cuts=st.tuples(CUTS, CUTS))
    def go_back(self, cuts: tuple[Cut, Cut]) -> None:
        before = self.model.before
        if before is None or self.model.is_taken:
            return
        if self.model.is_below(before):
            self.refuse(lambda: self.store.revert("command"))
        else:
            after = replace(self.model, confirmed=before, before=None)
            self.attempt(lambda: self.store.revert("command"), after, cuts)

    @rule()
    def ask_for_what_makes_no_sense(self) -> None:
        if self.model.is_taken:
            self.refuse(self.store.free)
            self.refuse(lambda: self.store.begin(FILES[0].incoming))
        elif self.model.before is None:
            self.refuse(lambda: self.store.revert("command"))
        if self.model.pending is None:
            self.refuse(self.store.start_trial)
        if self.model.trial is None:
            self.refuse(self.store.confirm)
            self.refuse(self.store.count_start)

    @rule()
    def reboot(self) -> None:
        self.store = Store(self.flash)

    @precondition(lambda self: self.store.record.sequence > 0)
    @rule(
        area=st.sampled_from([Area.RECORD_0, Area.RECORD_1]),
        place=st.integers(0, 383),
        bits=st.integers(1, 255),
        cut=CUTS,
    )
    def rot(self, area: Area, place: int, bits: int, cut: Cut) -> None:
        """One copy at a time; the reboot heals it, or the one after that."""
        self.flash.damage(area, place, bytes([self.flash.read(area, place, 1)[0] ^ bits]))
        self.open_again(cut)

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        assert seen(self.store) == self.model
        assert self.store.damage == ""

    @invariant()
    def what_the_record_tells_of_is_whole(self) -> None:
        for name, slot in self.store.record.slots.items():
            if slot.card is not None:
                data = self.store.read(name, 0, slot.card.size_bytes)
                assert hashlib.sha256(data).hexdigest() == slot.card.hash

    def attempt(
        self,
        act: Callable[[], object],
        after: Model,
        cuts: tuple[Cut, Cut],
        *,
        or_else: Model | None = None,
    ) -> None:
        """Do it; where the power is cut, look what is left."""
        before = self.model
        self.plan(cuts[0])
        try:
            act()
        except PowerCut:
            self.flash.restart()
            self.open_again(cuts[1])
            left = seen(self.store)
            assert left in (before, after, or_else)
            self.model = left
            self.check_later_install()
            self.check_install_goes_on()
        else:
            self.flash.restart()
            self.model = after

    def refuse(self, act: Callable[[], object]) -> None:
        before = self.flash.operations
        try:
            act()
        except (RefusedError, DowngradeError):
            assert self.flash.operations == before
        else:
            raise AssertionError("it was done")

    def plan(self, cut: Cut) -> None:
        if cut is not None:
            self.flash.cut_at(self.flash.operations + cut[0], cut[1])

    def open_again(self, cut: Cut) -> None:
        self.plan(cut)
        try:
            self.store = Store(self.flash)
        except PowerCut:
            self.flash.restart()
            self.store = Store(self.flash)
        self.flash.restart()

    def check_install_goes_on(self) -> None:
        """By sending what the store says is missing."""
        number = self.model.coming
        if number is not None and not self.model.is_below(number):
            store = Store(self.flash.clone())
            install(store, FILES[number])
            assert seen(store) == self.model.finished()

    def check_later_install(self) -> None:
        """On a copy of the flash, so that the machine's own way goes on."""
        store = Store(self.flash.clone())
        if self.model.is_taken:
            store.revert("command")
        newest = slot_file(99, size_bytes=900, counter=9, key_id=KEYS[0])
        slot = install_confirmed(store, newest)
        assert store.record.active is slot
        assert active_data(store) == newest.data


TestSlotMachine = SlotMachine.TestCase
TestSlotMachine.settings = settings(max_examples=80, stateful_step_count=40)
