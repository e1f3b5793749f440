"""What became of a rollout, for people and programs. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import msgspec

from lineside.fleet.plan import Plan
from lineside.fleet.progress import Phase, Progress, Undo
from lineside.fleet.rollout import Rollout

Outcome = Literal["confirmed", "incomplete", "stopped", "taken_back", "going_on"]
BY_HAND = "taken back by hand"


class StationResult(msgspec.Struct, frozen=True, kw_only=True):
    """Of one station.

    Attributes:
        wave: whose; ``""``: no wave reaches it.
        phase: where it stands.
        reason: why it failed or was reverted.
        undo: whether it gave the bundle back after a stop.
        undo_reason: why it did not.
    """

    station: str
    wave: str
    phase: Phase
    reason: str
    undo: Undo
    undo_reason: str


class RolloutResult(msgspec.Struct, frozen=True, kw_only=True):
    """Of all.

    Attributes:
        bundle: its hash, 64 hex digits.
        outcome: ``confirmed``: by all that a wave reaches; ``incomplete``: as many failed as may;
            ``stopped``: more did; ``taken_back``: by hand, and every station gave it back;
            ``going_on``: interrupted.
        stopped: why it stopped.
        counts: stations by phase.
        keeps: stations that were to give the bundle back and may have it still.
        stations: in the plan's order.
    """

    bundle: str
    product: str
    version: str
    outcome: Outcome
    stopped: str
    counts: dict[str, int]
    keeps: tuple[str, ...]
    stations: tuple[StationResult, ...]

    @property
    def is_good(self) -> bool:
        """Whether what was asked for is done, all of it."""
        return self.outcome in ("confirmed", "taken_back")


def sum_up(rollout: Rollout, *, bundle: str, product: str, version: str) -> RolloutResult:
    """Where a rollout stands.

    Args:
        rollout: finished or not.
        bundle: its hash, 64 hex digits.
        product, version: of the bundle.
    """
    progress = rollout.state.stations
    keeps = tuple(name for name, it in progress.items() if it.undo is Undo.REFUSED)
    return RolloutResult(
        bundle=bundle,
        product=product,
        version=version,
        outcome=_outcome(rollout, keeps),
        stopped=rollout.state.stopped,
        counts=count_phases(progress),
        keeps=keeps,
        stations=tuple(
            _of_station(name, wave, progress[name]) for name, wave in _waves(rollout.plan).items()
        ),
    )


def count_phases(progress: dict[str, Progress]) -> dict[str, int]:
    """How many stations are in each phase; phases that none is in are left out."""
    counted = Counter(it.phase for it in progress.values())
    return {phase.value: counted[phase] for phase in Phase if counted[phase]}


def _outcome(rollout: Rollout, keeps: tuple[str, ...]) -> Outcome:
    if not rollout.is_finished:
        return "going_on"
    if rollout.state.stopped == BY_HAND and not keeps:
        return "taken_back"
    if rollout.state.stopped:
        return "stopped"
    return "confirmed" if rollout.is_done else "incomplete"


def _waves(plan: Plan) -> dict[str, str]:
    reached = {name: wave.name for wave in plan.waves for name in wave.stations}
    return reached | dict.fromkeys(plan.rest, "")


def _of_station(name: str, wave: str, it: Progress) -> StationResult:
    return StationResult(
        station=name,
        wave=wave,
        phase=it.phase,
        reason=it.reason,
        undo=it.undo,
        undo_reason=it.undo_reason,
    )
