"""How far a station is after what it said, or did not say. Pure: one progress in, one out."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from lineside.fleet.progress import HAS_BUNDLE, IN_FLIGHT, Phase, Progress, Undo
from lineside.fleet.rules import Verb
from lineside.fleet.told import Place, Told

REVERT_REASON: Final = "rollout"
"""What stations that give the bundle back keep as their reason."""

# A station that told of an earlier revert of this bundle goes on telling of it while its state is
# one of before the new trial; it writes a state within a second of each change.
_SETTLE_MS: Final = 5000
_PHASES: Final = {
    Place.PENDING: Phase.PENDING,
    Place.TRIAL: Phase.TRIAL,
    Place.CONFIRMED: Phase.CONFIRMED,
}


def take_over(it: Progress, told: Told) -> Progress:
    """Of one that waits: what it says of itself before anything is sent to it by this process."""
    if told.place is Place.CONFIRMED:
        phase = Phase.CONFIRMED if it.is_ours else Phase.SKIPPED
        return replace(it, phase=phase, reason="")
    if told.place is not Place.NOWHERE:
        return replace(
            it,
            phase=_PHASES[told.place],
            reason="",
            is_ours=True,
            was_marked=_was_marked(it, told),
            placed_ms=told.at_ms,
        )
    if it.is_ours and told.reverted and not it.was_marked:
        # Sent by the process before this one, tried and left meanwhile.
        return replace(it, phase=Phase.REVERTED, reason=told.reverted, placed_ms=0)
    return it


def send(it: Progress, told: Told) -> Progress:
    """Of one that waits and has not the bundle: it is sent."""
    marked = _was_marked(it, told)
    return replace(it, phase=Phase.SENDING, reason="", is_ours=True, was_marked=marked)


def hear(it: Progress, told: Told, *, undoing: bool) -> Progress:
    """After a state of a station that is online.

    Args:
        undoing: stations are asked to give the bundle back.
    """
    if told.place is Place.NOWHERE:
        return _hear_nowhere(it, told, undoing=undoing)
    came_back = _has_come_back(it, told)
    after = it
    if it.phase in IN_FLIGHT or came_back:
        after = replace(
            it,
            phase=_PHASES[told.place],
            placed_ms=told.at_ms,
            reason="",
            was_marked=it.was_marked or came_back,
        )
    elif it.phase is Phase.FAILED and told.place is Place.CONFIRMED:
        # Late, but there: what is true counts.
        after = replace(it, phase=Phase.CONFIRMED, reason="", is_unsure=False)
    if it.undo is Undo.NOT_NEEDED or came_back:
        after = replace(after, undo=Undo.NO)
    return after


def answer(it: Progress, *, ok: bool, detail: str, at_ms: int) -> Progress:
    """After the answer to an install; see `Rollout.answer`."""
    if it.phase is not Phase.SENDING:
        return it
    if ok:
        return replace(it, phase=Phase.PENDING, placed_ms=at_ms, reason="")
    return replace(it, phase=Phase.FAILED, reason=detail or "refused")


def answer_undo(it: Progress, *, ok: bool, detail: str, at_ms: int) -> Progress:
    """After the answer to a revert."""
    if it.undo is not Undo.ASKED:
        return it
    if ok:
        return replace(
            it,
            phase=Phase.REVERTED,
            reason=REVERT_REASON,
            placed_ms=at_ms,
            undo=Undo.DONE,
            undo_reason="",
        )
    words = detail or "refused"
    # A trial can always be left: it has ended meanwhile, and how will be told.
    is_final = it.phase is Phase.CONFIRMED or it.undo_reason == words
    return replace(it, undo=Undo.REFUSED if is_final else Undo.NO, undo_reason=words)


def lose(it: Progress, verb: Verb, words: str) -> Progress:
    """After nobody knows what became of what was asked."""
    if verb is Verb.REVERT and it.undo is Undo.ASKED:
        return replace(it, undo=Undo.NO, undo_reason=words)
    if verb is Verb.INSTALL and it.phase is Phase.SENDING:
        return replace(it, phase=Phase.WAITING, reason=words)
    return it


def _hear_nowhere(it: Progress, told: Told, *, undoing: bool) -> Progress:
    """It has not the bundle: not yet, or not any more?"""
    if it.phase not in HAS_BUNDLE | IN_FLIGHT or (it.phase is Phase.CONFIRMED and not undoing):
        return it
    # One that was asked had said before that it has it: this is news then.
    was_asked = it.undo in (Undo.ASKED, Undo.REFUSED) or bool(it.undo_reason)
    is_new = was_asked or (bool(told.reverted) and not it.was_marked)
    is_late = it.phase is not Phase.SENDING and told.at_ms > it.placed_ms + _SETTLE_MS
    if not is_new and not (is_late and (undoing or told.reverted)):
        return it
    after = replace(it, phase=Phase.REVERTED, reason=told.reverted or "left", placed_ms=0)
    if not undoing:
        return after
    undo = Undo.DONE if told.reverted == REVERT_REASON else Undo.NOT_NEEDED
    return replace(after, undo=undo, undo_reason="")


def _has_come_back(it: Progress, told: Told) -> bool:
    """A lost install that was asked for twice may be done after the first one has failed."""
    is_late = told.at_ms > it.placed_ms + _SETTLE_MS
    return it.phase is Phase.REVERTED and it.is_ours and is_late


def _was_marked(it: Progress, told: Told) -> bool:
    """Whether it told of a revert of this bundle before this rollout sent it anything."""
    return it.was_marked if it.is_ours else bool(told.reverted)
