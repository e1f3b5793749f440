"""The one record that says which slot counts. Pure; kept twice, with a checksum and a sequence."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from lineside.slots.storage import SlotName


class SlotState(str, Enum):
    """In MCUboot's words.

    `EMPTY`: nothing there counts. `PENDING`: whole and verified, to be tried next. `TRIAL`: in use,
    until confirmed or reverted. `CONFIRMED`: in use, or what a revert of the other goes back to.
    `REVERT`: was confirmed before the one in use, and can be taken back.
    """

    EMPTY = "empty"
    PENDING = "pending"
    TRIAL = "trial"
    CONFIRMED = "confirmed"
    REVERT = "revert"


@dataclass(frozen=True, kw_only=True)
class SlotCard:
    """What the record knows of a bundle.

    Attributes:
        hash: the bundle's, 64 hex digits.
        size_bytes: of this copy.
        key_id: whose seal it is, 16 bytes.
        security_counter: as sealed.
    """

    hash: str
    size_bytes: int
    key_id: bytes
    security_counter: int


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """What is being written into the empty slot, so that it can go on after a cut.

    Attributes:
        sha256: of the whole file, 32 bytes.
        size_bytes: of the whole file.
    """

    sha256: bytes
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Reverted:
    """The last revert.

    Attributes:
        hash: of the bundle that was left, 64 hex digits.
        reason: why: ``self_test``, ``engine``, ``watchdog``, ``restarts``, ``disagreement``,
            ``damaged``, ``command``; at most 24 ASCII characters.
    """

    hash: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One slot as the record has it.

    Attributes:
        state: what counts there.
        card: of the bundle; ``None`` of an empty one.
        incoming: what an empty one is being filled with.
    """

    state: SlotState = SlotState.EMPTY
    card: SlotCard | None = None
    incoming: Incoming | None = None


@dataclass(frozen=True, kw_only=True)
class Record:
    """All of it. Changed by `lineside.slots.rules` alone.

    Attributes:
        sequence: rises with each change.
        slots: both.
        starts: of the program since the bundle is on trial.
        counters: the lowest security counter that still counts, by key id.
        reverted: the last revert; ``None``: there was none.
    """

    sequence: int = 0
    slots: dict[SlotName, Slot] = field(
        default_factory=lambda: {SlotName.A: Slot(), SlotName.B: Slot()}
    )
    starts: int = 0
    counters: dict[bytes, int] = field(default_factory=dict)
    reverted: Reverted | None = None

    def find(self, state: SlotState) -> SlotName | None:
        """The slot in this state."""
        return next((name for name, slot in self.slots.items() if slot.state is state), None)

    @property
    def active(self) -> SlotName | None:
        """What is to judge: the one on trial, else the confirmed one; ``None``: an empty store."""
        return self.find(SlotState.TRIAL) or self.find(SlotState.CONFIRMED)
