"""A station that is told over MQTT: triggers, changeovers, dispositions; heard by plain paho."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.publish
import pytest
from mosquitto_broker import Mosquitto

from lineside.mqtt import MqttSettings, StationTopics
from lineside.outbox import Outbox, OutboxSettings
from lineside.outbox.reading import open_journal
from lineside.sources import FolderSettings, MqttTrigger, open_source
from lineside.station import ModelCard, Product, Products, Station

TOPICS = StationTopics(site="plant1", line="line3", station="aoi1")
ROOT = "lineside/v1/plant1/line3/aoi1"


@dataclass
class Told:
    """A station in a thread, and who speaks to it."""

    station: Station
    thread: threading.Thread
    broker: Mosquitto
    ear: Any
    inspectors: dict[str, Any]

    def say(self, command: str, **body: Any) -> None:
        paho.mqtt.publish.single(
            f"{ROOT}/cmd/{command}", json.dumps(body), qos=1, port=self.broker.port
        )

    def heard(self, *kinds: str) -> list[tuple[str, dict[str, Any]]]:
        """Messages of these topics, in the order of their arrival."""
        return [
            (kind, json.loads(payload))
            for topic, payload, _ in list(self.ear.messages)
            if (kind := topic.removeprefix(f"{ROOT}/")) in kinds
        ]


@pytest.fixture
def told(
    tmp_path: Path,
    broker: Mosquitto,
    ear: Any,
    make_inspector: Callable[..., Any],
    wait_until: Callable[..., None],
) -> Iterator[Told]:
    (tmp_path / "frames").mkdir()
    outbox = Outbox(OutboxSettings(path=tmp_path / "outbox.sqlite"))
    inspectors = {"level": make_inspector(), "other": make_inspector()}
    cards = [
        ModelCard(product=name, bundle=name[0] * 64, version="1", engine="mean/fp64")
        for name in inspectors
    ]
    folder = FolderSettings(path=tmp_path / "frames", watch=True, settle_ms=0, poll_ms=10)
    source = open_source(
        folder,
        MqttTrigger(match="part", frame_timeout_ms=5000, part_timeout_ms=3000),
        memory=outbox,
    )
    station = Station(
        topics=TOPICS,
        products=Products(
            [Product(card=card, inspector=inspectors[card.product]) for card in cards]
        ),
        source=source,
        outbox=outbox,
        mqtt=MqttSettings(url=broker.url),
    )
    thread = threading.Thread(target=station.run, kwargs={"drain_timeout_s": 20.0})
    thread.start()
    made = Told(station, thread, broker, ear, inspectors)
    wait_until(lambda: made.heard("state"))
    yield made
    station.stop()
    thread.join(30)
    assert not thread.is_alive()
    source.close()
    outbox.close()


def test_a_triggered_part_is_judged_by_its_own_file(
    told: Told, tmp_path: Path, write_frames: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    told.say("trigger", id="t1", part="part-00001")
    told.say("trigger", id="t2", part="part-00000")
    write_frames(tmp_path / "frames", 2)
    wait_until(lambda: len(told.heard("verdict")) == 2)
    assert {body["part"] for _, body in told.heard("verdict")} == {"part-00000", "part-00001"}
    assert {(body["id"], body["ok"]) for _, body in told.heard("ack")} == {
        ("t1", True),
        ("t2", True),
    }


def test_a_part_without_a_frame_and_a_frame_without_a_part_are_told(
    told: Told, tmp_path: Path, write_frames: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    write_frames(tmp_path / "frames", 1)
    assert told.station.trigger("nobody")  # from Python, the same way
    wait_until(lambda: len(told.heard("verdict")) == 2, 30)
    reasons = {body["part"]: body["reason"] for _, body in told.heard("verdict")}
    assert reasons == {"": "part_missing", "nobody": "frame_missing"}
    assert told.inspectors["level"].seen == []


def test_another_product_is_acknowledged_before_its_first_part_is_judged(
    told: Told, tmp_path: Path, write_frames: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    stems = write_frames(tmp_path / "frames", 3)
    told.say("trigger", id="t0", part=stems[0])
    wait_until(lambda: len(told.heard("verdict")) == 1)
    told.say("trigger", id="t1", part=stems[1], product="other")
    wait_until(lambda: len(told.heard("verdict")) == 2)
    told.say("changeover", id="c1", product="other")
    wait_until(lambda: told.station.model.product == "other")
    told.say("trigger", id="t2", part=stems[2])
    wait_until(lambda: len(told.heard("verdict")) == 3)

    order = [
        (kind, body["part"]) if kind == "verdict" else (body["cmd"], body["id"] or body["detail"])
        for kind, body in told.heard("verdict", "ack")
        if kind == "verdict" or body["cmd"] == "changeover"
    ]
    assert order == [
        ("verdict", stems[0]),
        ("changeover", "other"),  # the station's own word, for the trigger's product
        ("verdict", stems[1]),
        ("changeover", "c1"),
        ("verdict", stems[2]),
    ]
    assert told.inspectors["level"].seen == stems[:1]
    assert told.inspectors["other"].seen == stems[1:]
    wait_until(lambda: any(body["product"] == "other" for _, body in told.heard("state")), 30)


def test_a_disposition_is_kept_beside_its_verdict(
    told: Told, tmp_path: Path, write_frames: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    stems = write_frames(tmp_path / "frames", 1)
    told.say("trigger", id="t0", part=stems[0])
    wait_until(lambda: len(told.heard("verdict")) == 1)
    verdict = told.heard("verdict")[0][1]
    told.say("disposition", id="d1", verdict=verdict["id"], evaluation=2, defect="void", by="JD")
    told.say("disposition", id="d2", evaluation=2)
    wait_until(lambda: {body["id"] for _, body in told.heard("ack")} >= {"d1", "d2"})
    answers = {body["id"]: body["ok"] for _, body in told.heard("ack")}
    assert (answers["d1"], answers["d2"]) == (True, False)
    assert told.station.outbox.flush(10)
    with open_journal(tmp_path / "outbox.sqlite") as journal:
        notes = [json.loads(note.body) for note in journal.notes("disposition")]
        entries = dict(journal.entries())
    assert [(note["verdict"], note["defect"]) for note in notes] == [(verdict["id"], "void")]
    entry = entries[verdict["seq"]]
    assert (entry.part, entry.product, entry.reason) == (stems[0], "level", "within_limit")
    assert len(entry.frame_sha256) == 64
    assert entry.latency_us > 0.0
