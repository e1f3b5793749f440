"""A slot's bundle is proved and opened beside the running inspection."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from lineside.errors import LinesideError, SelfTestError
from lineside.slots import SlotCard, SlotName
from lineside.station.slotstart import Occupant, SlotOpener
from lineside.worker import Worker

# A model that is compiled for the device on first use may take minutes.
PROVE_LIMIT_S: Final = 600.0


class Proving:
    """First proved with low priority, then opened to stay, in two threads.

    Two, because an engine's own threads have for ever the priority of the thread that opens it, and
    the model will have to judge with that of the inspection.

    Attributes:
        slot: which.
        card: what lay there when it began.

    Args:
        opener: of the store.
        slot, card: see there.
        done: called when there is something to fetch, from another thread.
        limit_s: both together may take so long.
    """

    def __init__(
        self,
        opener: SlotOpener,
        slot: SlotName,
        card: SlotCard,
        *,
        done: Callable[[], None],
        limit_s: float = PROVE_LIMIT_S,
    ) -> None:
        self.slot = slot
        self.card = card
        self._opener = opener
        self._done = done
        self._limit_s = limit_s
        self._until_s = time.monotonic() + limit_s
        self._lock = threading.Lock()
        self._given_up = False
        self._found: Occupant | LinesideError | None = None
        self._proved = False
        self._worker = Worker(self._prove, name="lineside-prove", lowered=True)
        self._worker.start()

    @property
    def is_running(self) -> bool:
        """Whether its thread has not ended, wanted or not."""
        return not self._worker.join(0.0)

    @property
    def is_late(self) -> bool:
        """Whether its time is over."""
        return time.monotonic() > self._until_s

    def fetch(self) -> Occupant | LinesideError | None:
        """What came of it, once; ``None``: it is still under way. For the thread that began it."""
        if self._worker.failure is not None:
            raise self._worker.failure
        if self._proved:
            self._proved = False
            # Begun here, in a thread of ordinary priority, whose own it inherits.
            self._worker = Worker(self._open, name="lineside-open")
            self._worker.start()
        if self._found is None and time.monotonic() > self._until_s:
            return self._give_up()
        # Not held on to: who has it is to be seen, and a thread and its body hold each other.
        with self._lock:
            found, self._found = self._found, None
        return found

    def drop(self) -> None:
        """Nobody wants it any more."""
        with self._lock:
            self._given_up = True
            if isinstance(self._found, Occupant):
                self._found.loaded.close()
            self._found = None

    def _give_up(self) -> LinesideError:
        """The thread is left behind: nothing ends one that hangs in an engine."""
        self.drop()
        return SelfTestError(
            f"slot {self.slot.value}: was not proved within {self._limit_s:g} s: its engine hangs, "
            "or this machine is too slow for it"
        )

    def _prove(self) -> None:
        try:
            self._opener.prove(self.slot)
            self._proved = True
        except LinesideError as error:
            self._found = error
        self._done()

    def _open(self) -> None:
        found: Occupant | LinesideError
        try:
            found = self._opener.open(self.slot)
        except LinesideError as error:
            found = error
        with self._lock:
            if not self._given_up:
                self._found = found
            elif isinstance(found, Occupant):
                found.loaded.close()
        self._done()
