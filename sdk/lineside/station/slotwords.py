"""What a station's slots tell: the line, the journal, and people; and whom they tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from lineside.errors import RefusedError
from lineside.outbox import Note
from lineside.slots import Record, SlotName, SlotState
from lineside.station.hanging import leave_hung
from lineside.station.turn import Turn

OVERDUE: Final = "trial"
"""The state's ``warn`` while a trial goes on long beyond its end."""

_DIGITS: Final = 16
_EVENTS: Final = {
    "trial": "is on trial",
    "overdue": "is still on trial",
    "confirmed": "is confirmed",
    "reverted": "was taken back",
    "cancelled": "was not tried",
    "taken": "is in use",
}


@dataclass(frozen=True, kw_only=True)
class SlotWords:
    """For the state message; all empty of a bundle that lies in no store.

    Attributes:
        slot: ``a`` or ``b``: whose bundle judges.
        state: ``confirmed``, or ``trial``: it is not, or not any more.
        next: a bundle that waits for trial, 16 hex digits.
        reverted: why one was taken back last.
        reverted_bundle: which, 16 hex digits.
    """

    slot: str = ""
    state: str = ""
    next: str = ""
    reverted: str = ""
    reverted_bundle: str = ""


def describe_slots(record: Record, slot: SlotName, *, is_trial: bool) -> SlotWords:
    """Of a record, and of the slot whose bundle judges now."""
    pending = record.find(SlotState.PENDING)
    card = None if pending is None else record.slots[pending].card
    reverted = record.reverted
    return SlotWords(
        slot=slot.value,
        state=(SlotState.TRIAL if is_trial else SlotState.CONFIRMED).value,
        next="" if card is None else card.hash[:_DIGITS],
        reverted="" if reverted is None else reverted.reason,
        reverted_bundle="" if reverted is None else reverted.hash[:_DIGITS],
    )


def hash_in(record: Record, state: SlotState) -> str:
    """Of the bundle in the slot that is in this state, 64 hex digits; ``""``: none is."""
    slot = record.find(state)
    card = None if slot is None else record.slots[slot].card
    return "" if card is None else card.hash


def check_meant(meant: str, found: str, *, is_now: str) -> None:
    """Whether a command is about the bundle that it would change.

    Args:
        meant: how its hash begins; ``""``: whichever it is.
        found: of the bundle that would be changed, 64 hex digits.
        is_now: what that one is, for people.

    Raises:
        RefusedError: another one is meant.
    """
    if not found.startswith(meant):
        raise RefusedError(f"bundle: {found[:_DIGITS]} is {is_now}, not {meant[:_DIGITS]}")


def slot_note(event: str, *, product: str, bundle: str, reason: str, words: str) -> Note:
    """For the journal.

    Args:
        event: ``trial`` (begins), ``overdue`` (goes on long after its end), ``confirmed``,
            ``reverted``, ``cancelled`` (before its trial), ``taken`` (into use without one, by
            another process).
        product: of the store.
        bundle: that the event is about, 64 hex digits.
        reason: a word, as the store's record has it; ``""`` without a revert.
        words: more of it, for people.
    """
    body = {"event": event, "product": product, "bundle": bundle, "reason": reason, "words": words}
    return Note(kind="slot", body=msgspec.json.encode(body))


def tell_event(event: str, *, product: str, bundle: str, reason: str = "", words: str = "") -> str:
    """The same for people, on one line."""
    told = f"{product} {bundle[:_DIGITS]} {_EVENTS[event]}" + (f" ({reason})" if reason else "")
    return f"{told}: {words}" if words else told


def _leave(_turn: Turn, words: str) -> None:
    leave_hung(words)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a store's keeper needs of the station that runs.

    Attributes:
        note: writes into the journal.
        told: hears in words of what happened, for people.
        blamed: the same of what went wrong.
        changed: called when the state is to be told anew.
        wake: has the store looked at at once.
        rests: whether the inspection has nothing to do just now.
        leave: ends the process, which the part of this turn holds up; does not return.
        hang_limit_s: of whoever else watches for it.
    """

    note: Callable[[Note], object] = lambda _: None
    told: Callable[[str], None] = lambda _: None
    blamed: Callable[[str], None] = lambda _: None
    changed: Callable[[], None] = lambda: None
    wake: Callable[[], None] = lambda: None
    rests: Callable[[], bool] = lambda: True
    leave: Callable[[Turn, str], None] = _leave
    hang_limit_s: float = float("inf")
