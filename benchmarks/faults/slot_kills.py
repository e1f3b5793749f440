"""``kill -9`` of a process that installs, switches, confirms and reverts in a real folder.

A child does one thing after the other, each announced before through a pipe; at a random moment it
is killed. Then the parent opens the store: what was active before the last thing announced, or what
was to be after it, must be active, whole and verified; no security counter may have fallen; and an
install must work.
"""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from slot_files import SlotFile, install_confirmed, send
from small_bundles import Factory

from lineside.bundle import open_bundle
from lineside.errors import LinesideError
from lineside.slots import FolderStorage, Record, SlotState, Store, open_store

_LONGEST_LIFE_S: Final = 0.12
_KILLS_A_GENERATION: Final = 50
_NOTHING: Final = "-"

Act = Callable[[Store], object]


class Deed(NamedTuple):
    """What the child is about to do; ``after`` is the hash of what is active then."""

    name: str
    before: str
    after: str
    act: Act

    def line(self) -> bytes:
        """For the pipe: short enough that it is written at once."""
        return f"{self.name},{self.before},{self.after}\n".encode()


@dataclass(kw_only=True)
class Outcome:
    """What came out.

    Attributes:
        kills: of the child.
        within: how often what was under way.
        deeds: that were done before the kills.
        old, new: what was active afterwards, where the two differ.
        counter: the highest of all.
        bad: states that may not be, in words.
    """

    kills: int = 0
    within: dict[str, int] = field(default_factory=dict)
    deeds: int = 0
    old: int = 0
    new: int = 0
    counter: int = 0
    bad: list[str] = field(default_factory=list)


def kill_often(folder: Path, times: int, chance: random.Random) -> Outcome:
    """Over one store, with two bundles at a time; every 50 kills two with a higher counter."""
    factory, outcome = Factory(), Outcome()
    for number in range(times):
        if number % _KILLS_A_GENERATION == 0:
            files = _seal_two(factory, number // _KILLS_A_GENERATION + 1)
            install_confirmed(open_store(folder, make=True), files[0])
        before = open_store(folder).record
        lines = _live_and_die(folder, files, chance)
        outcome.kills += 1
        try:
            _judge(folder, factory, before, lines, files, outcome)
        except (LinesideError, AssertionError) as error:
            outcome.bad.append(f"kill {number}: {type(error).__name__}: {error}")
            break
    return outcome


def _seal_two(factory: Factory, generation: int) -> list[SlotFile]:
    return [
        factory.seal(f"{generation}.{number}", counter=generation, part_bytes=20_000)
        for number in range(2)
    ]


def _live_and_die(folder: Path, files: list[SlotFile], chance: random.Random) -> list[str]:
    """Fork, wait, kill; what the child announced."""
    seed, life_s = chance.random(), chance.uniform(0, _LONGEST_LIFE_S)
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        _live(folder, files, random.Random(seed), sending)
    os.close(sending)
    time.sleep(life_s)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with os.fdopen(receiving, "rb") as pipe:
        lines = pipe.read().decode().splitlines()
    if not os.WIFSIGNALED(status):
        lines.append("ended by itself,,")
    return lines


def _live(folder: Path, files: list[SlotFile], chance: random.Random, sending: int) -> None:
    """The child; it never returns."""
    try:
        store = open_store(folder)
        while True:
            deed = _choose(store.record, files, chance)
            os.write(sending, deed.line())
            deed.act(store)
    finally:
        # Whatever ended it: it was not to end, and the parent says so.
        traceback.print_exc()
        os._exit(1)


def _choose(record: Record, files: list[SlotFile], chance: random.Random) -> Deed:
    """Anything that is allowed in this state."""
    now = _active_hash(record)
    confirmed = _hash_of(record, SlotState.CONFIRMED)
    deeds: list[Deed] = []
    if record.find(SlotState.TRIAL):
        deeds = [
            Deed("confirm", now, now, Store.confirm),
            Deed("count a start", now, now, Store.count_start),
            Deed("revert a trial", now, confirmed, _revert),
        ]
    elif record.find(SlotState.PENDING):
        pending = _hash_of(record, SlotState.PENDING)
        deeds = [Deed("switch", now, pending, Store.start_trial)] * 3
        deeds.append(Deed("cancel", now, now, _revert))
    else:
        deeds = [_installing(file, now) for file in files]
        if record.find(SlotState.REVERT):
            deeds += _going_back(record, now)
    return chance.choice(deeds)


def _installing(file: SlotFile, now: str) -> Deed:
    def act(store: Store) -> None:
        send(store, file, chunk_bytes=4096)
        store.finish(file.card)

    return Deed("install", now, now, act)


def _going_back(record: Record, now: str) -> Iterator[Deed]:
    """Where the counter allows it."""
    slot = record.find(SlotState.REVERT)
    card = None if slot is None else record.slots[slot].card
    if card is not None and card.security_counter >= record.counters.get(card.key_id, 0):
        yield Deed("go back", now, card.hash, _revert)


def _judge(
    folder: Path,
    factory: Factory,
    before: Record,
    lines: list[str],
    files: list[SlotFile],
    outcome: Outcome,
) -> None:
    name, old, new = lines[-1].split(",") if lines else ("open", *[_active_hash(before)] * 2)
    assert name != "ended by itself", "the child ended by itself"
    outcome.within[name] = outcome.within.get(name, 0) + 1
    outcome.deeds += max(0, len(lines) - 1)
    store = open_store(folder)
    record = store.record
    active = _check_bundles(store, factory)
    assert active in (old, new), f"{active} is active after {name}, it was {old}, {new} was to be"
    _check_counters(record, before)
    assert store.damage == "", store.damage
    outcome.old += active == old != new
    outcome.new += active == new != old
    outcome.counter = max(record.counters.values())
    _install_later(store, factory, files)


def _install_later(store: Store, factory: Factory, files: list[SlotFile]) -> None:
    """From whatever state, the one that is not active, up to its confirm."""
    record = store.record
    if record.find(SlotState.TRIAL) or record.find(SlotState.PENDING):
        store.revert("command")
    later = next(file for file in files if file.card.hash != _active_hash(store.record))
    install_confirmed(store, later)
    assert _check_bundles(store, factory) == later.card.hash, "the later install is not active"
    _check_counters(store.record, record)


def _check_bundles(store: Store, factory: Factory) -> str:
    """What judges, and what could be tried or taken back, by the seal of its file; its hash."""
    record, storage = store.record, store.storage
    assert record.active is not None and isinstance(storage, FolderStorage), "nothing is active"
    for name, slot in record.slots.items():
        if slot.card is not None:
            with open_bundle(storage.path_of(name), trust=factory.trusted) as bundle:
                assert bundle.hash == slot.card.hash, f"slot {name.value} holds another bundle"
    return _active_hash(record)


def _check_counters(record: Record, before: Record) -> None:
    for key_id, lowest in before.counters.items():
        assert record.counters.get(key_id, 0) >= lowest, f"counter fell below {lowest}"


def _active_hash(record: Record) -> str:
    return _hash_of(record, SlotState.TRIAL, SlotState.CONFIRMED)


def _hash_of(record: Record, *states: SlotState) -> str:
    for state in states:
        slot = record.find(state)
        card = None if slot is None else record.slots[slot].card
        if card is not None:
            return card.hash
    return _NOTHING


def _revert(store: Store) -> None:
    store.revert("command")
