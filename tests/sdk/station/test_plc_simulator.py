"""`lineside listen --plc` against a real broker and a station that does what a test tells it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import paho.mqtt.client as paho
import pytest
from mosquitto_broker import Mosquitto, free_port

from lineside.mqtt import VerdictMessage, encode_verdict
from lineside.mqtt.binary import pack_verdict
from lineside.mqtt.state import StateWord, encode_state, make_state

ROOT = "lineside/v1/plant1/line3/aoi1"
COMMAND = [sys.executable, "-c", "from lineside.cli.main import main; main()"]
STATION = ("--site", "plant1", "--line", "line3", "--station", "aoi1")


class ToldStation:
    """Answers ``cmd/trigger`` by the table ``answers``: part to what is done with it."""

    def __init__(self, port: int, answers: dict[str, Callable[[ToldStation, str], None]]) -> None:
        self.triggers: list[dict[str, Any]] = []
        self.seq = 0
        self._answers = answers
        self._subscribed = threading.Event()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.on_message = self._on_message
        self.client.connect("127.0.0.1", port)
        self.client.subscribe(f"{ROOT}/cmd/+", qos=1)
        self.client.loop_start()
        assert self._subscribed.wait(10)
        self.state(StateWord.ONLINE)

    def state(self, word: StateWord, **more: Any) -> None:
        told = msgspec.structs.replace(make_state(word), beat_s=10, **more)
        self.client.publish(f"{ROOT}/state", encode_state(told), qos=1, retain=True)

    def verdict(self, part: str, *, ev: int = 1, age_ms: int = 0, life_ms: int = 9000) -> None:
        self.seq += 1
        self.say(self.message(part, ev=ev, age_ms=age_ms, life_ms=life_ms))

    def message(
        self, part: str, *, ev: int = 1, age_ms: int = 0, life_ms: int = 9000
    ) -> VerdictMessage:
        taken_ms = time.time_ns() // 1_000_000 - age_ms
        return VerdictMessage(
            seq=self.seq,
            id=f"0000002a{self.seq:010x}",
            part=part,
            t=taken_ms,
            exp=taken_ms + life_ms,
            ev=ev,
            score=0.5,
            limit=1.0,
            unit="1",
            reason="within_limit" if ev == 1 else "beyond_limit",
            code=ev - 1,
            model="",
        )

    def say(self, message: VerdictMessage) -> None:
        self.client.publish(f"{ROOT}/verdict", encode_verdict(message), qos=1)
        self.client.publish(f"{ROOT}/verdict/bin", pack_verdict(message), qos=1)

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        command = json.loads(message.payload)
        self.triggers.append(command)
        self._answers.get(command["part"], lambda *_: None)(self, command["part"])


@pytest.fixture
def told_station(broker: Mosquitto) -> Iterator[Callable[..., ToldStation]]:
    made: list[ToldStation] = []

    def make(**answers: Callable[[ToldStation, str], None]) -> ToldStation:
        made.append(ToldStation(broker.port, answers))
        return made[-1]

    yield make
    for station in made:
        station.client.disconnect()
        station.client.loop_stop()


@pytest.fixture
def simulate(broker: Mosquitto) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [*COMMAND, "listen", broker.url, "--plc", *STATION, *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def finish(process: subprocess.Popen[str]) -> tuple[list[dict[str, Any]], str, int]:
    out, err = process.communicate(timeout=60)
    return [json.loads(line) for line in out.splitlines()], err, process.returncode


def say_repeated(station: ToldStation, part: str) -> None:
    # What was said of the part before, once more.
    station.say(station.message(part))


def say_noise(station: ToldStation, part: str) -> None:
    for topic in ("verdict", "verdict/bin"):
        station.client.publish(f"{ROOT}/{topic}", b'{"v":1,"seq":', qos=1)
    station.verdict(part)


ANSWERS: dict[str, Callable[[ToldStation, str], None]] = {
    "good": ToldStation.verdict,
    "bad": lambda station, part: station.verdict(part, ev=2),
    "silent": lambda *_: None,
    "again": say_repeated,
    "stale": lambda station, part: station.verdict(part, age_ms=50, life_ms=20),
    "early": lambda station, part: station.verdict(part, age_ms=5000),
    "ahead": lambda station, part: station.verdict(part, age_ms=-5000),
    "other": lambda station, _: station.verdict("someone_else"),
    "noise": say_noise,
}
EXPECTED = {
    "good": ("OK", "within_limit", None),
    "bad": ("NOT_OK", "beyond_limit", None),
    "silent": ("NOT_DECIDABLE", "timeout", None),
    "again": ("NOT_DECIDABLE", "timeout", "repeated"),
    "stale": ("NOT_DECIDABLE", "timeout", "stale"),
    "early": ("NOT_DECIDABLE", "timeout", "early"),
    "ahead": ("NOT_DECIDABLE", "timeout", "clock"),
    "other": ("NOT_DECIDABLE", "timeout", "other_part"),
    "noise": ("OK", "within_limit", "malformed"),
}


@pytest.mark.parametrize(
    ("binary", "parts"),
    [((), tuple(ANSWERS)), (("--binary",), ("good", "bad", "again", "noise"))],
)
def test_parts_are_presented_and_judged_by_the_rules(
    told_station: Callable[..., ToldStation],
    simulate: Callable[..., subprocess.Popen[str]],
    binary: tuple[str, ...],
    parts: tuple[str, ...],
) -> None:
    station = told_station(**ANSWERS)
    words = [word for part in parts for word in ("--trigger", part)]
    plc = simulate("--json", "--timeout-s", "50", *words, *binary)
    lines, err, code = finish(plc)
    assert code == 0, err
    assert lines[0] == {**who(), "kind": "alive", "alive": True}
    found, dropped = {}, None
    for line in lines[1:]:
        if line["kind"] == "dropped":
            dropped = line["reason"]
        if line["kind"] == "plc":
            found[line["part"]] = (line["evaluation"], line["reason"], dropped)
            dropped = None
    assert found == {part: EXPECTED[part] for part in parts}
    assert [command["part"] for command in station.triggers] == list(parts)
    assert len({command["id"] for command in station.triggers}) == len(parts)
    assert "Traceback" not in err


def who() -> dict[str, str]:
    return {"site": "plant1", "line": "line3", "station": "aoi1"}


def test_a_station_that_is_lost_is_no_ok(
    told_station: Callable[..., ToldStation], simulate: Callable[..., subprocess.Popen[str]]
) -> None:
    def die(station: ToldStation, part: str) -> None:
        station.state(StateWord.OFFLINE, reason="connection_lost")
        station.verdict(part)

    told_station(a=ToldStation.verdict, b=die)
    plc = simulate("--json", "--timeout-s", "50", "--trigger", "a", "--trigger", "b")
    lines, err, code = finish(plc)
    assert code == 0, err
    kinds = [(line["kind"], line.get("evaluation"), line.get("reason")) for line in lines]
    assert kinds[:2] == [("alive", None, None), ("plc", "OK", "within_limit")]
    assert ("plc", "NOT_DECIDABLE", "station") in kinds
    assert not [line for line in lines[2:] if line.get("evaluation") == "OK"]


def test_without_a_trigger_each_verdict_is_judged_as_it_comes(
    broker: Mosquitto,
    told_station: Callable[..., ToldStation],
    simulate: Callable[..., subprocess.Popen[str]],
    wait_until: Callable[..., None],
) -> None:
    station = told_station()
    plc = simulate("--timeout-s", "50", "--count", "3")
    wait_until(lambda: "Sending SUBACK to lineside-listen-" in broker.log())
    station.verdict("one")
    station.say(station.message("one"))
    station.verdict("two", age_ms=9000, life_ms=8000)
    station.verdict("three", ev=2)
    station.verdict("four")
    out, err = plc.communicate(timeout=60)
    assert plc.returncode == 0, err
    assert [(row[1], row[2]) for row in out_rows(out)] == [
        ("one", "OK"),
        ("three", "NOT_OK"),
        ("four", "OK"),
    ]
    assert "-- a message was dropped: repeated" in out
    assert "-- a message was dropped: stale" in out


def out_rows(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines() if line[:2].isdigit()]


def test_parts_come_by_themselves_at_an_interval(
    told_station: Callable[..., ToldStation], simulate: Callable[..., subprocess.Popen[str]]
) -> None:
    parts = {f"plc-{number:06d}": ToldStation.verdict for number in (1, 2, 3)}
    station = told_station(**parts)
    plc = simulate("--json", "--trigger-every", "0.05", "--count", "3", "--no-clock")
    lines, err, code = finish(plc)
    assert code == 0, err
    judged = [(line["part"], line["evaluation"]) for line in lines if line["kind"] == "plc"]
    assert judged == [(part, "OK") for part in parts]
    assert [command["part"] for command in station.triggers] == list(parts)


def test_a_refused_command_is_told(
    told_station: Callable[..., ToldStation], simulate: Callable[..., subprocess.Popen[str]]
) -> None:
    def refuse(station: ToldStation, _part: str) -> None:
        for payload in (b"\xff", b"[]", b'{"ok":false,"detail":"no such product"}'):
            station.client.publish(f"{ROOT}/ack", payload, qos=1)

    told_station(a=refuse)
    lines, err, code = finish(simulate("--json", "--trigger", "a"))
    assert code == 0, err
    refusals = [line["detail"] for line in lines if line["kind"] == "ack"]
    assert refusals == ["no such product"]
    assert lines[-1]["reason"] == "timeout"


def test_nobody_there_is_no_ok(simulate: Callable[..., subprocess.Popen[str]]) -> None:
    lines, err, code = finish(simulate("--json", "--trigger", "a", "--timeout-s", "50"))
    assert code == 0, err
    assert [(line["evaluation"], line["reason"]) for line in lines] == [
        ("NOT_DECIDABLE", "station")
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("--trigger", ""),
        ("--trigger", "W" * 33),
        ("--trigger", 'a"b'),
        ("--topic", "health"),
        ("--trigger-every", "nan"),
        ("--timeout-ms", "0"),
    ],
)
def test_wrong_use_is_exit_code_2(words: tuple[str, ...]) -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    done = subprocess.run(
        [*COMMAND, "listen", url, "--plc", *STATION, *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr


@pytest.mark.parametrize("words", [("--binary",), ("--trigger", "a"), ("--plc",), ("--no-clock",)])
def test_what_needs_a_plc_or_a_station_says_so(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [*COMMAND, "listen", "mqtt://127.0.0.1:1", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--plc" in done.stderr


def test_listen_shows_the_other_topics(
    broker: Mosquitto,
    told_station: Callable[..., ToldStation],
    wait_until: Callable[..., None],
) -> None:
    station = told_station()
    topics = ("verdict", "history", "verdict/bin", "findings", "health", "ack")
    words = [word for topic in topics for word in ("--topic", topic)]
    listeners = [
        subprocess.Popen(
            [*COMMAND, "listen", broker.url, *words, "--count", "2", "--timeout-s", "30", *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for more in ([], ["--json"])
    ]
    wait_until(lambda: broker.log().count("Sending SUBACK to lineside-listen-") == 2)
    for kind in ("findings", "health", "ack"):
        station.client.publish(f"{ROOT}/{kind}", b'{"station":"\\u001b[2J"}', qos=1)
    station.client.publish(f"{ROOT}/health", b"\xff", qos=1)
    station.seq = 7
    late = encode_verdict(station.message("late"))
    for _ in range(2):
        station.client.publish(f"{ROOT}/history", late, qos=1)
    station.verdict("live")
    (table, _), (lines, err) = (one.communicate(timeout=60) for one in listeners)
    assert [one.returncode for one in listeners] == [0, 0]
    found = [json.loads(line) for line in lines.splitlines()]
    assert [line["kind"] for line in found] == ["findings", "health", "ack", "history", "verdict"]
    assert all(line["station"] == "aoi1" for line in found)
    assert found[0]["message"] == {"station": "\x1b[2J"}
    assert (found[3]["part"], found[3]["seq"]) == ("late", 7)
    assert "no JSON" in err
    assert "expired" in table
    assert "\x1b" not in table
    assert "aoi1 health: " in table
