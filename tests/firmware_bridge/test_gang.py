"""Many sensors: the canary first, the others after it, none after a failure."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from smp_responder import Responder, StockServer
from tiny_bundle import TinyBundle

from lineside.errors import ConfigurationError
from lineside_bridge import trial
from lineside_bridge.cli.sensor import sensor as sensor_verbs
from lineside_bridge.errors import SensorSilentError, UnprovenError
from lineside_bridge.flash_report import FlashReport
from lineside_bridge.gang import Fate, Halt, Member, flash_gang
from lineside_bridge.ports import SerialPort, match_ports

FAST = 4_000_000


@pytest.fixture
def gang(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[StockServer], list[str]]]:
    """Three stock sensors and their ports."""
    monkeypatch.setattr(trial, "_POLL_S", 0.01)
    servers = [StockServer(hardware="cpu") for _ in range(3)]
    with contextlib.ExitStack() as stack:
        sensors = [stack.enter_context(Responder(server.answer)) for server in servers]
        yield servers, [sensor.port for sensor in sensors]


def flash_all(bundle: TinyBundle, ports: list[str], *words: object) -> Result:
    given = [word for port in ports for word in ("--port", port)]
    line = ("--baud", FAST, "--framing", "console", "--trust", bundle.public_key_path, "--json")
    call = ("gang", bundle.path, *given, *line, *words)
    return CliRunner().invoke(sensor_verbs, [str(word) for word in call])


def test_all_get_it(
    tiny_bundle: TinyBundle, gang: tuple[list[StockServer], list[str]], tmp_path: Path
) -> None:
    servers, ports = gang
    inventory = tmp_path / "sensors.json"
    result = flash_all(tiny_bundle, ports, "--inventory", inventory)

    assert result.exit_code == 0, result.output
    assert [each["fate"] for each in json.loads(result.stdout)] == ["done"] * 3
    assert all(server.slots[1]["confirmed"] for server in servers)
    assert [each["port"] for each in json.loads(inventory.read_text())["sensors"]] == ports


def test_the_last_line_counts_for_people(
    tiny_bundle: TinyBundle, gang: tuple[list[StockServer], list[str]]
) -> None:
    given = [word for port in gang[1][:2] for word in ("--port", port)]
    line = [
        "--baud",
        str(FAST),
        "--framing",
        "console",
        "--trust",
        str(tiny_bundle.public_key_path),
    ]
    said = CliRunner().invoke(sensor_verbs, ["gang", str(tiny_bundle.path), *given, *line])
    assert said.stdout == "2 of 2 sensors have it, confirmed\n"


def test_nothing_is_begun_after_a_canary_that_failed(
    tiny_bundle: TinyBundle, gang: tuple[list[StockServer], list[str]]
) -> None:
    servers, ports = gang
    servers[0].refuses_to_boot = True
    result = flash_all(tiny_bundle, ports)

    assert isinstance(result.exception, UnprovenError)
    fates = [each["fate"] for each in json.loads(result.stdout)]
    assert fates == ["failed", "untouched", "untouched"]
    assert [server.offsets for server in servers[1:]] == [[], []]


def test_the_third_is_not_begun_when_the_second_failed(
    tiny_bundle: TinyBundle, gang: tuple[list[StockServer], list[str]]
) -> None:
    servers, ports = gang
    servers[1].refuses_to_boot = True
    result = flash_all(tiny_bundle, ports, "--at-once", 1)

    assert [each["fate"] for each in json.loads(result.stdout)] == ["done", "failed", "untouched"]
    assert servers[0].slots[1]["confirmed"]
    assert servers[2].offsets == []


def test_one_under_way_is_left_before_its_trial() -> None:
    begun, failed = threading.Event(), threading.Event()

    def flash_one(port: str, halt: Halt) -> FlashReport:
        if port == "slow":
            begun.set()
            assert failed.wait(20)
        if port == "bad":
            assert begun.wait(20)
            raise SensorSilentError("bad: no answer")
        halt.check()
        return None  # type: ignore[return-value]

    def hear(member: Member) -> None:
        if member.fate is Fate.FAILED:
            failed.set()

    members = flash_gang(["first", "slow", "bad"], flash_one, at_once=2, on_member=hear)
    assert [member.fate for member in members] == [Fate.DONE, Fate.STOPPED, Fate.FAILED]


def test_which_sensors_must_be_said(tiny_bundle: TinyBundle) -> None:
    assert flash_all(tiny_bundle, []).exit_code == 2
    result = flash_all(tiny_bundle, [], "--match", "dead:beef")
    assert isinstance(result.exception, ConfigurationError)


PORTS = (
    SerialPort(name="/dev/ttyACM0", usb="2fe3:0100", interface=0, place="1-1"),
    SerialPort(name="/dev/ttyACM1", usb="2fe3:0100", interface=2, place="1-1"),
    SerialPort(name="/dev/ttyACM2", usb="2fe3:0101", place="1-2"),
    SerialPort(name="/dev/ttyACM3", usb="2fe3:0101", place="1-3"),
    SerialPort(name="/dev/ttyS0"),
)


def names(pattern: str) -> list[str]:
    return [port.name for port in match_ports(PORTS, pattern)]


def test_ports_are_matched_by_their_device() -> None:
    assert names("2fe3:0101") == ["/dev/ttyACM2", "/dev/ttyACM3"]
    assert names("2FE3:0100:2") == ["/dev/ttyACM1"]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("2fe3", "VID:PID as `lineside sensor list` shows it"),
        ("1234:5678", "no such device is plugged in"),
        ("2fe3:0100", "2fe3:0100:0 or 2fe3:0100:2"),
    ],
)
def test_a_pattern_that_cannot_be_meant_is_refused(pattern: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        match_ports(PORTS, pattern)
