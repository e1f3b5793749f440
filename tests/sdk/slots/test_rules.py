"""What may follow what, from any record that a store can come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from slot_records import KEYS, cards, incomings, records

from lineside.errors import DowngradeError, RefusedError
from lineside.slots import Incoming, Record, Slot, SlotCard, SlotName, SlotState, rules
from lineside.slots.codec import decode_record, encode_record

A, B = SlotName.A, SlotName.B
COMING = Incoming(sha256=b"s" * 32, size_bytes=9)

Rule = Callable[[Record, SlotCard, Incoming], Record]
RULES: dict[str, Rule] = {
    "vacate": lambda record, _card, _incoming: rules.vacate(record),
    "expect": lambda record, _card, incoming: rules.expect(record, incoming),
    "forget": lambda record, _card, _incoming: rules.forget_incoming(record),
    "accept": lambda record, card, _incoming: rules.accept(record, card),
    "start_trial": lambda record, _card, _incoming: rules.start_trial(record),
    "count_start": lambda record, _card, _incoming: rules.count_start(record),
    "confirm": lambda record, _card, _incoming: rules.confirm(record),
    "revert": lambda record, _card, _incoming: rules.revert(record, "command"),
}


def card_of(number: int, *, counter: int = 1, key_id: bytes = KEYS[0]) -> SlotCard:
    return SlotCard(hash=f"{number:064x}", size_bytes=9, key_id=key_id, security_counter=counter)


def installed(record: Record, card: SlotCard) -> Record:
    return rules.accept(rules.expect(rules.vacate(record), COMING), card)


def confirmed(record: Record, card: SlotCard) -> Record:
    return rules.confirm(rules.start_trial(installed(record, card)))


def states(record: Record) -> tuple[SlotState, SlotState]:
    return record.slots[A].state, record.slots[B].state


@given(record=records(), name=st.sampled_from(list(RULES)), card=cards(), incoming=incomings())
def test_each_rule_leads_to_a_record_that_may_be_or_refuses(
    record: Record, name: str, card: SlotCard, incoming: Incoming
) -> None:
    try:
        after = RULES[name](record, card, incoming)
    except (RefusedError, DowngradeError):
        return
    rules.check_record(after)
    assert decode_record(encode_record(after)) == after
    for key_id, lowest in record.counters.items():
        assert after.counters[key_id] >= lowest
    if record.active is not None:
        assert after.active is not None
        # Only a revert takes away what judged; whatever else happens its card stays.
        if name != "revert":
            assert after.slots[record.active].card == record.slots[record.active].card
    if name in ("vacate", "expect", "forget", "accept") and record.active is not None:
        assert after.slots[record.active] == record.slots[record.active]
        assert after.active is record.active


@settings(max_examples=50)
@given(record=records())
def test_the_free_slot_never_judges_and_waits_for_nothing(record: Record) -> None:
    try:
        free = rules.free_slot(record)
    except RefusedError:
        assert record.find(SlotState.TRIAL) or record.find(SlotState.PENDING)
        return
    assert free is not record.active
    assert record.slots[free].state in (SlotState.EMPTY, SlotState.REVERT)


@settings(max_examples=50)
@given(record=records(), card=cards())
def test_the_last_confirmed_is_always_there_to_go_back_to_from_a_trial(
    record: Record, card: SlotCard
) -> None:
    assume(record.find(SlotState.CONFIRMED) is not None)
    before = record.find(SlotState.CONFIRMED)
    try:
        trial = rules.start_trial(installed(record, card))
    except (RefusedError, DowngradeError):
        return
    back = rules.revert(rules.count_start(trial), "watchdog")
    assert back.active is before
    assert before is not None
    assert back.slots[before] == record.slots[before]
    assert back.counters == record.counters


def test_the_first_bundle_is_confirmed_at_once_and_raises_its_counter() -> None:
    record = installed(Record(), card_of(1, counter=3))
    assert states(record) == (SlotState.CONFIRMED, SlotState.EMPTY)
    assert record.counters == {KEYS[0]: 3}


def test_an_update_is_pending_tried_and_confirmed_and_the_one_before_stays() -> None:
    record = installed(Record(), card_of(1))
    record = installed(record, card_of(2, counter=5))
    assert states(record) == (SlotState.CONFIRMED, SlotState.PENDING)
    assert record.active is A
    record = rules.start_trial(record)
    assert states(record) == (SlotState.CONFIRMED, SlotState.TRIAL)
    assert record.active is B
    assert record.counters == {KEYS[0]: 1}
    record = rules.confirm(rules.count_start(rules.count_start(record)))
    assert states(record) == (SlotState.REVERT, SlotState.CONFIRMED)
    assert record.active is B
    assert record.counters == {KEYS[0]: 5}
    assert record.starts == 0


def test_starts_are_counted_anew_for_each_trial() -> None:
    record = rules.start_trial(installed(installed(Record(), card_of(1)), card_of(2)))
    assert rules.count_start(rules.count_start(record)).starts == 2
    back = rules.revert(rules.count_start(record), "restarts")
    assert back.starts == 0
    assert rules.start_trial(replace(installed(back, card_of(3)), starts=3)).starts == 0
    assert rules.count_start(replace(record, starts=rules.MAX_STARTS)).starts == rules.MAX_STARTS


def test_a_revert_of_a_trial_says_what_was_left_and_why() -> None:
    record = rules.start_trial(installed(installed(Record(), card_of(1)), card_of(2)))
    back = rules.revert(record, "self_test")
    assert states(back) == (SlotState.CONFIRMED, SlotState.EMPTY)
    assert back.reverted is not None
    assert (back.reverted.hash, back.reverted.reason) == (card_of(2).hash, "self_test")


def test_a_pending_bundle_is_cancelled() -> None:
    back = rules.revert(installed(installed(Record(), card_of(1)), card_of(2)), "command")
    assert states(back) == (SlotState.CONFIRMED, SlotState.EMPTY)
    assert back.active is A


def test_the_one_before_is_taken_back_where_its_counter_is_not_below() -> None:
    record = confirmed(installed(Record(), card_of(1)), card_of(2))
    back = rules.revert(record, "damaged")
    assert states(back) == (SlotState.CONFIRMED, SlotState.EMPTY)
    assert back.slots[A].card == card_of(1)
    assert back.reverted is not None
    assert back.reverted.hash == card_of(2).hash


def test_the_one_before_is_not_taken_back_below_the_counter() -> None:
    record = confirmed(installed(Record(), card_of(1)), card_of(2, counter=2))
    with pytest.raises(DowngradeError, match="security counter 1, and 2 was confirmed") as caught:
        rules.revert(record, "command")
    assert (caught.value.expected, caught.value.actual) == (2, 1)


def test_counters_are_kept_by_key() -> None:
    record = installed(Record(), card_of(1, counter=7))
    other = card_of(2, counter=1, key_id=KEYS[1])
    record = confirmed(record, other)
    assert record.counters == {KEYS[0]: 7, KEYS[1]: 1}
    with pytest.raises(DowngradeError):
        rules.check_counter(record, card_of(3, counter=6))
    rules.check_counter(record, card_of(3, counter=7))


def test_a_ninth_counter_is_refused_and_none_is_forgotten() -> None:
    record = installed(Record(), card_of(0))
    for number in range(1, 8):
        record = confirmed(record, card_of(number, key_id=KEYS[number]))
    before = dict(record.counters)
    assert len(before) == 8
    ninth = card_of(8, key_id=KEYS[8])
    with pytest.raises(RefusedError, match="of 8 other keys, of which none may be forgotten"):
        rules.check_counter(record, ninth)
    with pytest.raises(RefusedError, match="8 other keys"):
        rules.accept(rules.expect(rules.vacate(record), COMING), ninth)
    # A counter of zero forbids nothing, so it needs no room.
    record = confirmed(record, replace(ninth, security_counter=0))
    assert record.counters == before


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (Record(), "accept"),
        (Record(), "start_trial"),
        (Record(), "count_start"),
        (Record(), "confirm"),
        (Record(), "revert"),
        (installed(Record(), card_of(1)), "accept"),
        (installed(Record(), card_of(1)), "start_trial"),
        (installed(Record(), card_of(1)), "confirm"),
        (installed(Record(), card_of(1)), "revert"),
        (installed(installed(Record(), card_of(1)), card_of(2)), "vacate"),
        (installed(installed(Record(), card_of(1)), card_of(2)), "expect"),
        (installed(installed(Record(), card_of(1)), card_of(2)), "confirm"),
        (installed(installed(Record(), card_of(1)), card_of(2)), "count_start"),
        (rules.start_trial(installed(installed(Record(), card_of(1)), card_of(2))), "start_trial"),
        (rules.start_trial(installed(installed(Record(), card_of(1)), card_of(2))), "vacate"),
        (rules.start_trial(installed(installed(Record(), card_of(1)), card_of(2))), "accept"),
        (confirmed(installed(Record(), card_of(1)), card_of(2)), "start_trial"),
        (confirmed(installed(Record(), card_of(1)), card_of(2)), "confirm"),
    ],
)
def test_what_makes_no_sense_is_refused(record: Record, name: str) -> None:
    with pytest.raises(RefusedError):
        RULES[name](record, card_of(9), COMING)


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        ("watchdog", "watchdog"),
        ("", "unknown"),
        ("Größe\n\0", "Gre"),
        ("a reason that is far longer than any", "a reason that is far lon"),
    ],
)
def test_no_revert_fails_on_its_words(reason: str, kept: str) -> None:
    record = rules.revert(installed(installed(Record(), card_of(1)), card_of(2)), reason)
    assert record.reverted is not None
    assert record.reverted.reason == kept
    assert decode_record(encode_record(record)) == record


def test_a_trial_that_no_install_let_through_is_not_confirmed() -> None:
    record = rules.start_trial(installed(installed(Record(), card_of(1)), card_of(2)))
    with pytest.raises(DowngradeError):
        rules.confirm(replace(record, counters={KEYS[0]: 2}))
    others = dict.fromkeys(KEYS[1:9], 1)
    with pytest.raises(RefusedError, match="8 other keys"):
        rules.confirm(replace(record, counters=others))


SOUND = Slot(state=SlotState.CONFIRMED, card=card_of(1))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (SOUND, SOUND),
        (Slot(), Slot(state=SlotState.TRIAL, card=card_of(1))),
        (Slot(), Slot(state=SlotState.PENDING, card=card_of(1))),
        (Slot(), Slot(state=SlotState.REVERT, card=card_of(1))),
        (SOUND, Slot(state=SlotState.TRIAL)),
        (SOUND, Slot(card=card_of(1))),
        (replace(SOUND, incoming=COMING), Slot()),
        (Slot(incoming=COMING), Slot(incoming=COMING)),
    ],
)
def test_a_record_that_no_way_leads_to_is_none(a: Slot, b: Slot) -> None:
    with pytest.raises(ValueError):
        rules.check_record(Record(slots={A: a, B: b}))
