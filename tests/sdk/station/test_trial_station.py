"""A whole station over a store, heard over a real broker: switched under load, taken back, hung."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import hung_station
import msgspec
import pytest
from mosquitto_broker import Mosquitto
from slot_bundles import SlotBundles, put
from tiny_bundle import TinyBundle
from toy_slots import ToyStore
from trials import open_tried, switch_often

from lineside.contract import LimitRule
from lineside.kept import KeepSettings, read_facts
from lineside.mqtt import (
    MqttSettings,
    StateMessage,
    StationTopics,
    VerdictMessage,
    decode_state,
    decode_verdict,
)
from lineside.outbox import Outbox, OutboxSettings, open_journal
from lineside.sources import FolderSettings, FolderSource
from lineside.station import Pace, Products, Station, open_station, read_configuration
from lineside.station.hanging import EXIT_HUNG, leaving_when_late
from lineside.station.keeping import FrameKeeper
from lineside.station.slotting import Slotting

TOPICS = StationTopics(site="plant1", line="line3", station="aoi1")


@dataclass
class Running:
    """A station over a store of toys, in a thread."""

    toy: ToyStore
    station: Station
    ear: Any
    folder: Path

    def verdicts(self) -> list[VerdictMessage]:
        return [decode_verdict(data, source="ear") for data in self.ear.payloads("verdict")]

    def states(self) -> list[StateMessage]:
        return [decode_state(data, source="ear") for data in self.ear.payloads("state")]

    def model(self, version: str) -> str:
        """As verdicts name it."""
        return self.toy.models[version].bundle[:12]

    def runs_of(self) -> list[str]:
        """Whose verdicts these are, in order, each change once."""
        names = {model.bundle[:12]: version for version, model in self.toy.models.items()}
        heard = [names[verdict.model] for verdict in self.verdicts()]
        return heard[:1] + [now for before, now in pairwise(heard) if now != before]


@pytest.fixture
def running(tmp_path: Path, broker: Mosquitto, ear: Any) -> Iterator[Running]:
    """Bundle 1 is confirmed; frames go to ``frames``; disagreements are kept in ``kept``."""
    (tmp_path / "frames").mkdir()
    toy = ToyStore(tmp_path / "slots")
    toy.install("1")
    with ExitStack() as end:
        outbox = Outbox(OutboxSettings(path=tmp_path / "outbox.sqlite"))
        end.callback(outbox.close)
        keeper = toy.keeper(parts=0, confirm="command", max_disagree=1.0)
        products = Products([keeper.product])
        frames = FolderSettings(path=tmp_path / "frames", watch=True, settle_ms=0, poll_ms=10)
        station = Station(
            topics=TOPICS,
            products=products,
            source=FolderSource(frames, memory=outbox),
            outbox=outbox,
            mqtt=MqttSettings(url=broker.url),
            pace=Pace(policy="block", expiry_s=60),
            frames=FrameKeeper(KeepSettings(path=tmp_path / "kept", near=0.0, keep_free_mib=0)),
            slotting=Slotting(products, [keeper], look_s=0.01),
        )
        thread = threading.Thread(target=station.run, kwargs={"drain_timeout_s": 20.0})
        thread.start()
        end.callback(thread.join, 30)
        end.callback(station.stop)
        yield Running(toy, station, ear, tmp_path)
    assert not thread.is_alive()


def test_under_load_each_part_is_judged_by_one_model_and_none_is_lost(
    running: Running, write_frames: Callable[..., list[str]], wait_until: Callable[..., None]
) -> None:
    stems: list[str] = []

    def load_until(condition: Callable[[], bool]) -> None:
        def more() -> bool:
            if len(stems) - len(running.verdicts()) < 30:
                stems.extend(write_frames(running.folder / "frames", 10, first=len(stems)))
            return condition()

        wait_until(more, 30)

    def heard(version: str) -> int:
        model = running.model(version)
        return sum(verdict.model == model for verdict in running.verdicts())

    load_until(lambda: heard("1") >= 100)
    running.toy.install("2", limit=200.0)
    load_until(lambda: "2" in running.toy.models and heard("2") >= 100)
    before = heard("1")
    running.toy.models["2"].fails.add("*")
    load_until(lambda: heard("1") >= before + 100)
    wait_until(lambda: len(running.verdicts()) == len(stems))

    verdicts = running.verdicts()
    assert [verdict.part for verdict in verdicts] == stems
    assert [verdict.seq for verdict in verdicts] == list(range(1, len(stems) + 1))
    assert running.runs_of() == ["1", "2", "1"]
    # The part on which the engine failed has a verdict of the confirmed model.
    assert {verdict.ev for verdict in verdicts} == {1, 2}
    assert "engine" not in {verdict.reason for verdict in verdicts}
    wait_until(lambda: running.toy.reverted == "engine")
    wait_until(lambda: running.states()[-1].reverted == "engine")


def test_the_line_hears_of_it_the_journal_keeps_it_and_the_frame_is_there(
    running: Running, write_frames: Callable[..., list[str]], wait_until: Callable[..., None]
) -> None:
    wait_until(lambda: bool(running.states()))
    birth = running.states()[0]
    assert (birth.slot, birth.slot_state, birth.next, birth.counter) == ("a", "confirmed", "", 0)
    assert (birth.reverted, birth.reverted_bundle) == ("", "")
    bundle = running.toy.install("2", limit=200.0, counter=7)
    wait_until(lambda: running.states()[-1].slot_state == "trial")
    state = running.states()[-1]
    assert (state.slot, state.bundle, state.counter) == ("b", bundle, 7)
    stems = write_frames(running.folder / "aside", 6)  # levels 0, 37, 74, 111, 148, 185
    for number, stem in enumerate(stems, 1):
        file = running.folder / "aside" / f"{stem}.png"
        file.rename(running.folder / "frames" / file.name)
        wait_until(lambda so=number: running.station.slotting.figures["compared"] == so)
    figures = running.station.slotting.figures
    assert (figures["parts"], figures["disagreements"], figures["skipped"]) == (6, 2, 0)
    kept = running.folder / "kept"
    wait_until(lambda: len(list(kept.glob("*_disagree_*.frame.png"))) == 2)
    for file in kept.glob("*.frame.png"):
        facts = read_facts(file)
        assert facts is not None
        assert facts.why == ("disagree",)
        assert facts.model == bundle[:16]
    slotting = running.station.control.slotting  # as signed commands reach it
    assert slotting is not None
    assert slotting.revert("", "mistake").startswith("slot a, bundle ")
    wait_until(lambda: running.states()[-1].reverted == "mistake")
    state = running.states()[-1]
    assert (state.slot, state.slot_state, state.reverted_bundle) == (
        "a",
        "confirmed",
        bundle[:16],
    )
    assert running.station.outbox.flush(10)
    with open_journal(running.folder / "outbox.sqlite") as journal:
        shadows = [json.loads(note.body) for note in journal.notes("shadow")]
        events = [json.loads(note.body)["event"] for note in journal.notes("slot")]
    assert [note["part"] for note in shadows] == stems[4:]
    assert events == ["trial", "reverted"]


def test_a_bundle_that_waits_is_told(running: Running, wait_until: Callable[..., None]) -> None:
    wait_until(lambda: bool(running.states()))
    proceed = threading.Event()
    running.toy.before_load = lambda _: proceed.wait(20) and None
    bundle = running.toy.install("2")
    wait_until(lambda: running.states()[-1].next == bundle[:16])
    proceed.set()
    wait_until(lambda: running.states()[-1].slot_state == "trial")
    assert running.states()[-1].next == ""


@pytest.mark.parametrize("source", ["folder", "camera"])
def test_a_model_that_hangs_is_left_and_the_process_ends_to_be_started_again(
    tmp_path: Path,
    broker: Mosquitto,
    ear: Any,
    write_frames: Callable[..., list[str]],
    wait_until: Callable[..., None],
    source: str,
) -> None:
    write_frames(tmp_path / "frames", 3)
    toy = ToyStore(tmp_path / "slots")
    toy.install("1")
    toy.tried("2")
    plugins = Path(hung_station.__file__).parent
    done = subprocess.run(
        [sys.executable, hung_station.__file__, str(tmp_path), broker.url, source],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(plugins), *sys.path])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == EXIT_HUNG, done.stderr
    assert "the model on trial computes on one part for more than 1 s; ending" in done.stderr
    assert (toy.states, toy.reverted) == (("confirmed", "empty"), "watchdog")
    wait_until(lambda: decode_state(ear.payloads("state")[-1], source="ear").st == 0)
    with open_journal(tmp_path / "outbox.sqlite") as journal:
        told = [json.loads(note.body) for note in journal.notes("slot")]
        entries = [(entry.part, entry.reason) for _, entry in journal.entries()]
    assert [(note["event"], note["reason"]) for note in told] == [("reverted", "watchdog")]
    # A file comes again, and is judged by the confirmed one: nothing was said of it.
    lost = [("P0", "engine"), ("P1", "engine"), ("P2", "engine")]
    assert entries == (lost if source == "camera" else [])


def test_a_model_that_hangs_while_it_is_opened_ends_the_process_too() -> None:
    code = (
        "import time; from lineside.station.hanging import leaving_when_late\n"
        "with leaving_when_late(0.1, lambda: print('taken back', flush=True)): time.sleep(60)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (EXIT_HUNG, "taken back\n")
    assert "did not open within 0.1 s" in done.stderr
    with leaving_when_late(60.0, lambda: None):
        pass


def test_a_bundle_tried_in_a_station_of_its_own_process_loses_no_part_and_mixes_no_models(
    tmp_path: Path, tiny_bundle: TinyBundle
) -> None:
    with open_tried(tmp_path, tiny_bundle, rate_hz=20.0) as tried:
        outcome = switch_often(tried, 1)
    assert outcome.faults == []
    assert outcome.received == outcome.given >= 70


STATION = """
[station]
site = "plant1"
line = "line3"
name = "aoi1"
[bundle]
store = "slots"
trust = ["{trust}"]
engine = "onnxruntime"
threads = 1
[bundle.trial]
parts = 4
max_disagree = 1.0
[source]
kind = "folder"
path = "frames"
watch = true
settle_ms = 0
poll_ms = 10
[mqtt]
url = "{url}"
"""


def test_real_bundles_are_proved_tried_and_confirmed(
    tmp_path: Path,
    broker: Mosquitto,
    ear: Any,
    tiny_bundle: TinyBundle,
    wait_until: Callable[..., None],
) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "station.toml").write_text(
        STATION.format(trust=tiny_bundle.public_key_path, url=broker.url), encoding="utf-8"
    )
    bundles = SlotBundles(tiny=tiny_bundle, folder=tmp_path)
    put(tmp_path / "slots", bundles.seal("1.0.0"), bundles.trust)
    rule = LimitRule(ok_limit=0.1, not_ok_limit=0.1, unit="K/W")
    strict = msgspec.structs.replace(tiny_bundle.manifest, rule=rule)
    other = SlotBundles(tiny=dataclasses.replace(tiny_bundle, manifest=strict), folder=tmp_path)
    second = other.seal("2.0.0", security_counter=3)

    def give(*paths: Path) -> None:
        for path in paths:
            aside = tmp_path / "frames" / f".{path.name}"
            aside.write_bytes(path.read_bytes())
            aside.rename(tmp_path / "frames" / path.name)

    def states() -> list[StateMessage]:
        return [decode_state(data, source="ear") for data in ear.payloads("state")]

    with open_station(read_configuration(tmp_path / "station.toml")) as station:
        thread = threading.Thread(target=station.run, kwargs={"drain_timeout_s": 20.0})
        thread.start()
        try:
            give(*tiny_bundle.frames[:2])
            wait_until(lambda: len(ear.payloads("verdict")) == 2)
            store = put(tmp_path / "slots", second, bundles.trust)
            wait_until(lambda: states()[-1].slot_state == "trial", 60)
            give(*tiny_bundle.frames[2:])
            wait_until(lambda: states()[-1].slot_state == "confirmed", 30)
        finally:
            station.stop()
            thread.join(30)
    verdicts = [decode_verdict(data, source="ear") for data in ear.payloads("verdict")]
    assert [verdict.ev for verdict in verdicts] == [1, 2, 2, 2, 2, 2]
    assert len({verdict.model for verdict in verdicts}) == 2
    state = states()[-1]
    assert (state.slot, state.version, state.counter) == ("b", "2.0.0", 3)
    assert list(store.record.counters.values()) == [3]
