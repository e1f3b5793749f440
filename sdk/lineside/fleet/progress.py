"""How far each station is, as the state file keeps it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

import msgspec


class Phase(str, Enum):
    """Where one station stands.

    `WAITING`: not touched yet. `SENDING`: the bundle is on its way, or the station verifies it.
    `PENDING`, `TRIAL`, `CONFIRMED`: as the station's own slot. `FAILED`: it will not come to that,
    or not in time. `REVERTED`: it was on trial or confirmed, and was left again. `SKIPPED`: it had
    the bundle confirmed before anything was sent.
    """

    WAITING = "waiting"
    SENDING = "sending"
    PENDING = "pending"
    TRIAL = "trial"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    REVERTED = "reverted"
    SKIPPED = "skipped"


INTERRUPTED = "interrupted"
IN_FLIGHT = frozenset({Phase.SENDING, Phase.PENDING, Phase.TRIAL})
SETTLED = frozenset({Phase.CONFIRMED, Phase.FAILED, Phase.REVERTED, Phase.SKIPPED})
# Of these the bundle is surely there.
HAS_BUNDLE = frozenset({Phase.PENDING, Phase.TRIAL, Phase.CONFIRMED})


class Undo(str, Enum):
    """How far a station is with giving the bundle back after a rollout has stopped."""

    NO = ""
    ASKED = "asked"
    DONE = "done"
    NOT_NEEDED = "not_needed"
    REFUSED = "refused"


UNDO_ENDED = frozenset({Undo.DONE, Undo.NOT_NEEDED, Undo.REFUSED})


class Progress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of one station.

    Attributes:
        phase: where it stands.
        reason: why it failed or reverted.
        is_ours: an install was sent to it, or it was found on trial while its wave ran.
        is_unsure: it failed, and nobody can say whether the bundle came to it nevertheless.
        was_marked: it told of an earlier revert of this bundle before anything was sent.
        placed_ms: its own clock when the bundle was last known to lie there, or by its answer to
            be given back, ms since 1970 UTC.
        undo: how far it is with giving the bundle back.
        undo_reason: why it does not.
    """

    phase: Phase = Phase.WAITING
    reason: str = ""
    is_ours: bool = False
    is_unsure: bool = False
    was_marked: bool = False
    placed_ms: int = 0
    undo: Undo = Undo.NO
    undo_reason: str = ""

    @property
    def is_settled(self) -> bool:
        """Whether its wave need not wait for it any more."""
        return self.phase in SETTLED

    @property
    def is_running(self) -> bool:
        """Whether something of it is still to come."""
        return self.phase in IN_FLIGHT or self.undo is Undo.ASKED

    @property
    def is_failure(self) -> bool:
        """Whether it counts against the rollout; what the rollout itself took back does not."""
        return self.phase is Phase.FAILED or (
            self.phase is Phase.REVERTED and self.undo is not Undo.DONE
        )

    @property
    def may_have_bundle(self) -> bool:
        """Whether this rollout may have left the bundle there."""
        return self.is_ours and (self.phase in HAS_BUNDLE or self.is_unsure)


class RolloutState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of all.

    Attributes:
        stations: by name; all of the station list, also those that no wave reaches.
        stopped: why nothing new is begun; ``""``: it goes on.
        is_undoing: stations are asked to give the bundle back.
    """

    stations: dict[str, Progress]
    stopped: str = ""
    is_undoing: bool = False


def fresh(stations: Iterable[str]) -> RolloutState:
    """Nothing done yet."""
    return RolloutState(stations={name: Progress() for name in stations})


def resumed(state: RolloutState) -> RolloutState:
    """What a new process goes on with: what the one before was in the midst of is begun again.

    A transfer goes on where the station has it; a revert that was asked for is asked for again.
    """
    return msgspec.structs.replace(
        state, stations={name: _resume(it, state) for name, it in state.stations.items()}
    )


def retried(state: RolloutState) -> RolloutState:
    """The same rollout once more for stations that failed or were reverted."""
    kept = (Phase.CONFIRMED, Phase.SKIPPED)
    return RolloutState(
        stations={
            name: msgspec.structs.replace(it, undo=Undo.NO, undo_reason="")
            if it.phase in kept
            else Progress()
            for name, it in state.stations.items()
        }
    )


def _resume(it: Progress, state: RolloutState) -> Progress:
    if it.undo is Undo.ASKED:
        return msgspec.structs.replace(it, undo=Undo.NO)
    if it.phase is not Phase.SENDING:
        return it
    if state.stopped:
        return msgspec.structs.replace(it, phase=Phase.FAILED, reason=INTERRUPTED, is_unsure=True)
    return msgspec.structs.replace(it, phase=Phase.WAITING)
