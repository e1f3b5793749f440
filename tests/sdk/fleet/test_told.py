"""What a station's state says of one bundle."""

from __future__ import annotations

import msgspec
import pytest

from lineside.fleet import Place, Told, read_told
from lineside.mqtt import StateMessage, StateWord
from lineside.mqtt.state import make_state

HASH = "ab" * 32
OTHER = "cd" * 32


def state(word: StateWord = StateWord.ONLINE, **fields: str) -> StateMessage:
    return msgspec.structs.replace(make_state(word), t=1234, **fields)


def test_a_station_with_another_bundle() -> None:
    told = read_told(state(bundle=OTHER, slot="a", slot_state="confirmed", version="1.0"), HASH)

    assert told == Told(is_online=True, at_ms=1234, version="1.0")


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"bundle": OTHER, "next": HASH[:16]}, Place.PENDING),
        ({"bundle": OTHER, "next": OTHER[:16]}, Place.NOWHERE),
        ({"bundle": HASH, "slot_state": "trial"}, Place.TRIAL),
        ({"bundle": HASH, "slot_state": "confirmed"}, Place.CONFIRMED),
        # Of a station without a store: nothing is to be tried there.
        ({"bundle": HASH}, Place.CONFIRMED),
        ({}, Place.NOWHERE),
    ],
)
def test_where_the_bundle_lies(fields: dict[str, str], place: Place) -> None:
    assert read_told(state(**fields), HASH).place is place


def test_only_a_revert_of_this_bundle_counts() -> None:
    mine = state(bundle=OTHER, reverted="engine", reverted_bundle=HASH[:16])
    others = state(bundle=OTHER, reverted="engine", reverted_bundle="0" * 16)

    assert read_told(mine, HASH).reverted == "engine"
    assert read_told(others, HASH).reverted == ""


@pytest.mark.parametrize(
    ("word", "is_online"),
    [(StateWord.ONLINE, True), (StateWord.FAULT, True), (StateWord.OFFLINE, False)],
)
def test_a_station_with_a_fault_still_takes_commands(word: StateWord, is_online: bool) -> None:
    assert read_told(state(word), HASH).is_online is is_online
