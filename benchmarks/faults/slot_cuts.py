"""The power cut at every operation of a store on flash, torn at every byte of it.

One road through all states. Each step of it is done again and again from the same flash, each time
with the power cut one byte later: before an operation, within each byte of a write or an erase, and
after it. Then the store is opened as after a reboot and looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from guarded_flash import GuardedFlash, Operation
from slot_files import SlotFile, install, install_confirmed, send

from lineside.errors import LinesideError
from lineside.slots import PowerCut, Record, SlotState, Store

Act = Callable[[Store], object]


@dataclass(frozen=True, kw_only=True)
class Step:
    """Something that a station or a person does.

    Attributes:
        name: in words.
        act: does it.
        is_cut: whether it is cut, or only leads to the next.
    """

    name: str
    act: Act
    is_cut: bool = True


@dataclass(kw_only=True)
class Tally:
    """What came out for a step.

    Attributes:
        operations: of the storage.
        cuts: of the power.
        old, new: what was active afterwards.
        again: cuts of the reboot after a cut, while it healed.
        bad: states that may not be, in words.
    """

    operations: int = 0
    cuts: int = 0
    old: int = 0
    new: int = 0
    again: int = 0
    bad: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the power is cut.

    Attributes:
        operation: of the step, from 0.
        torn_bytes: see `SimulatedFlash.cut_at`.
        is_edge: at the beginning, middle or end of its operation.
        is_middle: in its middle; there the reboot that follows is cut as well.
        is_erase: whether the operation is.
    """

    operation: int
    torn_bytes: int
    is_edge: bool
    is_middle: bool
    is_erase: bool


Choose = Callable[[str, Place], bool]
Check = Callable[[bytes], str]


class Road:
    """Through all states, with four bundles.

    Args:
        files: three to go the way, the security counter of the first below that of the others, and
            one that is installed later.
        check: the hash of a bundle that is whole, by its bytes; an error else.
        page_bytes: of the flash.
    """

    def __init__(self, files: Sequence[SlotFile], check: Check, page_bytes: int) -> None:
        self.first, self.second, self.third, self.later = files
        self._check = check
        pages = -(-max(len(file.data) for file in files) // page_bytes)
        self._flash = GuardedFlash(page_bytes=page_bytes, slot_bytes=pages * page_bytes)

    def steps(self) -> tuple[Step, ...]:
        """Every transition there is."""
        half = len(self.third.data) // 2
        return (
            Step(name="first install", act=_installing(self.first)),
            Step(name="install", act=_installing(self.second)),
            Step(name="cancel", act=_revert),
            Step(name="install again", act=_installing(self.second), is_cut=False),
            Step(name="switch", act=Store.start_trial),
            Step(name="count a start", act=Store.count_start),
            Step(name="revert a trial", act=_revert),
            Step(name="install again", act=_installing(self.second), is_cut=False),
            Step(name="switch again", act=Store.start_trial, is_cut=False),
            Step(name="confirm", act=Store.confirm),
            Step(name="half an install", act=lambda store: send(store, self.third, end=half)),
            Step(name="go on", act=_installing(self.third)),
            Step(name="switch again", act=Store.start_trial, is_cut=False),
            Step(name="confirm again", act=Store.confirm, is_cut=False),
            Step(name="go back", act=_revert),
            Step(name="half an install", act=_sending(self.third, half), is_cut=False),
            Step(name="discard", act=Store.discard),
        )

    def cut(self, choose: Choose) -> Iterator[tuple[str, Tally]]:
        """Walk, cutting each step wherever it is chosen by its name and a place in it."""
        for step, before in self._walk():
            if step.is_cut:
                after = before.clone()
                step.act(Store(after))
                places = list(_places(after.done))
                tally = Tally(operations=len(after.done))
                for place in places:
                    if choose(step.name, place):
                        self._cut(before, step.act, place, Store(after).record, tally)
                yield step.name, tally

    def count_places(self) -> int:
        """Where the power can be cut, on the whole way."""
        total = 0
        for step, before in self._walk():
            after = before.clone()
            step.act(Store(after))
            total += sum(1 for _ in _places(after.done)) if step.is_cut else 0
        return total

    def _walk(self) -> Iterator[tuple[Step, GuardedFlash]]:
        """Each step with the flash before it."""
        flash = self._flash.clone()
        for step in self.steps():
            yield step, flash.clone()
            step.act(Store(flash))

    def _cut(
        self, before: GuardedFlash, act: Act, place: Place, after: Record, tally: Tally
    ) -> None:
        flash = before.clone()
        store = Store(flash)
        old = store.record
        flash.cut_at(flash.operations + place.operation, place.torn_bytes)
        try:
            act(store)
        except PowerCut:
            flash.restart()
        else:
            tally.bad.append(f"{place}: the power was never cut")
            return
        tally.cuts += 1
        if place.is_middle:
            for healing in _cut_healings(flash):
                tally.again += 1
                self._judge(healing, old, after, f"{place}, and its healing", tally)
        active = self._judge(flash, old, after, str(place), tally)
        tally.new += active != _active_hash(old)
        tally.old += active == _active_hash(old)

    def _judge(
        self, flash: GuardedFlash, old: Record, after: Record, words: str, tally: Tally
    ) -> str | None:
        """Old or new, whole, no counter forgotten; what was coming in goes on; a later works."""
        try:
            self._go_on(flash.clone())
            return _judge(flash, self._check, old, after, self.later)
        except (LinesideError, AssertionError) as error:
            tally.bad.append(f"{words}: {type(error).__name__}: {error}")
            return None

    def _go_on(self, flash: GuardedFlash) -> None:
        """What was coming in becomes whole by sending what is said to be missing."""
        store = Store(flash)
        for slot in store.record.slots.values():
            for file in (self.first, self.second, self.third):
                if slot.incoming == file.incoming:
                    install(store, file)
                    _check_bundles(store, self._check)


def _judge(
    flash: GuardedFlash, check: Check, old: Record, after: Record, later: SlotFile
) -> str | None:
    store = Store(flash)
    record = store.record
    active = _check_bundles(store, check)
    assert active in (_active_hash(old), _active_hash(after)), f"{active} is active"
    _check_counters(record, old)
    assert store.damage == "", store.damage
    if record.find(SlotState.TRIAL) or record.find(SlotState.PENDING):
        assert store.revert("command") is not None
        assert _check_bundles(store, check) == _confirmed_hash(record)
    install_confirmed(store, later)
    assert _check_bundles(store, check) == later.card.hash, "the later install is not active"
    _check_counters(store.record, record)
    return active


def _check_bundles(store: Store, check: Check) -> str | None:
    """What judges, and what could be tried or taken back, is what the record says; its hash."""
    record = store.record
    for name, slot in record.slots.items():
        if slot.card is not None:
            found = check(store.read(name, 0, slot.card.size_bytes))
            assert found == slot.card.hash, f"slot {name.value} holds another bundle"
    return _active_hash(record)


def _check_counters(record: Record, old: Record) -> None:
    for key_id, lowest in old.counters.items():
        assert record.counters.get(key_id, 0) >= lowest, f"counter fell below {lowest}"


def _cut_healings(flash: GuardedFlash) -> Iterator[GuardedFlash]:
    """The same flash after each way in which the reboot can be cut that heals it."""
    whole = flash.clone()
    Store(whole)
    for place in _places(whole.done):
        if place.is_edge:
            healing = flash.clone()
            healing.cut_at(healing.operations + place.operation, place.torn_bytes)
            try:
                Store(healing)
            except PowerCut:
                healing.restart()
            yield healing


def _places(operations: Sequence[Operation]) -> Iterator[Place]:
    """Before each operation, within each of its bytes, and after it."""
    for number, (size, is_erase) in enumerate(operations):
        middle = (size + 1) // 2
        for torn_bytes in range(size + 2):
            yield Place(
                operation=number,
                torn_bytes=torn_bytes,
                is_edge=torn_bytes in (0, 1, middle, size, size + 1),
                is_middle=torn_bytes == middle,
                is_erase=is_erase,
            )


def _active_hash(record: Record) -> str | None:
    return _hash_of(record, record.active)


def _confirmed_hash(record: Record) -> str | None:
    return _hash_of(record, record.find(SlotState.CONFIRMED))


def _hash_of(record: Record, slot: object) -> str | None:
    card = next((one.card for name, one in record.slots.items() if name is slot), None)
    return None if card is None else card.hash


def _installing(file: SlotFile) -> Act:
    return lambda store: install(store, file)


def _sending(file: SlotFile, end: int) -> Act:
    return lambda store: send(store, file, end=end)


def _revert(store: Store) -> object:
    return store.revert("command")
