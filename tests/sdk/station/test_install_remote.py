"""The whole road: sent by ``lineside command``, proved, tried and confirmed by a real station."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner, Result
from mosquitto_broker import Mosquitto
from slot_bundles import SlotBundles, put
from tiny_bundle import TinyBundle, tiny_frame

from lineside.bundle import write_key_pair
from lineside.cli.command import command
from lineside.errors import CommandRefusedError
from lineside.slots import open_store
from lineside.station import Station, open_station, read_configuration

pytestmark = pytest.mark.broker

# The station proves at the lowest priority: a machine that others want too takes a minute for it.
PATIENCE_S = 240


class Line:
    """A station over a store, and whoever commands it."""

    def __init__(self, folder: Path, broker: Mosquitto, bundles: SlotBundles) -> None:
        self.folder = folder
        self.bundles = bundles
        self.frames = folder / "frames"
        self.frames.mkdir()
        write_key_pair(folder, "operator")
        put(folder / "slots", bundles.tiny.path, bundles.trust)
        (folder / "station.toml").write_text(
            f"""
            [station]
            site = "plant1"
            line = "line3"
            name = "aoi1"
            [bundle]
            store = "{folder}/slots"
            trust = ["{bundles.trust}"]
            engine = "onnxruntime"
            threads = 1
            [bundle.trial]
            parts = 3
            minutes = 0
            [source]
            kind = "folder"
            path = "{self.frames}"
            watch = true
            settle_ms = 0
            [outbox]
            path = "{folder}/outbox.sqlite"
            [mqtt]
            url = "{broker.url}"
            state_interval_s = 1
            [[commands.keys]]
            path = "{folder}/operator.pub"
            verbs = ["install", "confirm", "revert"]
            """
        )
        self._given = 0

    def command(self, verb: str, *words: object) -> Result:
        typed = [verb, *map(str, words), "--station", "plant1/line3/aoi1", "--json"]
        typed += ["--broker", self._url(), "--key", str(self.folder / "operator.key")]
        return CliRunner().invoke(command, typed)

    def give(self, parts: int) -> None:
        """Frames of parts that are OK."""
        for _ in range(parts):
            self._given += 1
            aside = self.folder / "aside.png"
            assert cv2.imwrite(str(aside), tiny_frame(bright=False, seed=self._given))
            aside.rename(self.frames / f"part-{self._given:04d}.png")

    def _url(self) -> str:
        return read_configuration(self.folder / "station.toml").mqtt.url


@pytest.fixture
def line(tmp_path: Path, broker: Mosquitto, tiny_bundle: TinyBundle) -> Line:
    return Line(tmp_path, broker, SlotBundles(tiny=tiny_bundle, folder=tmp_path))


@pytest.fixture
def station(line: Line) -> Iterator[Station]:
    with ExitStack() as end:
        station = end.enter_context(open_station(read_configuration(line.folder / "station.toml")))
        thread = threading.Thread(target=station.run, kwargs={"drain_timeout_s": 20.0})
        thread.start()
        end.callback(thread.join, 30)
        end.callback(station.stop)
        yield station


def test_from_a_shell_to_confirmed(
    line: Line, station: Station, wait_until: Callable[..., None]
) -> None:
    file = line.bundles.seal("2.0.0")
    done: list[Result] = []
    sender = threading.Thread(
        target=lambda: done.append(
            line.command("install", file, "--wait", "--wait-timeout-s", PATIENCE_S)
        )
    )
    sender.start()
    wait_until(lambda: station.model.version == "2.0.0", PATIENCE_S)
    line.give(25)
    sender.join(PATIENCE_S)
    document = json.loads(done[0].stdout)
    assert (document["stage"], document["ok"]) == ("confirmed", True), done[0].stderr
    record = open_store(line.folder / "slots").record
    assert record.active is not None
    card = record.slots[record.active].card
    assert card is not None
    assert document["detail"] == f"pending b {card.hash[:16]}"
    back = line.command("revert", "--reason", "overkill")
    assert back.exit_code == 0, back.output
    wait_until(lambda: station.model.version == "1.0.0")


def test_what_the_station_does_not_trust_leaves_it_as_it_is(
    line: Line, station: Station, tmp_path: Path
) -> None:
    other = line.bundles.seal("3.0.0", product="another")
    refused = line.command("install", other)
    assert isinstance(refused.exception, CommandRefusedError)
    assert json.loads(refused.stdout)["reason"] == "slots"
    # Whoever stands before the station's terminal sees it as well.
    assert re.match(r"install \S+ was refused: slots: .*other-product", station.slotting.last_words)
    whole = line.bundles.seal("4.0.0").read_bytes()
    damaged = tmp_path / "damaged.lsb"
    damaged.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused = line.command("install", damaged)
    assert json.loads(refused.stdout)["reason"] == "bundle"
    assert station.model.version == "1.0.0"
    slots = open_store(line.folder / "slots").record.slots
    assert [slot.state.value for slot in slots.values()] == ["confirmed", "empty"]
