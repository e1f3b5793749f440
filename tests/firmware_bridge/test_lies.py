"""Firmware that lies, forgets and falls silent: a clear word, a bounded time, nothing half done."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from lying_sensor import Change, lying
from sensor_bundles import Family
from sensor_rig import Rig, Sealed
from tiny_bundle import TinyBundle

from lineside.bundle import load_trust
from lineside.errors import StorageError
from lineside.slots import SlotName
from lineside_bridge import session, trial, upload
from lineside_bridge.body import Body
from lineside_bridge.cli import sensor as cli_sensor
from lineside_bridge.cli.flash import flash as flash_verb
from lineside_bridge.cli.sensor import sensor as sensor_verbs
from lineside_bridge.client import Patience
from lineside_bridge.custom import GROUP, Command
from lineside_bridge.errors import SensorGarbledError, SensorRefusedError, UnprovenError
from lineside_bridge.flash import FlashTerms, flash_bundle
from lineside_bridge.framing import Framing
from lineside_bridge.header import Header, Operation
from lineside_bridge.link import SerialLink
from lineside_bridge.requests import IMAGE_GROUP, OS_GROUP, ImageCommand, OsCommand
from lineside_bridge.session import Session
from lineside_bridge.trial import Waits

FAST = 4_000_000
LINE = ("--baud", FAST, "--framing", "console")

Flash = Callable[..., Result]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers come at once here, or never."""
    monkeypatch.setattr(session, "_SLOW", Patience(answer_s=0.3, attempts=2))
    monkeypatch.setattr(session, "PATIENT", Patience(answer_s=0.3, attempts=2))
    monkeypatch.setattr(session, "ONCE", Patience(answer_s=0.1, attempts=1))
    monkeypatch.setattr(trial, "_POLL_S", 0.01)
    monkeypatch.setattr(cli_sensor, "_FOLLOW_S", 0.01)


@pytest.fixture
def flash(tiny_bundle: TinyBundle, family: Family, tmp_path: Path) -> Flash:
    """Brings a bundle in."""

    def call(port: str, *words: object, sealed: Sealed = family.new) -> Result:
        path = tmp_path / "new.lsb"
        path.write_bytes(sealed.data)
        trust = ("--trust", tiny_bundle.public_key_path, "--json")
        return run(flash_verb, path, "--port", port, *LINE, *trust, *words)

    return call


def run(command: Any, *words: object) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


def instead(group: int, command: int, body: Body | Callable[[Body], Body]) -> Change:
    """Answers to one command alone are lies."""

    def change(header: Header, said: Body) -> Body | None:
        if (header.group, header.command) != (group, command):
            return said
        return body(said) if callable(body) else body

    return change


def running(rig: Rig) -> bytes:
    assert rig.sensor.running is not None
    return bytes.fromhex(rig.sensor.running.checked.hash)


def last_revert(rig: Rig) -> str:
    reverted = rig.sensor.store.record.reverted
    return "" if reverted is None else reverted.reason


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"off": 10**9}, "says an offset of 1,000,000,000, and comes no further"),
        ({"off": -1}, "says no offset, and comes no further"),
        ({"off": float("nan")}, "says no offset"),
        ({"off": 0}, "says that it has 0, and comes no further"),
    ],
)
def test_an_offset_that_cannot_be_is_told(
    family: Family, flash: Flash, body: Body, words: str
) -> None:
    rig = family.rig()
    with lying(rig, instead(IMAGE_GROUP, ImageCommand.UPLOAD, body)) as port:
        result = flash(port)
    assert isinstance(result.exception, SensorGarbledError)
    assert words in str(result.exception)
    assert result.stdout == ""
    assert running(rig) == family.old.hash


def test_one_that_goes_back_for_ever_is_left(family: Family, flash: Flash) -> None:
    off = itertools.cycle((2000, 900, 300))

    def change(_header: Header, said: Body) -> Body:
        return {"off": next(off)} if "off" in said else said

    with lying(family.rig(), change) as port:
        result = flash(port)
    assert isinstance(result.exception, SensorGarbledError)
    assert "had less than before for 6 times" in str(result.exception)


@pytest.mark.parametrize(
    "body",
    [
        {"first": 0, "total": 3, "hashes": bytes(15)},
        {"first": 7, "total": 9, "hashes": bytes(16)},
        {"first": 0, "total": 2**50, "hashes": bytes(16)},
    ],
)
def test_page_hashes_that_cannot_be_cost_no_more_than_sending_all(
    family: Family, flash: Flash, body: Body
) -> None:
    rig = family.rig()
    with lying(rig, instead(GROUP, Command.PAGES, body)) as port:
        result = flash(port)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["sent_bytes"] == len(family.new.data)
    assert running(rig) == family.new.hash


def test_one_that_is_busy_for_ever_is_told_in_its_own_words(
    family: Family, flash: Flash, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "_BUSY_S", 0.001)
    change = instead(IMAGE_GROUP, ImageCommand.UPLOAD, {"rc": 10, "rsn": "erasing"})
    with lying(family.rig(), change) as port:
        result = flash(port)
    assert isinstance(result.exception, SensorGarbledError)
    assert "says no: erasing; ebusy (error 10), and comes no further" in str(result.exception)


def test_a_station_may_prove_for_longer_than_a_restart_takes(
    tiny_bundle: TinyBundle, family: Family, tmp_path: Path
) -> None:
    path, began_s = tmp_path / "new.lsb", time.monotonic()
    path.write_bytes(family.new.data)

    def change(header: Header, said: Body) -> Body:
        if said.get("hash") != family.new.hash or time.monotonic() - began_s > 1:
            return said
        lie = {Command.SLOT: "pending", Command.SELF_TEST: "running"}.get(header.command)
        return {**said, "state": lie} if lie else said

    rig = family.rig()
    terms = FlashTerms(waits=Waits(restart_s=0.3, selftest_s=20))
    trusted = load_trust(tiny_bundle.public_key_path)
    with (
        lying(rig, change) as port,
        Session(lambda: SerialLink(port, FAST), Framing.CONSOLE) as session,
    ):
        assert flash_bundle(session, path, trusted=trusted, terms=terms).state == "confirmed"
    assert running(rig) == family.new.hash


def lose(group: int, command: int, times: int) -> Change:
    """So many answers to what was written are lost."""
    left = [None] * times

    def change(header: Header, said: Body) -> Body | None:
        hit = (header.group, header.command) == (group, command)
        if hit and header.operation is Operation.WRITE_REPLY and left:
            return left.pop()
        return said

    return change


def test_a_revert_whose_answer_was_lost_is_no_refusal(family: Family) -> None:
    rig = family.rig()
    host = rig.host()
    host.flash(family.beside)
    with lying(rig, lose(GROUP, Command.REVERT, 1)) as port:
        result = run(sensor_verbs, "revert", "--port", port, *LINE)
        assert result.exit_code == 0, result.exception
        assert f"now {family.old.hash.hex()[:16]}" in result.output
        again = run(sensor_verbs, "revert", "--port", port, *LINE)
    assert isinstance(again.exception, SensorRefusedError)
    assert running(rig) == family.old.hash


def test_a_confirm_whose_answers_were_lost_is_looked_up_and_not_taken_back(
    family: Family, flash: Flash
) -> None:
    rig = family.rig()
    # Both attempts of the confirmation go unanswered, which was done at the first.
    lost = lose(IMAGE_GROUP, ImageCommand.STATE, 2)

    def change(header: Header, said: Body) -> Body | None:
        confirmed = rig.sensor.store.record.slots[SlotName.B].state.value == "confirmed"
        return lost(header, said) if confirmed else said

    with lying(rig, change) as port:
        result = flash(port)
    assert result.exit_code == 0, result.exception
    assert json.loads(result.stdout)["state"] == "confirmed"
    assert running(rig) == family.new.hash
    assert last_revert(rig) == ""


def test_a_reset_that_nobody_heard_is_not_called_done(family: Family) -> None:
    def change(header: Header, said: Body) -> Body | None:
        if (header.group, header.command) == (OS_GROUP, OsCommand.RESET):
            return None
        return {**said, "uptime_s": 9.0} if header.command == Command.HEALTH else said

    with lying(family.rig(), change) as port:
        result = run(sensor_verbs, "reset", "--port", port, *LINE)
    assert isinstance(result.exception, UnprovenError)
    assert "nobody knows whether it did" in str(result.exception)


def test_a_log_that_begins_anew_for_ever_is_left(family: Family) -> None:
    with lying(family.rig(), instead(GROUP, Command.LOG, {"first": 0, "lines": ["x"]})) as port:
        result = run(sensor_verbs, "log", "--port", port, *LINE)
    assert isinstance(result.exception, SensorGarbledError)


def test_a_log_that_grows_by_being_read_has_an_end(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_sensor, "_MOST_LINES", 20)
    count = itertools.count()
    change = instead(GROUP, Command.LOG, lambda _said: {"first": next(count), "lines": ["x"]})
    with lying(family.rig(), change) as port:
        result = run(sensor_verbs, "log", "--port", port, *LINE)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 20


def test_words_of_a_sensor_steer_no_terminal(family: Family, flash: Flash) -> None:
    lie = {"rc": 6, "rsn": "no\x1b[31m\nlineside: all is well"}
    with lying(family.rig(), instead(IMAGE_GROUP, ImageCommand.UPLOAD, lie)) as port:
        result = flash(port)
    assert "says no: no?[31m?lineside: all is well" in str(result.exception)


def test_a_field_that_cannot_be_has_a_remedy(family: Family) -> None:
    with lying(family.rig(), instead(GROUP, Command.DEVICE, {"capacity": -1})) as port:
        result = run(sensor_verbs, "info", "--port", port, *LINE)
    assert isinstance(result.exception, SensorGarbledError)
    assert "a fault of its firmware" in str(result.exception)


def survey_fails(rig: Rig) -> Change:
    """Once all is confirmed, what an inventory needs cannot be read any more."""

    def change(header: Header, said: Body) -> Body | None:
        state = rig.sensor.store.record.slots[SlotName.B].state.value
        asked = (header.group, header.command, header.operation)
        lie = asked == (IMAGE_GROUP, ImageCommand.STATE, Operation.READ_REPLY)
        return {"images": 5} if lie and state == "confirmed" else said

    return change


def test_the_report_is_told_where_the_inventory_fails(
    family: Family, flash: Flash, tmp_path: Path
) -> None:
    rig = family.rig()
    with lying(rig, survey_fails(rig)) as port:
        result = flash(port, "--inventory", tmp_path / "sensors.json")
    assert isinstance(result.exception, SensorGarbledError)
    assert json.loads(result.stdout)["state"] == "confirmed"


def test_an_inventory_that_fails_does_not_stop_a_gang(
    tiny_bundle: TinyBundle, family: Family, tmp_path: Path
) -> None:
    path, inventory = tmp_path / "new.lsb", tmp_path / "sensors.json"
    path.write_bytes(family.new.data)
    rig, other = family.rig(), family.rig()
    # The canary has two names, as /dev/serial/by-id has one more for each.
    with lying(rig, survey_fails(rig)) as port, lying(other, lambda _, said: said) as second:
        named = tmp_path / "by-id"
        named.symlink_to(port)
        ports = [word for each in (port, named, second) for word in ("--port", each)]
        trust = ("--trust", tiny_bundle.public_key_path, "--json", "--inventory", inventory)
        result = run(sensor_verbs, "gang", path, *ports, *LINE, *trust)
    assert isinstance(result.exception, SensorGarbledError)
    assert [each["fate"] for each in json.loads(result.stdout)] == ["done", "done"]
    first, last = json.loads(inventory.read_text())["sensors"]
    assert "cannot be" in first["error"]
    assert last["device"]["serial"] == "S-1"


@pytest.mark.parametrize("name", ["pipe", "missing/sensors.json"])
def test_where_no_inventory_can_be_nothing_is_begun(
    family: Family, flash: Flash, tmp_path: Path, name: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    rig = family.rig()
    with lying(rig, lambda _, said: said) as port:
        result = flash(port, "--inventory", tmp_path / name)
    assert isinstance(result.exception, StorageError)
    assert running(rig) == family.old.hash
    assert (tmp_path / "pipe").is_fifo()


def test_a_link_to_an_inventory_stays_one(family: Family, tmp_path: Path) -> None:
    link, kept = tmp_path / "link.json", tmp_path / "kept.json"
    link.symlink_to(kept)
    with lying(family.rig(), lambda _, said: said) as port:
        assert not run(sensor_verbs, "info", "--port", port, *LINE, "--inventory", link).exit_code
    assert link.is_symlink()
    assert json.loads(kept.read_text())["sensors"]


def test_nobody_reading_along_leaves_no_bundle_on_trial(
    tiny_bundle: TinyBundle, family: Family, tmp_path: Path
) -> None:
    path = tmp_path / "new.lsb"
    path.write_bytes(family.new.data)
    rig = family.rig()
    words = (path, *LINE, "--trust", tiny_bundle.public_key_path, "--port")
    # Whoever read has closed the other end.
    reading, writing = os.pipe()
    os.close(reading)
    with (
        lying(rig, lambda _, said: said) as port,
        os.fdopen(writing, "w", buffering=1) as gone,
        contextlib.redirect_stderr(gone),
    ):
        flash_verb.main([str(word) for word in (*words, port)], standalone_mode=False)
        with contextlib.suppress(BrokenPipeError):
            gone.close()
    assert rig.sensor.store.record.slots[SlotName.B].state.value == "confirmed"
