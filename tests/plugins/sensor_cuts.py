"""Power cuts at flash operations, while a host brings a bundle in over the wire; what boots then?

A road is what a host does. It is gone once without a cut, to learn its flash operations; then
again, from a copy of the flash as it was, with a cut in one of them. At once, and after each boot
from then on, the sensor must judge by a bundle whose checks hold, the old one or the new one, and
no counter may have fallen. In the end the host, who goes on where it was, must have the new one
confirmed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from guarded_flash import GuardedFlash, Operation
from memory_link import MemoryLink
from sensor_rig import Host, Rig, Sealed

from lineside.errors import LinesideError
from lineside.slots import SlotState
from lineside_bridge.errors import SensorRefusedError
from lineside_bridge.framing import Framing
from lineside_bridge.sensor import FlashSensor

# Writes up to a record's size are torn at every byte; larger ones, and erases, at these.
RECORD_BYTES = 1024

Road = Callable[[Host, Sealed], None]


def bring(host: Host, new: Sealed) -> None:
    """Install: how every road begins."""
    host.upload(new.data)
    host.test(new.hash)


def confirm(host: Host, new: Sealed) -> None:
    """Install, trial, confirm."""
    bring(host, new)
    host.reset()
    host.confirm(new.hash)


def revert_trial(host: Host, new: Sealed) -> None:
    """Install, trial, back by command."""
    bring(host, new)
    host.reset()
    host.revert()


def revert_confirmed(host: Host, new: Sealed) -> None:
    """Install, trial, confirm, and back by command all the same."""
    confirm(host, new)
    host.revert()


def leave_unconfirmed(host: Host, new: Sealed) -> None:
    """Install, trial, and a restart without a word."""
    bring(host, new)
    host.reset()
    host.reset()


def cancel(host: Host, new: Sealed) -> None:
    """Install, and back before it was tried."""
    bring(host, new)
    host.revert()


def first(host: Host, new: Sealed) -> None:
    """Into flash that holds nothing."""
    bring(host, new)
    host.reset()


def fail(host: Host, new: Sealed) -> None:
    """Install what does not pass its golden self-test; the sensor leaves it by itself."""
    bring(host, new)
    host.reset()


ROADS: dict[str, Road] = {
    road.__name__: road
    for road in (confirm, revert_trial, revert_confirmed, leave_unconfirmed, cancel, first, fail)
}


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Where the power goes: an operation's number, and how much of it is done."""

    operation: int
    torn_bytes: int


@dataclass(kw_only=True)
class Tally:
    """What cuts left behind.

    Attributes:
        cuts, boots: so far.
        old, new: what judged after the first boot behind a cut.
        bad: each state that may not be, in words.
    """

    cuts: int = 0
    boots: int = 0
    old: int = 0
    new: int = 0
    bad: list[str] = field(default_factory=list)


class Trial:
    """One road over one flash, to be gone as often as there are cuts.

    Args:
        rig: with the old bundle confirmed, where there is one.
        road: what the host does.
        old: what judges before; ``None``: nothing.
        new: what is brought in.
        later: is installed in the end, to see that everything still works.
    """

    def __init__(
        self, rig: Rig, road: Road, *, old: Sealed | None, new: Sealed, later: Sealed
    ) -> None:
        self._rig = rig
        self._road = road
        self._old, self._new, self._later = old, new, later
        self._delivered = rig.flash
        self.operations = self._learn(road)

    def cuts(self, start: int = 0) -> Iterator[Cut]:
        """Every operation from one on; records at every byte, the others at some."""
        for number, (size, is_erase) in list(enumerate(self.operations))[start:]:
            yield Cut(operation=number, torn_bytes=0)
            if not size:
                continue
            some = {1, size // 2, size, size + 1}
            torn = range(1, size + 2) if size <= RECORD_BYTES and not is_erase else sorted(some)
            for torn_bytes in torn:
                yield Cut(operation=number, torn_bytes=torn_bytes)

    def sample(self, count: int, chance: random.Random) -> list[Cut]:
        """Some of them: half in records, half anywhere."""
        every = list(self.cuts())
        chosen = []
        for _ in range(count // 2):
            number = chance.randrange(len(self.operations))
            size = self.operations[number].size
            torn = chance.randrange(size + 2) if size else 0
            chosen.append(Cut(operation=number, torn_bytes=torn))
        return chosen + chance.sample(every, count - len(chosen))

    def go(self, cut: Cut, tally: Tally) -> None:
        """Once, with a cut."""
        rig = self._fresh()
        link = rig.link()
        rig.flash.cut_at(rig.flash.operations + cut.operation, cut.torn_bytes)
        host = Host(link.client(Framing.CONSOLE, rig.buffer_bytes), rig.buffer_bytes)
        known = [bundle for bundle in (self._old, self._new) if bundle is not None]
        watch = _Watch(tally, known, f"{self._road.__name__} {cut}", may_be_empty=not self._old)
        rig.seen = watch.look
        self._walk(host)
        tally.cuts += 1
        if not link.cuts:
            tally.bad.append(f"{watch.name}: no cut happened")
        tally.new += watch.first == self._new.hash
        tally.old += watch.first != self._new.hash
        self._finish(link, host, watch)

    def _walk(self, host: Host) -> None:
        """A refusal ends it: after a cut a host may find the sensor back at the old bundle."""
        try:
            self._road(host, self._new)
        except SensorRefusedError:
            return

    def _finish(self, link: MemoryLink, host: Host, watch: _Watch) -> None:
        watch.allow(self._later)
        try:
            if self._road is not fail:
                host.flash(self._new)
            host.flash(self._later)
        except LinesideError as error:
            watch.tell(f"a later install fails: {error}")
            return
        record = self._rig.sensor.store.record
        name = record.find(SlotState.CONFIRMED)
        card = None if name is None else record.slots[name].card
        if card is None or bytes.fromhex(card.hash) != self._later.hash:
            watch.tell("a later install is not what is confirmed")

    def fork(self) -> int:
        """The number of the first operation behind `bring`."""
        return len(self._learn(bring))

    def _learn(self, road: Road) -> list[Operation]:
        rig = self._fresh()
        host = Host(rig.link().client(Framing.CONSOLE, rig.buffer_bytes), rig.buffer_bytes)
        flash = rig.flash
        assert isinstance(flash, GuardedFlash)
        flash.done.clear()
        road(host, self._new)
        return list(flash.done)

    def _fresh(self) -> Rig:
        self._rig.flash = self._delivered.clone()
        self._rig.seen = lambda _sensor: None
        return self._rig


class _Watch:
    """Looks at each boot after a cut."""

    def __init__(
        self, tally: Tally, allowed: list[Sealed], name: str, *, may_be_empty: bool
    ) -> None:
        self.name = name
        self.first: bytes | None = None
        self._tally = tally
        self._allowed = {sealed.hash: sealed for sealed in allowed}
        self._may_be_empty = may_be_empty
        self._counters: dict[bytes, int] = {}

    def allow(self, sealed: Sealed) -> None:
        """This one may judge, too."""
        self._allowed[sealed.hash] = sealed

    def tell(self, words: str) -> None:
        """Something that may not be."""
        self._tally.bad.append(f"{self.name}: {words}")

    def look(self, sensor: FlashSensor) -> None:
        """After a boot."""
        self._tally.boots += 1
        running = sensor.running
        found = None if running is None else bytes.fromhex(running.checked.hash)
        sealed = None if found is None else self._allowed.get(found)
        if running is None or found is None:
            if not self._may_be_empty:
                self.tell("boots nothing")
        elif sealed is None or running.data != sealed.data:
            self.tell(f"boots {found.hex()[:16]}, which is neither")
        self._may_be_empty = self._may_be_empty and running is None
        self.first = self.first or found
        counters = sensor.store.record.counters
        for key, lowest in self._counters.items():
            if counters.get(key, 0) < lowest:
                self.tell(f"a counter fell from {lowest} to {counters.get(key, 0)}")
        self._counters = dict(counters)
