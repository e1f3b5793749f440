"""From installed to confirmed, or reverted: read from the states that a station retains. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lineside.mqtt.state import StateMessage, StateWord

_DIGITS = 16


class Stage(str, Enum):
    """How far a bundle is on a station."""

    UNKNOWN = "unknown"
    PENDING = "pending"
    TRIAL = "trial"
    CONFIRMED = "confirmed"
    REVERTED = "reverted"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What the last state says.

    Attributes:
        is_online: the station speaks for itself; else ``stage`` is the last one known.
        reason: of a revert, the station's word.
    """

    stage: Stage = Stage.UNKNOWN
    is_online: bool = True
    reason: str = ""

    @property
    def is_final(self) -> bool:
        """Whether nothing more follows by itself."""
        return self.stage in (Stage.CONFIRMED, Stage.REVERTED)


class Following:
    """Follows one bundle on one station.

    Args:
        bundle: its hash, at least the first 16 hex digits.
        installed_ms: when the station said that it has it, by the station's clock: what it said
            before is of before.
        before: the last state of before; ``None``: none was heard.
    """

    def __init__(self, bundle: str, *, installed_ms: int, before: StateMessage | None) -> None:
        self.standing = Standing()
        self._bundle = bundle[:_DIGITS]
        self._installed_ms = installed_ms
        # The same bundle may have been reverted there before: such words are none of this time,
        # but where they are said again and it is nowhere.
        self._old = before is not None and before.reverted_bundle == self._bundle
        self._missed_ms = 0

    def hear(self, state: StateMessage) -> Standing:
        """Take a state, and say how it stands now."""
        if state.state is StateWord.OFFLINE:
            self.standing = Standing(stage=self.standing.stage, is_online=False)
        elif state.t >= self._installed_ms:
            self.standing = self._read(state)
        return self.standing

    def _read(self, state: StateMessage) -> Standing:
        if state.next == self._bundle:
            return self._at(Stage.PENDING)
        if state.bundle[:_DIGITS] == self._bundle:
            is_trial = state.slot_state == Stage.TRIAL.value
            return self._at(Stage.TRIAL if is_trial else Stage.CONFIRMED)
        if state.reverted_bundle != self._bundle:
            return Standing(stage=self.standing.stage)  # between two of them
        if self._old and self._missed_ms in (0, state.t):
            self._missed_ms = state.t
            return Standing(stage=self.standing.stage)
        return Standing(stage=Stage.REVERTED, reason=state.reverted)

    def _at(self, stage: Stage) -> Standing:
        self._missed_ms = 0
        return Standing(stage=stage)
