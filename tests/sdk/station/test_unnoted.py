"""A command that is done while the disk takes no note of it: no answer has it done twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from toy_slots import Bench, ToyStore

from lineside.bundle import PrivateKey
from lineside.errors import RefusedError
from lineside.mqtt.commands import Answer
from lineside.outbox import Note
from lineside.remote import Args, SignedCommand
from lineside.remote.verbs import VERBS, read_args
from lineside.sources import Trigger
from lineside.station.commanding import Announcer, Commands
from lineside.station.orders import Orders, Reach
from lineside.station.pausing import Pause
from lineside.station.repeating import Rebuilt
from lineside.station.standing import StandingFile

KEY = PrivateKey(bytes(32), name="operator").public
SHA256 = "ab" * 32


@dataclass
class Station:
    """Orders over a real store, on a disk that takes no notes while it is full."""

    made: Bench
    folder: Path
    is_full: bool = True
    kept: list[Note] = field(default_factory=list)
    waiting: list[Note] = field(default_factory=list)
    triggers: list[Trigger] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    sent: int = 0

    def __post_init__(self) -> None:
        products = self.made.products
        self.standing = StandingFile(self.folder / "orders")
        self.pause = Pause()
        commands = Commands(
            products=products,
            announcer=Announcer(lambda _: pytest.fail("nobody asked"), products.active),
            trigger=lambda trigger: self.triggers.append(trigger) is None,
            journal=self,
            mended=lambda _: None,
            keep_product=lambda _: None,
            later=lambda _: False,
            answer=lambda _: None,
        )
        reach = Reach(
            products=products,
            pause=self.pause,
            standing=self.standing,
            journal=self,
            rebuild=lambda *_: Rebuilt(payloads=(b"x",), waiting=0, left_out=0),
            repeat=self.repeat,
            is_repeating=lambda: False,
            answer=lambda _: None,
            slotting=lambda: self.made.slotting,
            receiving=lambda: self,  # type: ignore[arg-type, return-value]
        )
        self.orders = Orders(commands, reach)

    def note(self, note: Note) -> bool:
        self.waiting.append(note)
        return True

    def keep(self, note: Note, timeout_s: float) -> bool:
        if not self.is_full:
            self.kept.append(note)
        return not self.is_full

    def repeat(self, *_: object) -> None:
        self.sent += 1

    def begin(self, command: SignedCommand) -> None:
        self.begun.append(command.command_id)

    def do(self, verb: str, **args: Any) -> Answer | None:
        read: Args = read_args(verb, args, command_id="c1")
        return self.orders(
            SignedCommand(
                verb=verb,
                args=read,
                command_id="c1",
                key=KEY,
                nonce=bytes(16),
                signed_unix_ms=1,
                expires_unix_ms=2,
            )
        )

    def answer(self, verb: str, **args: Any) -> Answer:
        found = self.do(verb, **args)
        assert found is not None
        return found


@pytest.fixture
def station(tmp_path: Path) -> Station:
    toy = ToyStore(tmp_path / "slots")
    toy.install("1")
    toy.tried("2")
    return Station(made=Bench(toy, toy.keeper()), folder=tmp_path)


DONE: dict[str, dict[str, Any]] = {
    "trigger": {"part": "P1"},
    "pause": {},
    "resume": {},
    "set-limit": {"reset": True},
    "changeover": {"product": "level"},
    "confirm": {},
    "revert": {},
}
WRITTEN: dict[str, dict[str, Any]] = {
    "disposition": {"part": "P1", "evaluation": 1},
    "mended": {},
}


@pytest.mark.parametrize("verb", DONE)
def test_what_stands_is_answered_as_done_so_that_nobody_gives_it_again(
    station: Station, verb: str
) -> None:
    before = station.made.toy.states
    answer = station.answer(verb, **DONE[verb])
    assert answer.ok
    assert answer.detail.startswith("done, do not repeat it; but the disk does not take its note")
    assert len(station.triggers) == (verb == "trigger")
    assert station.pause.is_on == StandingFile(station.folder / "orders").orders.paused
    assert (station.made.toy.states != before) == (verb in ("confirm", "revert"))
    answer.then()
    station.is_full = False
    assert "note" not in station.answer("resume").detail


@pytest.mark.parametrize("verb", WRITTEN)
def test_what_is_a_note_itself_is_answered_as_not_written(station: Station, verb: str) -> None:
    answer = station.answer(verb, **WRITTEN[verb])
    assert not answer.ok
    assert "twice does no harm" in answer.detail


def test_an_install_goes_on_and_its_note_is_tried_again_when_it_is_asked_for_again(
    station: Station,
) -> None:
    assert station.do("install", sha256=SHA256, size=9) is None
    assert (station.begun, station.kept) == (["c1"], [])
    station.is_full = False
    for _ in range(2):
        assert station.do("install", sha256=SHA256, size=9) is None
    assert (len(station.begun), len(station.kept)) == (3, 1)


def test_a_range_is_not_sent_before_its_note_is_there(station: Station) -> None:
    assert not station.answer("range", first=1, last=2).ok
    assert station.sent == 0
    station.is_full = False
    assert station.do("range", first=1, last=2) is None
    assert station.sent == 1


def test_a_confirm_or_revert_given_once_more_by_another_id_is_refused(station: Station) -> None:
    bundle = station.made.toy.models["2"].bundle
    assert station.answer("confirm", bundle=bundle).ok
    with pytest.raises(RefusedError, match="no bundle is on trial"):
        station.do("confirm", bundle=bundle)
    assert station.answer("revert", bundle=bundle).ok
    with pytest.raises(RefusedError, match=f"is confirmed, not {bundle[:16]}"):
        station.do("revert", bundle=bundle)


def test_every_verb_was_thought_of() -> None:
    assert {*DONE, *WRITTEN, "install", "range"} == set(VERBS)
