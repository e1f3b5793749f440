"""A station reduced to what commands from afar need: publisher, gate, receiving, and a store.

All of it is Lineside's own; what is left out is the camera and the model.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from memory_spool import MemorySpool

from lineside.bundle import PublicKey
from lineside.errors import LinesideError
from lineside.mqtt import Answer, MqttSettings, Publisher, StateMessage, StateWord, StationTopics
from lineside.mqtt.state import make_state
from lineside.remote import VERBS, CommandKeys, Gate, SignedCommand
from lineside.remote.desk import RemoteDesk
from lineside.remote.keys import KeyRing
from lineside.remote.nonces import NonceFile
from lineside.remote.receiving import BundleReceiving
from lineside.remote.reception import Destination, installed_words
from lineside.slots import SlotCard, SlotState, Store, open_store
from lineside.worker import Worker

TOPICS = StationTopics(site="plant1", line="line3", station="aoi1")


@dataclass(kw_only=True)
class RemoteStation:
    """Runs in this process; `stop` and `start` are a restart.

    Attributes:
        folder: for store and nonces.
        keys: who may tell it what.
        destination: proves what comes; ``None``: the store's own check of the hash and `proof`.
        proof: what is done beside that; may raise.
        done: commands in the order in which they were done.
    """

    url: str
    folder: Path
    keys: tuple[PublicKey, ...]
    topics: StationTopics = TOPICS
    verbs: tuple[str, ...] = VERBS
    download_from: str = ""
    clock_ahead_s: float = 0.0
    silent_s: float = 0.5
    destination: Callable[[Store], Destination] | None = None
    proof: Callable[[], None] = lambda: None
    check_room: Callable[[int], None] = lambda _: None
    state: StateMessage = field(default_factory=lambda: make_state(StateWord.ONLINE))
    spool: MemorySpool = field(default_factory=MemorySpool)
    done: list[SignedCommand] = field(default_factory=list)

    def start(self) -> None:
        self.store = open_store(self.folder / "store", make=True)
        self._nonces = NonceFile(self.folder / "nonces")
        ring = KeyRing(self._find_keys)
        gate = Gate(station=self.topics, keys=ring.look(), nonces=self._nonces)
        self.desk = RemoteDesk(
            gate,
            ring=ring,
            execute=self._execute,
            answer=lambda reply: self.publisher.answer(reply),
            now_unix_ms=lambda: time.time_ns() // 1_000_000 + round(self.clock_ahead_s * 1000),
        )
        self.publisher = Publisher(
            MqttSettings(
                url=self.url, reconnect_min_s=0.05, reconnect_max_s=0.2, state_interval_s=1
            ),
            topics=self.topics,
            spool=self.spool,
            describe=self._describe,
            handle=lambda _: Answer(ok=True),
            remote=self.desk.take,
        )
        self.receiving = BundleReceiving(
            self._find_destination,
            answer=self.publisher.answer,
            url=self.download_from,
            silent_s=self.silent_s,
        )
        self.desk.chunk = self.receiving.chunk
        self._sender = Worker(self.publisher.run, name="publisher")
        self.receiving.start()
        self.desk.start()
        self._sender.start()

    def stop(self) -> None:
        self.desk.stop(10)
        self.receiving.stop()
        self.publisher.stop(0.0)
        assert self._sender.join(10)
        for part in (self.desk, self.receiving, self._sender):
            part.check()
        self._nonces.close()

    def restart(self) -> None:
        self.stop()
        self.start()

    def bundle(self, state: SlotState) -> bytes | None:
        """What lies in the slot with this state."""
        record = open_store(self.folder / "store").record
        name = record.find(state)
        if name is None:
            return None
        card = record.slots[name].card
        assert card is not None
        return self.store.read(name, 0, card.size_bytes)

    def _describe(self) -> StateMessage:
        return msgspec.structs.replace(self.state, t=time.time_ns() // 1_000_000)

    def _find_keys(self) -> CommandKeys:
        return CommandKeys(
            keys={key.key_id: key for key in self.keys},
            verbs={key.key_id: frozenset(self.verbs) for key in self.keys},
        )

    def _execute(self, command: SignedCommand) -> Answer | None:
        if command.verb == "install":
            return self.receiving.begin(command)
        self.done.append(command)
        return Answer(ok=True)

    def _find_destination(self, _product: str) -> Destination:
        if self.destination is not None:
            return self.destination(self.store)
        return Destination(
            store=self.store, check_room=self.check_room, prove=lambda: self._prove(self.store)
        )

    def _prove(self, store: Store) -> str:
        try:
            self.proof()
        except LinesideError:
            store.discard()
            raise
        incoming = next(s.incoming for s in store.record.slots.values() if s.incoming)
        digest = incoming.sha256.hex()
        slot = store.finish(
            SlotCard(
                hash=digest, size_bytes=incoming.size_bytes, key_id=bytes(16), security_counter=0
            )
        )
        return installed_words(store.record.slots[slot].state, slot, digest)


@contextmanager
def running(station: RemoteStation) -> Iterator[RemoteStation]:
    """For as long as the block lasts."""
    station.start()
    try:
        yield station
    finally:
        station.stop()


def until(true: Callable[[], bool], *, limit_s: float = 20.0) -> None:
    """Wait for it; fail where it does not come."""
    deadline_s = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.005)


class Latch:
    """Holds up a proof until it is let go."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._go = threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self._go.wait(30)

    def release(self) -> None:
        self._go.set()
