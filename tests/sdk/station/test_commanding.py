"""What a station does when it is told something, and what it says about it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from lineside.errors import StorageError
from lineside.mqtt.commands import (
    Answer,
    ChangeoverCommand,
    DispositionCommand,
    MendedCommand,
    TriggerCommand,
)
from lineside.mqtt.desk import Reply
from lineside.mqtt.topics import COMMANDS
from lineside.outbox import Note
from lineside.sources import Trigger
from lineside.station.commanding import Announcer, Commands
from lineside.station.products import ModelCard, Product, Products


def product(name: str) -> Product:
    card = ModelCard(product=name, bundle=name[0] * 64, version="1", engine="mean/fp64")
    return Product(card=card, inspector=None)  # type: ignore[arg-type] - nobody inspects here


@dataclass
class Desk:
    """Commands with what they reach, written down."""

    takes_triggers: bool = True
    disk_stands: bool = False
    triggers: list[Trigger] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    jobs: list[Callable[[], None]] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    unsigned: tuple[str, ...] = COMMANDS
    is_busy: bool = False

    def __post_init__(self) -> None:
        self.led, self.diode = product("led"), product("diode")
        self.products = Products([self.led, self.diode])
        self.announcer = Announcer(self.tell, self.led)
        self.commands = Commands(
            products=self.products,
            announcer=self.announcer,
            trigger=self.trigger,
            journal=self,
            mended=self.mended.append,
            keep_product=self.keep_product,
            later=self.later,
            answer=self.replies.append,
            unsigned=self.unsigned,
        )

    def keep_product(self, name: str) -> None:
        if self.disk_stands:
            raise StorageError("outbox.orders: the disk is full")
        self.kept.append(name)

    def later(self, job: Callable[[], None]) -> bool:
        if not self.is_busy:
            self.jobs.append(job)
        return not self.is_busy

    def change_over(self, name: str, command_id: str = "") -> Answer:
        """Said, carried out by the other thread, and its answer not yet on its way."""
        assert self.commands.handle(ChangeoverCommand(product=name, id=command_id)) is None
        self.jobs.pop()()
        return self.replies[-1].answer

    def tell(self, announced: Product) -> threading.Event:
        self.told.append(announced.name)
        written = threading.Event()
        written.set()
        return written

    def trigger(self, trigger: Trigger) -> bool:
        self.triggers.append(trigger)
        return self.takes_triggers

    def note(self, note: Note) -> bool:
        if self.disk_stands:
            return False
        self.notes.append(note)
        return True


def test_a_trigger_goes_to_the_source_with_the_product_of_its_moment() -> None:
    desk = Desk()
    assert desk.commands.handle(TriggerCommand(part="P1")).ok
    assert desk.commands.handle(TriggerCommand(part="P2", product="diode")).ok
    assert [(one.part_id, one.product) for one in desk.triggers] == [
        ("P1", "led"),
        ("P2", "diode"),
    ]


def test_a_source_that_takes_no_trigger_is_said() -> None:
    answer = Desk(takes_triggers=False).commands.handle(TriggerCommand(part="P1"))
    assert not answer.ok
    assert "no trigger is taken" in answer.detail


def test_a_changeover_holds_from_the_moment_its_answer_is_on_its_way() -> None:
    desk = Desk()
    assert desk.commands.handle(ChangeoverCommand(product="diode", id="c1")) is None
    assert desk.kept == [], "it waits for the disk in another thread"
    desk.jobs.pop()()
    assert desk.kept == ["diode"]
    assert [(one.cmd, one.command_id) for one in desk.replies] == [("changeover", "c1")]
    answer = desk.replies[0].answer
    assert answer.ok
    assert desk.products.active is desk.led
    answer.then()
    assert desk.products.active is desk.diode
    assert [(note.kind, msgspec.json.decode(note.body)) for note in desk.notes] == [
        ("changeover", {"product": "diode", "bundle": "d" * 64})
    ]
    desk.announcer.announce(desk.diode)
    assert desk.told == []  # the answer has said it
    desk.announcer.announce(desk.led)  # a part that was triggered before
    desk.announcer.announce(desk.diode)
    assert desk.told == ["led", "diode"]


def test_a_trigger_right_behind_a_changeover_is_of_the_product_that_comes() -> None:
    # A PLC that does not wait for the answer: its messages keep their order all the same.
    desk = Desk()
    first = desk.change_over("diode")
    desk.commands.handle(TriggerCommand(part="P1"))
    second = desk.change_over("led")
    desk.commands.handle(TriggerCommand(part="P2"))
    first.then()
    desk.commands.handle(TriggerCommand(part="P3"))
    second.then()
    desk.commands.handle(TriggerCommand(part="P4"))
    assert [one.product for one in desk.triggers] == ["diode", "led", "led", "led"]
    assert desk.products.active is desk.led


def test_a_part_is_of_the_product_that_was_in_use_when_it_came() -> None:
    products = Products([product("led"), product("diode")])
    before_ns = time.monotonic_ns()
    products.activate("diode")
    after_ns = time.monotonic_ns()

    def found_at(at_ns: int) -> str:
        found = products.find("", at_ns=at_ns)
        assert found is not None
        return found.name

    assert [found_at(ns) for ns in (0, before_ns, after_ns)] == ["led", "led", "diode"]
    for _ in range(1000):  # a line that is never quiet takes no memory for it
        products.activate("led")
    assert [found_at(ns) for ns in (before_ns, time.monotonic_ns())] == ["led", "led"]


def test_a_changeover_to_what_is_not_there_changes_nothing() -> None:
    desk = Desk()
    answer = desk.commands.handle(ChangeoverCommand(product="relay"))
    answer.then()
    assert not answer.ok
    assert "there are led, diode" in answer.detail
    assert desk.products.active is desk.led


@pytest.mark.parametrize(
    ("given", "ok"),
    [
        ({"part": "P1", "evaluation": 2, "by": "J. Doe"}, True),
        ({"part": "P1", "evaluation": 1, "defect": "void"}, False),
        ({"verdict": "not an id", "evaluation": 1}, False),
    ],
)
def test_a_disposition_is_kept_or_refused_with_words(given: dict[str, Any], ok: bool) -> None:
    desk = Desk()
    answer = desk.commands.handle(DispositionCommand(**given))
    assert answer.ok is ok
    assert bool(answer.detail) is not ok
    assert [note.kind for note in desk.notes] == ["disposition"] * ok


def test_a_disposition_that_cannot_be_kept_is_not_promised() -> None:
    answer = Desk(disk_stands=True).commands.handle(DispositionCommand(part="P1", evaluation=1))
    assert not answer.ok
    assert "say it again" in answer.detail


@pytest.mark.parametrize("name", ["", "diode"])
def test_what_was_mended_takes_its_alarm_back_and_is_noted(name: str) -> None:
    desk = Desk()
    assert desk.commands.handle(MendedCommand(product=name, by="JD", note="new lamp")).ok
    assert desk.mended == [name]
    assert [note.kind for note in desk.notes] == ["mended"]
    assert msgspec.json.decode(desk.notes[0].body)["note"] == "new lamp"


def test_nothing_is_mended_of_what_is_not_there_or_not_noted() -> None:
    desk = Desk()
    assert not desk.commands.handle(MendedCommand(product="relay")).ok
    desk.disk_stands = True
    assert not desk.commands.handle(MendedCommand()).ok
    assert desk.mended == []


def test_triggers_go_by_the_last_changeover_though_the_disk_still_works_on_the_first() -> None:
    desk = Desk()
    for name in ("diode", "led", "diode"):
        assert desk.commands.handle(ChangeoverCommand(product=name)) is None
    while desk.jobs:
        desk.jobs.pop(0)()
        desk.commands.handle(TriggerCommand(part="P"))
    for reply in desk.replies:
        reply.answer.then()
    assert [one.product for one in desk.triggers] == ["diode"] * 3
    assert desk.kept == ["diode", "led", "diode"]
    assert desk.products.active is desk.diode


def test_a_changeover_that_cannot_be_kept_is_not_done() -> None:
    desk = Desk(disk_stands=True)
    answer = desk.change_over("diode", "c1")
    answer.then()
    assert (answer.ok, answer.detail) == (False, "outbox.orders: the disk is full")
    desk.commands.handle(TriggerCommand(part="P1"))
    assert desk.triggers[0].product == "led"
    assert desk.products.active is desk.led


def test_a_changeover_for_which_there_is_no_room_is_said_at_once() -> None:
    desk = Desk(is_busy=True)
    answer = desk.commands.handle(ChangeoverCommand(product="diode"))
    assert answer is not None
    assert answer.detail.startswith("busy: ")
    desk.commands.handle(TriggerCommand(part="P1"))
    assert desk.triggers[0].product == "led"


def test_what_must_be_signed_is_not_done_without() -> None:
    desk = Desk(unsigned=("trigger",))
    for command in (
        ChangeoverCommand(product="diode"),
        MendedCommand(),
        DispositionCommand(part="P1", evaluation=1),
    ):
        answer = desk.commands.handle(command)
        assert answer is not None
        assert (answer.ok, answer.detail[:14]) == (False, "must be signed")
        assert desk.commands.do(command).ok, "and with a signature it is"
    assert desk.commands.handle(TriggerCommand(part="P1")).ok
    assert desk.kept == ["diode"]
