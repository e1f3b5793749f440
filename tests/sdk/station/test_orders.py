"""A station that takes signed commands over a real broker: done, durable, answered, and refused."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import msgspec
import paho.mqtt.publish
import pytest
from mosquitto_broker import Mosquitto
from tiny_bundle import TinyBundle, tiny_frame

from lineside.bundle import PrivateKey, revoke_key
from lineside.bundle.keys import encode_public_key
from lineside.errors import ConfigurationError, StorageError
from lineside.outbox.reading import open_journal
from lineside.remote import sign_command
from lineside.station import Station, open_station, read_configuration

ROOT = "lineside/v1/plant1/line3/aoi1"
STATION = "plant1/line3/aoi1"
OPERATOR = PrivateKey(bytes(range(32)), name="operator")
OFFICE = PrivateKey(bytes(range(1, 33)), name="office")
TOML = """
[station]
site = "plant1"
line = "line3"
name = "aoi1"
[[bundle]]
path = "{bundle}"
trust = ["trust"]
engine = "onnxruntime"
threads = 1
[[bundle]]
path = "{other}"
trust = ["trust"]
engine = "onnxruntime"
threads = 1
[source]
kind = "folder"
path = "frames"
watch = true
settle_ms = 0
poll_ms = 10
[keep]
path = "kept"
[mqtt]
url = "{url}"
state_interval_s = 60
[commands]
unsigned = ["trigger"]
[[commands.keys]]
path = "keys/operator.pub"
verbs = ["pause", "resume", "set-limit", "changeover", "disposition", "mended", "range"]
[[commands.keys]]
path = "keys/office.pub"
verbs = ["install", "confirm", "revert"]
"""


class Hall:
    """A station that can be started again, and who tells it what; heard by plain paho."""

    def __init__(self, folder: Path, broker: Mosquitto, ear: Any) -> None:
        self.folder = folder
        self.broker = broker
        self.ear = ear
        self.station: Station | None = None
        self._ids = itertools.count(1)
        self._frames = itertools.count(1)

    @contextlib.contextmanager
    def running(self) -> Iterator[Station]:
        configuration = read_configuration(self.folder / "station.toml")
        with open_station(configuration) as station:
            self.station = station
            thread = threading.Thread(target=station.run, kwargs={"drain_timeout_s": 20.0})
            before = len(self.payloads("state"))
            thread.start()
            self.wait(lambda: len(self.payloads("state")) > before)
            try:
                yield station
            finally:
                station.stop()
                thread.join(30)
                assert not thread.is_alive()

    def wait(self, condition: Callable[[], Any], timeout_s: float = 20.0) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline_s, "did not come true in time"
            time.sleep(0.01)

    def payloads(self, kind: str) -> list[dict[str, Any]]:
        return [json.loads(data) for data in self.ear.payloads(kind)]

    def publish(self, name: str, payload: bytes | str, *, retain: bool = False) -> None:
        paho.mqtt.publish.single(
            f"{ROOT}/cmd/{name}", payload, qos=1, retain=retain, port=self.broker.port
        )

    def answer_to(self, command_id: str) -> dict[str, Any]:
        self.wait(lambda: any(one["id"] == command_id for one in self.payloads("ack")))
        return next(one for one in self.payloads("ack") if one["id"] == command_id)

    def say(self, verb: str, key: PrivateKey = OPERATOR, **args: Any) -> dict[str, Any]:
        """Sign it, send it, and wait for the answer."""
        command_id = f"c{next(self._ids)}"
        payload = sign_command(
            key,
            verb=verb,
            station=STATION,
            args=args,
            command_id=command_id,
            now_unix_ms=time.time_ns() // 1_000_000,
        )
        self.publish("signed", payload)
        return self.answer_to(command_id)

    def judge(self, *, bright: bool = False) -> dict[str, Any]:
        """Present a part, and wait for its verdict."""
        name = f"part-{next(self._frames):03d}"
        aside = self.folder / f"{name}.tmp"
        image = tiny_frame(bright=bright, seed=7)
        aside.write_bytes(cv2.imencode(".png", image)[1].tobytes())
        aside.rename(self.folder / "frames" / f"{name}.png")
        self.wait(lambda: any(one["part"] == name for one in self.payloads("verdict")))
        return next(one for one in self.payloads("verdict") if one["part"] == name)

    def notes(self, kind: str) -> list[dict[str, Any]]:
        with open_journal(self.folder / "outbox.sqlite") as journal:
            return [json.loads(note.body) for note in journal.notes(kind)]


@pytest.fixture
def hall(tmp_path: Path, broker: Mosquitto, ear: Any, tiny_bundle: TinyBundle) -> Hall:
    for name in ("trust", "frames", "keys"):
        (tmp_path / name).mkdir()
    (tmp_path / "trust" / "tiny.pub").write_bytes(tiny_bundle.public_key_path.read_bytes())
    for key in (OPERATOR, OFFICE):
        file = tmp_path / "keys" / f"{key.public.name}.pub"
        file.write_bytes(encode_public_key(key.public))
    identity = msgspec.structs.replace(tiny_bundle.manifest.identity, product="other")
    other = tmp_path / "other.lsb"
    tiny_bundle.reseal(
        other, manifest=msgspec.structs.replace(tiny_bundle.manifest, identity=identity)
    )
    text = TOML.format(bundle=tiny_bundle.path, other=other, url=broker.url)
    (tmp_path / "station.toml").write_text(text, encoding="utf-8")
    return Hall(tmp_path, broker, ear)


def test_a_paused_station_decides_nothing_says_so_and_stays_paused_over_a_restart(
    hall: Hall,
) -> None:
    with hall.running():
        assert hall.judge()["ev"] == 1
        assert hall.say("pause")["ok"]
        verdict = hall.judge()
        assert (verdict["ev"], verdict["reason"], verdict["code"]) == (3, "paused", 23)
        assert verdict["score"] is None
        hall.wait(lambda: hall.payloads("state")[-1]["warn"] == "paused")
        assert hall.payloads("state")[-1]["state"] == "online"
        assert hall.say("pause")["ok"], "one that is paused already"
    with hall.running():
        hall.wait(lambda: hall.payloads("state")[-1]["warn"] == "paused")
        assert hall.judge(bright=True)["reason"] == "paused"
        assert hall.say("resume")["ok"]
        assert hall.judge(bright=True)["ev"] == 2
        hall.wait(lambda: hall.payloads("state")[-1]["warn"] == "")
    with hall.running():
        assert hall.judge()["ev"] == 1
    kept = [file.name for file in (hall.folder / "kept").glob("*.frame.png")]
    assert kept == [], "what is seen in a pause is nothing to learn from"
    told = [(note["verb"], note["key"], note["name"]) for note in hall.notes("command")]
    key_id = OPERATOR.public.key_id.hex()
    assert told == [(verb, key_id, "operator") for verb in ("pause", "pause", "resume")]


def test_limits_are_tightened_from_the_next_part_on_and_stay_so_over_a_restart(
    hall: Hall, tiny_bundle: TinyBundle
) -> None:
    with hall.running() as station:
        bundle = station.model.bundle
        assert (hall.judge()["ev"], hall.payloads("state")[-1]["limits"]) == (1, "sealed")
        answer = hall.say("set-limit", bundle=bundle[:16], ok=0.1, not_ok=0.15)
        assert (answer["ok"], answer["detail"]) == (True, "ok 0.1, not_ok 0.15")
        verdict = hall.judge()
        assert (verdict["ev"], verdict["limit"]) == (2, 0.15)
        hall.wait(lambda: hall.payloads("state")[-1]["limits"] == "tightened")
        state = hall.payloads("state")[-1]
        assert (state["ok"], state["not_ok"], state["sealed_ok"]) == (0.1, 0.15, 0.5)
        # Looser than before, and still no looser than the station's file.
        assert hall.say("set-limit", bundle=bundle, not_ok=0.55)["ok"]
        assert hall.judge()["ev"] == 1
        other = station.products.find("other")
        assert other is not None
        assert other.card.limits.source == "sealed"
    with hall.running() as station:
        assert station.model.limits.effective.not_ok_limit == 0.55
        assert hall.say("set-limit", reset=True)["ok"]
        assert station.model.limits.source == "sealed"
    with hall.running() as station:
        assert station.model.limits.source == "sealed"


def test_limits_that_loosen_or_are_for_another_bundle_are_refused(hall: Hall) -> None:
    with hall.running() as station:
        bundle = station.model.bundle
        refused = [
            hall.say("set-limit", bundle=bundle, ok=0.51),
            hall.say("set-limit", bundle=bundle, not_ok=0.7),
            hall.say("set-limit", bundle=bundle, not_ok=0.4, ok=0.45),
            hall.say("set-limit", bundle="0" * 16, ok=0.1),
            hall.say("set-limit", bundle=bundle, ok=0.1, product="relay"),
        ]
        assert [one["ok"] for one in refused] == [False] * 5
        words = [one["detail"] for one in refused]
        assert words[0].startswith("ok: ok_limit 0.51 raises the sealed 0.5: a station may only")
        assert words[1].startswith("not_ok: not_ok_limit 0.7 raises")
        assert words[3] == f"bundle: {bundle[:16]} is in use, not {'0' * 16}"
        assert words[4].startswith("product: no bundle for it; there are")
        assert station.model.limits.source == "sealed"
        assert hall.judge()["ev"] == 1
    assert not (hall.folder / "outbox.sqlite.orders").exists()
    assert hall.notes("command") == []


def test_limits_do_not_outlive_their_bundle_and_the_journal_says_so(
    hall: Hall, tiny_bundle: TinyBundle
) -> None:
    with hall.running() as station:
        before = station.model.bundle
        assert hall.say("set-limit", bundle=before, ok=0.1)["ok"]
    identity = msgspec.structs.replace(tiny_bundle.manifest.identity, version="2.0.0")
    newer = hall.folder / "newer.lsb"
    tiny_bundle.reseal(
        newer, manifest=msgspec.structs.replace(tiny_bundle.manifest, identity=identity)
    )
    file = hall.folder / "station.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(str(tiny_bundle.path), str(newer)), encoding="utf-8")
    with hall.running() as station:
        assert station.model.bundle != before
        assert station.model.limits.source == "sealed"
        assert hall.judge()["ev"] == 1
    assert [(one["applies"], one["set_for"], one["ok"]) for one in hall.notes("limits")] == [
        (False, before, 0.1)
    ]
    # The bundle before is back, as after a revert.
    file.write_text(text, encoding="utf-8")
    with hall.running() as station:
        assert station.model.limits.effective.ok_limit == 0.1


def test_a_changeover_stands_over_a_restart_and_must_be_signed_here(hall: Hall) -> None:
    with hall.running() as station:
        first = station.model.product
        hall.publish("changeover", '{"id":"u1","product":"other"}')
        answer = hall.answer_to("u1")
        assert (answer["ok"], answer["detail"][:14]) == (False, "must be signed")
        assert station.model.product == first
        assert station.control.counts == {"refused_unsigned": 1}
        assert hall.say("changeover", product="other")["ok"]
        hall.wait(lambda: station.model.product == "other")
        hall.wait(lambda: hall.payloads("state")[-1]["product"] == "other")
    with hall.running() as station:
        assert station.model.product == "other"
        heard = len(hall.payloads("ack"))
        hall.judge()
        told = hall.payloads("ack")[heard:]
        assert [(one["cmd"], one["detail"]) for one in told] == [("changeover", "other")]
    # With its bundle gone, the first of the file is in use again.
    text = (hall.folder / "station.toml").read_text(encoding="utf-8")
    head, _, rest = text.partition("[[bundle]]")
    one, _, two = rest.partition("[[bundle]]")
    only_first = f"{head}[[bundle]]{one}{two[two.index('[source]') :]}"
    (hall.folder / "station.toml").write_text(only_first, encoding="utf-8")
    with hall.running() as station:
        assert station.model.product == first
        hall.judge()
    assert hall.notes("changeover")[-1]["gone"] == "other"


def test_a_range_comes_again_byte_for_byte(hall: Hall) -> None:
    with hall.running() as station:
        for number in range(6):
            hall.judge(bright=number % 3 == 0)
        hall.say("pause")
        hall.judge()
        hall.wait(lambda: station.outbox.waiting == 0)
        first_time = hall.ear.payloads("verdict")
        answer = hall.say("range", first=3, last=9)
        assert (answer["ok"], answer["detail"]) == (True, "5 sent, 0 wait, 2 left out")
        assert hall.ear.payloads("history") == first_time[2:7]
        assert station.outbox.acknowledged == 7, "none of them counts twice"
        nothing = hall.say("range", first=100, last=200)
        assert (nothing["ok"], nothing["detail"]) == (False, "0 sent, 0 wait, 101 left out")


def test_a_range_that_is_asked_for_again_while_it_comes_is_answered_once(hall: Hall) -> None:
    def signed(command_id: str) -> bytes:
        return sign_command(
            OPERATOR,
            verb="range",
            station=STATION,
            args={"first": 1, "last": 2},
            command_id=command_id,
            now_unix_ms=time.time_ns() // 1_000_000,
        )

    with hall.running() as station:
        for _ in range(2):
            hall.judge()
        hall.wait(lambda: station.outbox.waiting == 0)
        hall.broker.stall()
        station.control.take("signed", signed("one"), False)
        hall.wait(lambda: station.publisher.repeats.is_busy)
        station.control.take("signed", signed("one"), False)
        station.control.take("signed", signed("another"), False)
        judged = threading.Event()
        station.control._desk.later(judged.set)
        assert judged.wait(20)
        hall.broker.resume()
        assert hall.answer_to("another")["detail"].startswith("busy: another range")
        assert hall.answer_to("one")["ok"]
        assert [one["ok"] for one in hall.payloads("ack") if one["id"] == "one"] == [True]


def test_each_refusal_is_answered_counted_and_leaves_nothing_behind(hall: Hall) -> None:
    with hall.running() as station:
        stranger = PrivateKey(bytes(32), name="stranger")
        assert hall.say("pause", stranger)["detail"].startswith("stranger: ")
        assert hall.say("pause", OFFICE)["detail"].startswith("not_allowed: ")
        sound = sign_command(
            OPERATOR,
            verb="pause",
            station=STATION,
            args={},
            command_id="again",
            now_unix_ms=time.time_ns() // 1_000_000,
        )
        hall.publish("signed", sound)
        assert hall.answer_to("again")["ok"]
        hall.publish("signed", sound)
        hall.wait(lambda: station.control.counts.get("refused_replay"))
        hall.publish("signed", sound.replace(b'"id', b'"ID'))
        hall.wait(lambda: station.control.counts.get("refused_signature"))
        revoke_key(hall.folder / "trust", OPERATOR.public)
        hall.wait(lambda: hall.say("pause")["detail"].startswith("revoked: "))
        for verb in ("confirm", "revert"):
            assert "store" in hall.say(verb, OFFICE)["detail"]
        answer = hall.say("install", OFFICE, sha256="ab" * 32, size=9)
        assert (answer["cmd"], answer["ok"]) == ("install", False)
        counts = dict(station.control.counts)
        assert counts.pop("refused_revoked") >= 1
        counts.pop("done", None)
        assert counts == {
            "refused_stranger": 1,
            "refused_not_allowed": 1,
            "refused_replay": 1,
            "refused_signature": 1,
        }
        assert station.control.pause.is_on
    assert {note["verb"] for note in hall.notes("command")} == {"pause"}


def test_what_was_acknowledged_outlives_kill_9(hall: Hall) -> None:
    said: list[bytes] = []
    for verb, args in (("changeover", {"product": "other"}), ("pause", {})):
        program = "from lineside.cli.main import main; main()"
        before = len(hall.payloads("state"))
        command = [sys.executable, "-c", program, "run", str(hall.folder / "station.toml")]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        try:
            hall.wait(lambda before=before: len(hall.payloads("state")) > before, 60)
            payload = sign_command(
                OPERATOR,
                verb=verb,
                station=STATION,
                args=args,
                command_id=verb,
                now_unix_ms=time.time_ns() // 1_000_000,
            )
            hall.publish("signed", payload)
            assert hall.answer_to(verb)["ok"]
            said.append(payload)
        finally:
            process.kill()
            process.communicate(timeout=30)
    with hall.running() as station:
        assert station.control.pause.is_on
        assert station.model.product == "other"
        for number, payload in enumerate(said, 1):
            hall.publish("signed", payload)
            hall.wait(lambda n=number: station.control.counts.get("refused_replay") == n)
    assert [note["verb"] for note in hall.notes("command")] == ["changeover", "pause"]


def test_a_retained_signed_command_is_refused_at_each_connection(hall: Hall) -> None:
    payload = sign_command(
        OPERATOR,
        verb="pause",
        station=STATION,
        args={},
        command_id="kept",
        now_unix_ms=time.time_ns() // 1_000_000,
    )
    hall.publish("signed", payload, retain=True)
    with hall.running() as station:
        answer = hall.answer_to("kept")
        assert (answer["ok"], answer["detail"][:7]) == (False, "replay:")
        assert not station.control.pause.is_on


def test_a_station_whose_keys_or_orders_cannot_be_read_does_not_start(hall: Hall) -> None:
    key = hall.folder / "keys" / "office.pub"
    sound = key.read_bytes()
    key.write_bytes(b"torn")
    configuration = read_configuration(hall.folder / "station.toml")
    with pytest.raises(ConfigurationError, match=r"commands\.keys\[1\]\.path"):  # noqa: SIM117
        with open_station(configuration):
            pass
    key.write_bytes(sound)
    (hall.folder / "outbox.sqlite.orders").write_bytes(b"{")
    with pytest.raises(StorageError, match=r"outbox\.sqlite\.orders: damaged"):  # noqa: SIM117
        with open_station(configuration):
            pass


def test_without_a_section_of_commands_all_is_as_before(hall: Hall) -> None:
    file = hall.folder / "station.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text[: text.index("[commands]")], encoding="utf-8")
    with hall.running() as station:
        assert hall.say("pause")["detail"].startswith("stranger: ")
        hall.publish("changeover", '{"id":"u1","product":"other"}')
        assert hall.answer_to("u1")["ok"]
        hall.wait(lambda: station.model.product == "other")
        hall.publish("changeover", '{"id":"u1","product":"other"}')
        hall.wait(lambda: [one["id"] for one in hall.payloads("ack")].count("u1") == 2)
        assert not (hall.folder / "outbox.sqlite.nonces").exists()
