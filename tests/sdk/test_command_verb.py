"""``lineside command`` as an operator types it, against a real broker and a real gate."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from bundle_server import serving
from click.testing import CliRunner, Result
from mosquitto_broker import Mosquitto
from paho.mqtt import subscribe
from remote_station import TOPICS, RemoteStation, running, until
from tiny_bundle import TinyBundle

from lineside.bundle import load_public_key, write_key_pair
from lineside.cli.command import command
from lineside.errors import (
    BrokerError,
    BundleFormatError,
    CommandRefusedError,
    ConfigurationError,
    InputDataError,
    KeyFileError,
    LinesideError,
    SelfTestError,
)
from lineside.mqtt import ChangeoverCommand, DispositionCommand, StateWord
from lineside.mqtt.state import make_state
from lineside.remote import ConfirmArgs, InstallArgs, RevertArgs, SetLimitArgs
from lineside.slots import SlotState

pytestmark = pytest.mark.broker

STATION = "plant1/line3/aoi1"
BUNDLE = "ab" * 32


class Operator:
    """Types commands."""

    def __init__(self, broker: str, key: Path) -> None:
        self.common = ["--station", STATION, "--broker", broker, "--key", str(key)]

    def type(self, verb: str, *words: object, **runner: Any) -> Result:
        typed = [verb, *self.common, *map(str, words)]
        return CliRunner().invoke(command, typed, **runner)

    def succeed(self, verb: str, *words: object, **runner: Any) -> str:
        done = self.type(verb, *words, **runner)
        assert done.exit_code == 0, (done.output, done.exception)
        return done.stdout

    def refuse(self, kind: type[LinesideError], verb: str, *words: object) -> str:
        done = self.type(verb, *words)
        assert isinstance(done.exception, kind), (done.output, done.exception)
        return str(done.exception)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def operator(broker: Mosquitto, tmp_path: Path) -> Operator:
    private, _ = write_key_pair(tmp_path, "operator")
    return Operator(broker.url, private)


@pytest.fixture
def station(broker: Mosquitto, tmp_path: Path, operator: Operator) -> Iterator[RemoteStation]:
    public = load_public_key(tmp_path / "operator.pub")
    state = msgspec.structs.replace(make_state(StateWord.ONLINE), bundle=BUNDLE, product="led")
    found = RemoteStation(url=broker.url, folder=tmp_path, keys=(public,), state=state)
    with running(found):
        # The last one's "offline" is kept by the broker until this one has spoken.
        until(lambda: heard_state(broker) == StateWord.ONLINE)
        yield found


def heard_state(broker: Mosquitto) -> str:
    """What the broker keeps of the station; waits for the first word ever."""
    kept = subscribe.simple(TOPICS.state, hostname="127.0.0.1", port=broker.port)
    return str(json.loads(kept.payload)["state"])


def test_every_verb_reaches_the_station_with_its_arguments(
    operator: Operator, station: RemoteStation
) -> None:
    typed = {
        "trigger": ("--part", "LED-1"),
        "pause": (),
        "set-limit": ("--not-ok", "3.5"),
        "range": ("--first", "4", "--last", "9"),
        "changeover": ("--product", "led-b"),
        "confirm": ("--bundle", BUNDLE),
        "revert": ("--reason", "overkill", "--bundle", BUNDLE[:16]),
        "disposition": ("--part", "LED-1", "--evaluation", "not-ok", "--by", "J. Doe"),
        "mended": ("--note", "lamp replaced"),
    }
    for verb, words in typed.items():
        assert operator.succeed(verb, *words) == f"{STATION}: {verb}: done\n"
    assert [done.verb for done in station.done] == list(typed)
    by_verb = {done.verb: done.args for done in station.done}
    assert by_verb["set-limit"] == SetLimitArgs(bundle=BUNDLE, not_ok=3.5)
    assert by_verb["confirm"] == ConfirmArgs(bundle=BUNDLE)
    assert by_verb["revert"] == RevertArgs(reason="overkill", bundle=BUNDLE[:16])
    changeover = by_verb["changeover"]
    assert isinstance(changeover, ChangeoverCommand)
    assert changeover.product == "led-b"
    disposition = by_verb["disposition"]
    assert isinstance(disposition, DispositionCommand)
    assert (disposition.evaluation, disposition.by) == (2, "J. Doe")


def test_json_is_one_document(operator: Operator, station: RemoteStation) -> None:
    document = json.loads(operator.succeed("resume", "--json"))
    assert document.pop("t") > 0
    told = {"station": STATION, "verb": "resume", "ok": True, "reason": "", "detail": ""}
    assert document == told


def test_a_refusal_has_the_stations_words(operator: Operator, station: RemoteStation) -> None:
    station.verbs = ("resume",)
    station.restart()
    words = operator.refuse(CommandRefusedError, "pause")
    assert words.startswith(f"{STATION}: pause: refused: not_allowed: ")
    done = operator.type("pause", "--json")
    assert json.loads(done.stdout)["reason"] == "not_allowed"
    assert isinstance(done.exception, CommandRefusedError)
    assert done.exception.exit_code == 9


def test_no_answer_in_time_is_a_fault_of_the_way(operator: Operator) -> None:
    words = operator.refuse(BrokerError, "pause", "--timeout-s", "0.4")
    assert "no answer within 0.4 s" in words
    words = operator.refuse(BrokerError, "set-limit", "--ok", "1", "--timeout-s", "0.4")
    assert "give --bundle" in words


def test_limits_belong_to_the_bundle_in_use(operator: Operator, station: RemoteStation) -> None:
    words = operator.refuse(CommandRefusedError, "set-limit", "--ok", "1", "--product", "other")
    assert "uses the bundle of led" in words
    operator.succeed("set-limit", "--ok", "1", "--product", "other", "--bundle", "cd" * 32)
    operator.succeed("set-limit", "--reset")
    assert [done.args for done in station.done] == [
        SetLimitArgs(product="other", bundle="cd" * 32, ok=1.0),
        SetLimitArgs(reset=True),
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("set-limit",),
        ("set-limit", "--reset", "--ok", "1"),
        ("set-limit", "--ok", "nan"),
        ("set-limit", "--not-ok", "inf"),
        ("install",),
        ("install", "--url", "new.lsb"),
        ("install", "--sha256", "00"),
        ("install", "x.lsb", "--sha256", "00"),
        ("install", "x.lsb", "--wait-timeout-s", "1"),
        ("disposition", "--evaluation", "maybe"),
    ],
)
def test_wrong_use(operator: Operator, words: tuple[str, ...]) -> None:
    done = operator.type(*words)
    assert done.exit_code == 2
    no_limit = {"nan", "inf"}.intersection(words)
    assert not no_limit or f"{no_limit.pop()} is no limit" in done.output


def test_what_is_wrong_with_options_is_said_before_anything_is_sent(
    operator: Operator, tmp_path: Path
) -> None:
    def refused(kind: type[LinesideError], *words: str) -> str:
        done = CliRunner().invoke(command, ["pause", *words])
        assert isinstance(done.exception, kind), (done.output, done.exception)
        return str(done.exception)

    place, key = ("--station", STATION), operator.common[-2:]
    assert "mqtt://HOST" in refused(ConfigurationError, *place, *key, "--broker", "http://x")
    at = ("--broker", operator.common[3])
    assert "--station" in refused(ConfigurationError, "--station", "a/+/c", *key, *at)
    refused(KeyFileError, *place, *at, "--key", str(tmp_path / "none.key"))
    refused(ConfigurationError, *place, *at, *key, "--password-env", "NO_SUCH_VARIABLE")
    refused(ConfigurationError, *place, *at, *key, "--key-password-env", "NO_SUCH_VARIABLE")
    refused(ConfigurationError, *place, *at, *key, "--cert-file", "x.pem")
    assert CliRunner().invoke(command, ["pause", "--station", "a/b", *key, *at]).exit_code == 2


def test_a_key_with_a_password(
    operator: Operator, station: RemoteStation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = write_key_pair(tmp_path, "locked", "secret")
    station.keys += (load_public_key(public),)
    station.restart()
    locked = Operator(operator.common[3], private)
    assert "encrypted" in locked.refuse(KeyFileError, "pause")
    monkeypatch.setenv("KEY_PASSWORD", "secret")
    locked.succeed("pause", "--key-password-env", "KEY_PASSWORD")
    locked.succeed("pause", "--ask-password", input="secret\n")


def test_a_bundle_is_installed(
    operator: Operator, station: RemoteStation, tiny_bundle: TinyBundle
) -> None:
    document = json.loads(operator.succeed("install", tiny_bundle.path, "--json"))
    data = tiny_bundle.path.read_bytes()
    assert station.bundle(SlotState.CONFIRMED) == data
    assert (document["sent_bytes"], document["ok"]) == (len(data), True)
    assert document["detail"] == f"confirmed a {document['bundle']}"
    again = operator.succeed("install", tiny_bundle.path, "--chunk-kib", "4")
    assert again == f"{STATION}: install: done: already confirmed a {document['bundle']}\n"


def test_what_is_no_bundle_is_not_sent(
    operator: Operator, station: RemoteStation, tmp_path: Path
) -> None:
    (tmp_path / "empty.lsb").touch()
    (tmp_path / "text.lsb").write_text("no bundle")
    operator.refuse(InputDataError, "install", tmp_path / "none.lsb")
    operator.refuse(InputDataError, "install", tmp_path / "empty.lsb")
    operator.refuse(BundleFormatError, "install", tmp_path / "text.lsb")
    assert not any(slot.incoming for slot in station.store.record.slots.values())


def test_a_bundle_that_does_not_prove_there(
    operator: Operator, station: RemoteStation, tiny_bundle: TinyBundle
) -> None:
    def fail() -> None:
        raise SelfTestError("golden samples differ")

    station.proof = fail
    done = operator.type("install", tiny_bundle.path, "--json")
    assert isinstance(done.exception, CommandRefusedError)
    found = json.loads(done.stdout)
    assert (found["reason"], found["detail"]) == ("self_test", "self_test: golden samples differ")


def test_a_bundle_that_the_station_fetches(
    operator: Operator, station: RemoteStation, tiny_bundle: TinyBundle
) -> None:
    data = tiny_bundle.path.read_bytes()
    with serving(data) as server:
        words = operator.refuse(
            CommandRefusedError, "install", "--url", "new.lsb", "--sha256", "ab" * 32
        )
        assert "commands.url is not set" in words
        station.stop()
        station.download_from = server.url
        station.start()
        operator.succeed("install", tiny_bundle.path, "--url", "new.lsb")
    assert station.bundle(SlotState.CONFIRMED) == data
    refusal = operator.refuse(ConfigurationError, "install", "--url", "x", "--sha256", "AB")
    assert "--sha256" in refusal


@pytest.mark.parametrize("ends", ["confirmed", "reverted"])
def test_the_trial_is_waited_for(
    operator: Operator, station: RemoteStation, tiny_bundle: TinyBundle, ends: str
) -> None:
    def live() -> None:
        until(lambda: station.store.record.active is not None)
        record = station.store.record
        assert record.active is not None
        card = record.slots[record.active].card
        assert card is not None
        told = {"bundle": card.hash, "slot_state": "confirmed"}
        if ends == "reverted":
            told = {"reverted": "engine", "reverted_bundle": card.hash[:16]}
        station.state = msgspec.structs.replace(make_state(StateWord.ONLINE), **told)
        station.publisher.wake()

    line = threading.Thread(target=live)
    line.start()
    done = operator.type("install", tiny_bundle.path, "--wait", "--wait-timeout-s", "20", "--json")
    line.join()
    if ends == "confirmed":
        assert json.loads(done.stdout)["stage"] == "confirmed"
        assert f"{STATION}: confirmed" in done.stderr
    else:
        assert isinstance(done.exception, CommandRefusedError)
        assert done.exception.reason == "engine"


def test_a_trial_that_takes_too_long(
    operator: Operator, station: RemoteStation, tiny_bundle: TinyBundle
) -> None:
    words = operator.refuse(
        BrokerError, "install", tiny_bundle.path, "--wait", "--wait-timeout-s", "0.3"
    )
    assert "unknown after 0.3 s, not confirmed" in words


def test_each_sub_verb_shows_an_example_and_helps_with_each_option() -> None:
    for name, verb in command.commands.items():
        done = CliRunner().invoke(command, [name, "--help"])
        assert f"Example: lineside command {name} " in " ".join(done.output.split())
        options = [p for p in verb.params if isinstance(p, click.Option)]
        assert all(option.help for option in options)


def test_the_station_was_told_the_whole_file(
    operator: Operator, station: RemoteStation, tiny_bundle: TinyBundle
) -> None:
    heard: list[object] = []
    begin = station.receiving.begin
    station.receiving.begin = lambda order: (heard.append(order.args), begin(order))[1]  # type: ignore[method-assign]
    operator.succeed("install", tiny_bundle.path, "--product", "led")
    (args,) = heard
    assert isinstance(args, InstallArgs)
    assert (args.product, args.size) == ("led", tiny_bundle.path.stat().st_size)
