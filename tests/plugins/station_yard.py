"""Stations without camera and engine, many in one process; run as a program it takes its order.

    python station_yard.py order.json

Publisher, gate, worker of signed commands, receiving and store are Lineside's own. How a proof or a
trial ends is written in a script. The program ends when its standard input does, so that none
outlives the test that started it.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
from memory_spool import MemorySpool

from lineside.bundle import load_trust
from lineside.errors import RefusedError, SelfTestError
from lineside.fleet import topics_of
from lineside.installing import check_bundle_file, slot_file
from lineside.mqtt import Answer, MqttSettings, Publisher, StateMessage, StateWord
from lineside.mqtt.state import make_state
from lineside.remote import CommandKeys, CommandKeySettings, Gate, SignedCommand, load_command_keys
from lineside.remote.desk import RemoteDesk
from lineside.remote.keys import KeyRing
from lineside.remote.nonces import NonceFile
from lineside.remote.receiving import BundleReceiving
from lineside.remote.reception import SILENT_S, Destination, installed_words
from lineside.remote.verbs import RevertArgs
from lineside.slots import Incoming, SlotState, Store, open_store
from lineside.station.slotwords import check_meant
from lineside.worker import Worker

_LOOK_S: Final = 0.05
_HASH_CHARS: Final = 16
READY: Final = "ready"
# Beside its store, so that the next start of a station that has died knows.
_DIED: Final = "died"

Ending = Literal["confirms", "self_test", "reverts", "hangs", "dies"]


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a station does with a new bundle.

    Attributes:
        name: ``site/line/name``.
        ending: of its proof or trial; `dies`: in the midst of the transfer, once, and confirms
            when it was started again.
        after_s: so long the trial takes.
        has_it: the new bundle is its confirmed one already.
    """

    name: str
    ending: Ending = "confirms"
    after_s: float = 0.2
    has_it: bool = False


class YardOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For one process.

    Attributes:
        folder: for the stations' stores.
        command_key: whose commands count, ``.pub``.
        trust: whose seal, ``.pub``.
        old, new: bundles: the one that every station has, and the one that will come.
        silent_s: a sender that says nothing for so long gives way to another.
    """

    url: str
    folder: str
    command_key: str
    trust: str
    old: str
    new: str
    scripts: tuple[Script, ...]
    silent_s: float = SILENT_S


class YardStation:
    """One of them; `start` once."""

    def __init__(self, order: YardOrder, script: Script) -> None:
        self._order = order
        self._script = script
        self._folder = station_folder(Path(order.folder), script.name)
        self._folder.mkdir(parents=True, exist_ok=True)
        self.store = open_store(self._folder / "store", make=True)
        if self.store.record.active is None:
            put(self.store, Path(order.new if script.has_it else order.old), Path(order.trust))
        self._topics = topics_of(script.name)
        self._received_bytes = 0
        self._trial_since_s: float | None = None
        self._state = self._describe()
        self._publisher = Publisher(
            MqttSettings(
                url=order.url,
                keepalive_s=4,
                reconnect_min_s=0.05,
                reconnect_max_s=0.5,
                state_interval_s=2,
            ),
            topics=self._topics,
            spool=MemorySpool(),
            describe=lambda: self._state,
            handle=lambda _: Answer(ok=False, detail="no camera here"),
            remote=self._take,
        )
        self._receiving = BundleReceiving(
            self._find, answer=self._publisher.answer, silent_s=order.silent_s
        )
        self._desk = self._make_desk()

    def start(self) -> None:
        """Connect, and take commands."""
        self._receiving.start()
        self._desk.start()
        Worker(self._publisher.run, name=self._script.name).start()

    def live(self) -> None:
        """Often: what is pending goes on trial, what is on trial ends as its script says."""
        record = self.store.record
        if record.find(SlotState.PENDING) is not None:
            self.store.start_trial()
            self._trial_since_s = time.monotonic()
        elif record.find(SlotState.TRIAL) is not None:
            self._end_trial()
        self._tell()

    def _end_trial(self) -> None:
        since_s = self._trial_since_s
        if since_s is None:  # a trial of before a restart
            self._trial_since_s = since_s = time.monotonic()
        if time.monotonic() - since_s < self._script.after_s or self._script.ending == "hangs":
            return
        if self._script.ending == "reverts":
            self.store.revert("engine")
        else:
            self.store.confirm()

    def _tell(self) -> None:
        state = self._describe()
        if msgspec.structs.replace(state, t=0) != msgspec.structs.replace(self._state, t=0):
            self._publisher.wake()
        self._state = state

    def _describe(self) -> StateMessage:
        record = self.store.record
        active, pending, reverted = record.active, record.find(SlotState.PENDING), record.reverted
        card = None if active is None else record.slots[active].card
        next_card = None if pending is None else record.slots[pending].card
        return msgspec.structs.replace(
            make_state(StateWord.ONLINE),
            beat_s=2,
            bundle="" if card is None else card.hash,
            slot="" if active is None else active.value,
            slot_state="" if active is None else record.slots[active].state.value,
            next="" if next_card is None else next_card.hash[:_HASH_CHARS],
            reverted="" if reverted is None else reverted.reason,
            reverted_bundle="" if reverted is None else reverted.hash[:_HASH_CHARS],
        )

    def _make_desk(self) -> RemoteDesk:
        settings = CommandKeySettings(
            path=Path(self._order.command_key), verbs=("install", "revert", "confirm")
        )

        def load() -> CommandKeys:
            return load_command_keys([settings])

        ring = KeyRing(load)
        nonces = NonceFile(self._folder / "nonces")
        gate = Gate(station=self._topics, keys=ring.look(), nonces=nonces)
        desk = RemoteDesk(gate, ring=ring, execute=self._execute, answer=self._publisher.answer)
        desk.chunk = self._receiving.chunk
        return desk

    def _take(self, name: str, payload: bytes, retained: bool) -> bool:
        if name == "chunk":
            self._received_bytes += len(payload)
            self._die_halfway()
        return self._desk.take(name, payload, retained)

    def _die_halfway(self) -> None:
        died, size_bytes = self._folder / _DIED, Path(self._order.new).stat().st_size
        dies = self._script.ending == "dies" and not died.exists()
        if dies and self._received_bytes > size_bytes // 2:
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def _execute(self, command: SignedCommand) -> Answer | None:
        if command.verb == "install":
            return self._receiving.begin(command)
        if isinstance(command.args, RevertArgs):
            # Always named: a station that has left the bundle by itself would go one too far back.
            assert command.args.bundle
            active = self.store.record.find(SlotState.PENDING) or self.store.record.active
            card = None if active is None else self.store.record.slots[active].card
            assert card is not None
            check_meant(command.args.bundle, card.hash, is_now="here")
            self.store.revert(command.args.reason)
            return Answer(ok=True)
        raise RefusedError(f"{command.verb}: not here")

    def _find(self, _product: str) -> Destination:
        return Destination(store=self.store, check_room=lambda _: None, prove=self._prove)

    def _prove(self) -> str:
        if self._script.ending == "self_test":
            self.store.discard()
            raise SelfTestError("3 of 4 golden samples differ")
        slots = self.store.record.slots
        (arriving,) = [name for name, slot in slots.items() if slot.incoming is not None]
        trusted = load_trust(Path(self._order.trust))
        card = check_bundle_file(slot_file(self.store, arriving), trust=trusted).card
        slot = self.store.finish(card)
        return installed_words(self.store.record.slots[slot].state, slot, card.hash)


def station_folder(folder: Path, name: str) -> Path:
    """Where a station keeps its things."""
    return folder / name.replace("/", "-")


def put(store: Store, path: Path, trust: Path) -> None:
    """Make it the confirmed bundle of an empty store."""
    checked = check_bundle_file(path, trust=load_trust(trust))
    data = path.read_bytes()
    store.begin(Incoming(sha256=hashlib.sha256(data).digest(), size_bytes=len(data)))
    store.write(0, data)
    store.finish(checked.card)


def main(words: Sequence[str]) -> None:
    """Run until nobody holds our standard input open any more."""
    order = msgspec.json.decode(Path(words[0]).read_bytes(), type=YardOrder)
    stations = [YardStation(order, script) for script in order.scripts]
    for station in stations:
        station.start()
    Worker(lambda: _end_with(sys.stdin.fileno()), name="end").start()
    print(READY, flush=True)
    while True:
        for station in stations:
            station.live()
        time.sleep(_LOOK_S)


def _end_with(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
