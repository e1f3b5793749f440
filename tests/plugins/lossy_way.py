"""A sender and a station of one bundle, over a way that loses, doubles and reorders messages.

Virtual time, no threads, no broker: the sender is a real `Conversation`, the station a real
`Reception` over a real `Store` in simulated flash.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from lineside.mqtt import AckMessage
from lineside.mqtt.desk import Reply
from lineside.remote.chunk import pack_chunk
from lineside.remote.conversation import Conversation, Patience
from lineside.remote.events import (
    Action,
    Ask,
    Back,
    End,
    Event,
    Heard,
    Joined,
    Lost,
    Send,
    Taken,
    Tick,
    Upload,
)
from lineside.remote.reception import Destination, Reception, Request, installed_words
from lineside.slots import SimulatedFlash, SlotCard, SlotName, SlotState, Store

DELIVERED, LOST, DOUBLED, LATE = "delivered", "lost", "doubled", "late"
FATES = (DELIVERED, LOST, DOUBLED, LATE)
_WAY_S, _LATE_S, _TICK_S = 0.01, 2.0, 0.2


@dataclass
class Station:
    """What is left of it over a restart is its flash."""

    flash: SimulatedFlash
    proof_s: float = 0.0
    store: Store = field(init=False)
    reception: Reception = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.flash.restart()
        self.store = Store(self.flash)
        destination = Destination(store=self.store, check_room=lambda _: None, prove=self.prove)
        self.reception = Reception(lambda _: destination)

    def prove(self) -> str:
        """What is verified is the store's own check of the hash; the bytes are no bundle."""
        request = self.reception.request
        assert request is not None
        digest = request.sha256.hex()
        slot = self.store.finish(
            SlotCard(
                hash=digest, size_bytes=request.size_bytes, key_id=bytes(16), security_counter=0
            )
        )
        return installed_words(self.store.record.slots[slot].state, slot, digest)

    def bundles(self) -> dict[SlotName, bytes]:
        """What lies in the slots that count."""
        return {
            name: self.store.read(name, 0, slot.card.size_bytes)
            for name, slot in self.store.record.slots.items()
            if slot.card is not None and slot.state is not SlotState.EMPTY
        }


class Way:
    """Runs one installation to its end.

    Args:
        data: the file.
        fates: what becomes of each message in turn; after the last one all are delivered.
        troubles: after so many messages one of these: ``broker`` (away for 2 s), ``sender`` (ended
            and started again), ``station`` (likewise).
    """

    def __init__(
        self,
        data: bytes,
        *,
        fates: Iterable[str] = (),
        troubles: dict[int, str] | None = None,
        station: Station | None = None,
        patience: Patience | None = None,
        chunk_bytes: int = 512,
    ) -> None:
        self.now_s = 0.0
        self.sent_bytes = 0
        self.asked = 0
        self.offsets: list[int] = []
        self.ends: list[End] = []
        self.station = station or Station(SimulatedFlash(page_bytes=1024, slot_bytes=65536))
        self.data = data
        self._sha256 = hashlib.sha256(data).digest()
        self._fates: Iterator[str] = iter(fates)
        self._troubles = troubles or {}
        self._patience = patience or Patience()
        self._chunk_bytes = chunk_bytes
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._messages = 0
        self._ids = itertools.count(1)
        self._is_up = True
        self._era = 0
        self._sender = self._new_sender()

    def run(self, limit_s: float = 3000.0) -> End:
        """To the end; asserts that there is one."""
        self._feed(Joined())
        self._later(_TICK_S, self._tick)
        while not self.ends:
            self.now_s, _, act = heapq.heappop(self._due)
            assert self.now_s < limit_s, "it goes on for ever"
            act()
        return self.ends[0]

    def _new_sender(self) -> Conversation:
        return Conversation(
            "install",
            f"sender{next(self._ids)}",
            self.now_s,
            upload=Upload(size_bytes=len(self.data), chunk_bytes=self._chunk_bytes),
            patience=self._patience,
        )

    def _tick(self) -> None:
        self._feed(Tick())
        self._later(_TICK_S, self._tick)

    def _later(self, pause_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now_s + pause_s, next(self._order), act))

    def _feed(self, event: Event) -> None:
        for action in self._sender.step(event, self.now_s):
            self._act(action)
        self.offsets.append(self._sender.offset)

    def _act(self, action: Action) -> None:
        if isinstance(action, End):
            self.ends.append(action)
        elif self._is_up:
            self._pass(lambda: self._to_station(action))
            self._later(_WAY_S, lambda: self._feed(Taken()))

    def _pass(self, arrive: Callable[[], None]) -> None:
        """A message on its way; what is under way when the broker goes never arrives."""
        era, fate = self._era, next(self._fates, DELIVERED)
        copies = {DELIVERED: (_WAY_S,), LOST: (), DOUBLED: (_WAY_S, _WAY_S), LATE: (_LATE_S,)}
        for pause_s in copies[fate]:
            self._later(pause_s, lambda: arrive() if era == self._era else None)
        self._messages += 1
        if trouble := self._troubles.get(self._messages):
            self._later(0.0, getattr(self, f"_trouble_{trouble}"))

    def _to_station(self, action: Action) -> None:
        reception = self.station.reception
        if isinstance(action, Ask):
            self.asked += 1
            request = Request(
                command_id=action.command_id, sha256=self._sha256, size_bytes=len(self.data)
            )
            replies = reception.begin(request, self.now_s)
        else:
            assert isinstance(action, Send)
            begin, size = action.stretch.offset, action.stretch.size_bytes
            self.sent_bytes += size
            chunk = pack_chunk(
                sha256=self._sha256, offset=begin, data=self.data[begin : begin + size]
            )
            replies = reception.take([chunk], self.now_s)
        self._from_station(replies)
        if reception.whole:
            self._from_station(reception.prove())

    def _from_station(self, replies: list[Reply]) -> None:
        for reply in replies:
            ack = AckMessage(
                id=reply.command_id,
                cmd=reply.cmd,
                ok=reply.answer.ok,
                detail=reply.answer.detail,
                t=0,
            )
            self._pass(lambda ack=ack: self._feed(Heard(ack=ack)))  # type: ignore[misc]

    def _trouble_broker(self) -> None:
        self._era += 1
        self._is_up = False
        self._feed(Lost(words="gone"))
        self._later(2.0, self._broker_back)

    def _broker_back(self) -> None:
        self._is_up = True
        self._feed(Joined())

    def _trouble_sender(self) -> None:
        self._era += 1
        self._sender = self._new_sender()
        if self._is_up:
            self._feed(Joined())

    def _trouble_station(self) -> None:
        self.station.restart()
        self._feed(Back())
