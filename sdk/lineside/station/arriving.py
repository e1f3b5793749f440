"""What a store's record wants to judge next is proved and opened, once, beside the inspection."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from lineside.errors import LinesideError, SelfTestError
from lineside.slots import Record, SlotCard, SlotName, SlotState
from lineside.station.proving import PROVE_LIMIT_S, Proving
from lineside.station.slotstart import Occupant, SlotOpener

# What did not open is tried again after so long, as long as the record wants it.
_AGAIN_S: Final = 30.0
# Each holds a thread, and what its engine has taken of the memory.
_LEFT_LIMIT: Final = 3


class Arrivals:
    """For the thread that watches the store.

    Args:
        opener: of the store.
        done: called when there is something to see, from another thread.
        limit_s: a proof may take so long; nothing ends the thread of one that hangs.
        again_s: what did not open is tried again after so long.
    """

    def __init__(
        self,
        opener: SlotOpener,
        done: Callable[[], None],
        *,
        limit_s: float = PROVE_LIMIT_S,
        again_s: float = _AGAIN_S,
    ) -> None:
        self._opener = opener
        self._done = done
        self._limit_s = limit_s
        self._again_s = again_s
        # Given up or dropped, and their threads run still.
        self._left: list[Proving] = []
        self._proving: Proving | None = None
        self._again_at_s = 0.0

    def look(self, record: Record, now: str) -> Occupant | LinesideError | None:
        """What has come of it, once; ``None``: nothing is wanted, or it is still under way.

        Args:
            record: of now.
            now: the bundle that judges, 64 hex digits.
        """
        wanted = wanted_of(record, now)
        proving = self._proving
        if proving is not None and (wanted is None or proving.card.hash != wanted[1].hash):
            self.drop()
            proving = None
        if proving is None:
            return None if wanted is None else self._begin(*wanted)
        found = proving.fetch()
        if found is not None:
            self._leave(proving)
        if isinstance(found, LinesideError):
            self.wait()
        return found

    def wait(self) -> None:
        """It could not be taken: try again some time later, as long as the record wants it."""
        self._again_at_s = time.monotonic() + self._again_s

    def drop(self) -> None:
        """Nothing is wanted any more."""
        if self._proving is not None:
            self._proving.drop()
            self._leave(self._proving)
        self._again_at_s = 0.0

    def _begin(self, slot: SlotName, card: SlotCard) -> LinesideError | None:
        """A proof, unless one that hangs would only get company."""
        if time.monotonic() < self._again_at_s:
            return None
        self._left = [one for one in self._left if one.is_running]
        if any(one.is_late and one.card.hash == card.hash for one in self._left):
            return SelfTestError(
                f"slot {slot.value}: the last proof of this bundle hangs in its engine still, and "
                "nothing ends it: install another one, or start the station anew"
            )
        if len(self._left) >= _LEFT_LIMIT:
            return LinesideError(
                f"slot {slot.value}: {len(self._left)} proofs of bundles before it have not ended: "
                "it waits for one of them; start the station anew where their engines hang"
            )
        proving = Proving(self._opener, slot, card, done=self._done, limit_s=self._limit_s)
        self._proving = proving
        return None

    def _leave(self, proving: Proving) -> None:
        self._proving = None
        if proving.is_running:
            self._left.append(proving)


def wanted_of(record: Record, now: str) -> tuple[SlotName, SlotCard] | None:
    """The slot to open: of the bundle that counts by now, else of one that waits for trial."""
    for slot in (record.active, record.find(SlotState.PENDING)):
        card = None if slot is None else record.slots[slot].card
        if slot is not None and card is not None and card.hash != now:
            return slot, card
    return None
