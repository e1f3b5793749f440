"""What may follow what: from one record to the next. Pure; no storage, no clock.

The slot that judges is never among those that may be written: `free_slot` is the only way to one.
The sequence is not touched here; it rises when a record is written.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from lineside.errors import DowngradeError, RefusedError
from lineside.slots.codec import MAX_COUNTERS, MAX_REASON_BYTES
from lineside.slots.record import Incoming, Record, Reverted, Slot, SlotCard, SlotState
from lineside.slots.storage import SlotName

MAX_STARTS: Final = 2**32 - 1
_EMPTY: Final = Slot()


def check_record(record: Record) -> None:
    """Refuse a record that no order of transitions makes; a checksum does not see those.

    Raises:
        ValueError: which rule it breaks.
    """
    states = [slot.state for slot in record.slots.values()]
    for slot in record.slots.values():
        if (slot.card is None) is not (slot.state is SlotState.EMPTY):
            raise ValueError(f"a slot is {slot.state.value} and has no card, or has one")
        if slot.incoming is not None and slot.card is not None:
            raise ValueError("a slot holds a bundle and is being filled")
    if states.count(SlotState.CONFIRMED) > 1:
        raise ValueError("both slots are confirmed")
    used = [state for state in states if state is not SlotState.EMPTY]
    if used and SlotState.CONFIRMED not in used:
        raise ValueError(f"a slot is {used[0].value} and none is confirmed")
    if sum(slot.incoming is not None for slot in record.slots.values()) > 1:
        raise ValueError("both slots are being filled")


_TAKEN: Final = (
    (SlotState.TRIAL, "is on trial: confirm or revert it first"),
    (SlotState.PENDING, "waits for trial: let the station try it, or cancel it by revert"),
)


def free_slot(record: Record) -> SlotName:
    """Where the next bundle may be written.

    Raises:
        RefusedError: a bundle is pending or on trial: both slots are needed.
    """
    for state, words in _TAKEN:
        name = record.find(state)
        if name is not None:
            raise RefusedError(f"slot {name.value}: {_model(record, name)} {words}")
    if record.active is not None:
        return record.active.other
    return incoming_slot(record) or SlotName.A


def incoming_slot(record: Record) -> SlotName | None:
    """The slot that is being filled."""
    return next((name for name, slot in record.slots.items() if slot.incoming is not None), None)


def incoming_of(record: Record) -> Incoming | None:
    """What it is being filled with."""
    name = incoming_slot(record)
    return None if name is None else record.slots[name].incoming


def check_counter(record: Record, card: SlotCard) -> None:
    """Whether a bundle may be confirmed here.

    Raises:
        DowngradeError: below what was confirmed of its key.
        RefusedError: no room for the counter of one more key.
    """
    lowest = record.counters.get(card.key_id, 0)
    if card.security_counter < lowest:
        raise DowngradeError(
            f"bundle {card.hash[:16]}: security counter {card.security_counter}, and {lowest} was "
            f"confirmed here of key {card.key_id.hex()}: install a bundle with {lowest} or more",
            expected=lowest,
            actual=card.security_counter,
        )
    is_new = card.security_counter > 0 and card.key_id not in record.counters
    if is_new and len(record.counters) >= MAX_COUNTERS:
        raise RefusedError(
            f"bundle {card.hash[:16]}: sealed by key {card.key_id.hex()}, and the store keeps the "
            f"security counters of {MAX_COUNTERS} other keys, of which none may be forgotten: have "
            "it sealed by one of those, or begin a new store"
        )


def vacate(record: Record) -> Record:
    """The free slot counts no more and is filled with nothing: it may be erased.

    Raises:
        RefusedError: there is no free slot.
    """
    return _with(record, {free_slot(record): _EMPTY})


def expect(record: Record, incoming: Incoming) -> Record:
    """The vacated, erased slot is being filled.

    Raises:
        RefusedError: there is no free slot.
    """
    return _with(record, {free_slot(record): Slot(incoming=incoming)})


def forget_incoming(record: Record) -> Record:
    """No slot is being filled."""
    name = incoming_slot(record)
    return record if name is None else _with(record, {name: _EMPTY})


def accept(record: Record, card: SlotCard) -> Record:
    """What came in is whole and was verified: it is pending; confirmed where nothing is.

    Raises:
        RefusedError: nothing was coming in, or `check_counter`.
        DowngradeError: see `check_counter`.
    """
    name = incoming_slot(record)
    if name is None:
        raise RefusedError("nothing is coming in: begin first")
    check_counter(record, card)
    if record.active is not None:
        return _with(record, {name: Slot(state=SlotState.PENDING, card=card)})
    first = _with(record, {name: Slot(state=SlotState.CONFIRMED, card=card)})
    return replace(first, counters=_raised(record, card))


def start_trial(record: Record) -> Record:
    """The pending bundle judges.

    Raises:
        RefusedError: none is pending.
    """
    name = record.find(SlotState.PENDING)
    if name is None:
        raise RefusedError("no bundle waits for trial: install one first")
    trial = replace(record.slots[name], state=SlotState.TRIAL)
    return replace(_with(record, {name: trial}), starts=0)


def count_start(record: Record) -> Record:
    """The program started once more with a bundle on trial.

    Raises:
        RefusedError: none is.
    """
    _require_trial(record)
    return replace(record, starts=min(record.starts + 1, MAX_STARTS))


def confirm(record: Record) -> Record:
    """The bundle on trial is the one to go back to from now on; its key's counter rises to its own.

    Raises:
        RefusedError: none is on trial.
        DowngradeError: it is below what was confirmed of its key; `accept` lets none through.
    """
    name = _require_trial(record)
    trial, before = record.slots[name], record.slots[name.other]
    assert trial.card is not None
    check_counter(record, trial.card)
    slots = {
        name: replace(trial, state=SlotState.CONFIRMED),
        name.other: replace(before, state=SlotState.REVERT),
    }
    return replace(_with(record, slots), starts=0, counters=_raised(record, trial.card))


def revert(record: Record, reason: str) -> Record:
    """Leave the bundle on trial, the pending one, or else the confirmed one for that before it.

    Args:
        record: of now.
        reason: why, a word; cut to 24 letters, because no revert may fail on its words.

    Raises:
        RefusedError: there is nothing to go back to.
        DowngradeError: the one before is below what was confirmed since.
    """
    left = record.find(SlotState.TRIAL) or record.find(SlotState.PENDING)
    slots = {}
    if left is None:
        left = _require_way_back(record)
        slots[left.other] = replace(record.slots[left.other], state=SlotState.CONFIRMED)
    card = record.slots[left].card
    assert card is not None
    slots[left] = _EMPTY
    told = Reverted(hash=card.hash, reason=_as_word(reason))
    return replace(_with(record, slots), starts=0, reverted=told)


def _require_trial(record: Record) -> SlotName:
    name = record.find(SlotState.TRIAL)
    if name is None:
        raise RefusedError("no bundle is on trial")
    return name


def _require_way_back(record: Record) -> SlotName:
    """The confirmed slot, where the other may take its place."""
    before = record.find(SlotState.REVERT)
    if before is None:
        raise RefusedError(
            "nothing to go back to: no bundle is on trial or pending, and none was confirmed before"
        )
    card = record.slots[before].card
    assert card is not None
    check_counter(record, card)
    return before.other


def _raised(record: Record, card: SlotCard) -> dict[bytes, int]:
    highest = max(card.security_counter, record.counters.get(card.key_id, 0))
    return record.counters | ({card.key_id: highest} if highest else {})


def _with(record: Record, slots: dict[SlotName, Slot]) -> Record:
    return replace(record, slots={name: slots.get(name, record.slots[name]) for name in SlotName})


def _model(record: Record, name: SlotName) -> str:
    card = record.slots[name].card
    return f"bundle {card.hash[:16]}" if card is not None else "nothing"


def _as_word(reason: str) -> str:
    plain = "".join(letter for letter in reason if " " <= letter <= "~")
    return plain[:MAX_REASON_BYTES] or "unknown"
