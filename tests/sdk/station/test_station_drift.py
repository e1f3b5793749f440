"""Drift in a running station: told on the state, in health and journal, kept over restarts."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.publish
import pytest
from frame_feed import Feed
from mosquitto_broker import Mosquitto
from tiny_bundle import tiny_contract

from lineside.drift import DriftMonitor, DriftReference, DriftSettings, Spread
from lineside.mqtt import MqttSettings, StationTopics, decode_state
from lineside.outbox import Outbox, OutboxSettings
from lineside.outbox.reading import open_journal
from lineside.station import ModelCard, Product, Products, Station
from lineside.station.drift import DriftWatch

TOPICS = StationTopics(site="plant1", line="line3", station="aoi1")
CARD = ModelCard(product="level", bundle="ab" * 32, version="1", engine="mean/fp64")


def watch() -> DriftWatch:
    """By pictures that are about as bright as level 100 of 255."""
    random = np.random.default_rng(7)
    reference = DriftReference(
        of="good",
        parts=400.0,
        light=Spread.from_values(random.normal(100 / 255, 0.02, 400), "light"),
        clipping=Spread.from_values(np.zeros(400), "clipping"),
        focus=Spread.from_values(np.full(400, -20.0), "focus"),
        forms=(),
    )
    settings = DriftSettings(parts_per_false_alarm=100_000, block=8)
    return DriftWatch(
        monitor=DriftMonitor(reference, engine="mean", precision="fp64", settings=settings)
    )


@pytest.fixture
def run(
    tmp_path: Path, broker: Mosquitto, make_inspector: Callable[..., Any]
) -> Iterator[Callable[..., tuple[Station, Feed, Callable[[], None]]]]:
    """``run()``: a station that watches, its feed, and what ends it."""
    ends: list[Callable[[], None]] = []

    def make() -> tuple[Station, Feed, Callable[[], None]]:
        feed, outbox = Feed(), Outbox(OutboxSettings(path=tmp_path / "outbox.sqlite"))
        product = Product(
            card=CARD, inspector=make_inspector(), contract=tiny_contract(side_px=8), drift=watch()
        )
        station = Station(
            topics=TOPICS,
            products=Products([product]),
            source=feed,
            outbox=outbox,
            mqtt=MqttSettings(url=broker.url, state_interval_s=1),
        )
        thread = threading.Thread(target=station.run, kwargs={"drain_timeout_s": 20.0})
        thread.start()

        def end() -> None:
            station.stop()
            thread.join(30)
            assert not thread.is_alive()
            outbox.close()

        ends.append(end)
        return station, feed, end

    yield make
    for end in ends:
        end()


def give(station: Station, feed: Feed, level: int, count: int, wait: Callable[..., None]) -> None:
    for number in range(count):
        before = station.outbox.given
        feed.give(f"p{number}", level=level + number % 5)
        wait(lambda before=before: station.outbox.given > before, 30)


def test_drift_is_told_noted_and_taken_back_when_it_was_mended(
    run: Callable[..., Any],
    broker: Mosquitto,
    ear: Any,
    tmp_path: Path,
    wait_until: Callable[..., None],
) -> None:
    station, feed, end = run()
    give(station, feed, 98, 40, wait_until)
    assert not station.keepers.drift.alarm
    give(station, feed, 170, 300, wait_until)
    assert station.keepers.drift.alarm
    assert station.keepers.drift.figures["alarm"] == "light"

    def warned() -> str:
        return decode_state(ear.payloads("state")[-1], source="ear").warn

    wait_until(lambda: warned() == "drift")
    paho.mqtt.publish.single(
        f"{TOPICS.state.removesuffix('state')}cmd/mended",
        json.dumps({"id": "m1", "by": "JD", "note": "new lamp"}),
        qos=1,
        port=broker.port,
    )
    wait_until(lambda: warned() == "")
    assert not station.keepers.drift.alarm
    end()
    with open_journal(tmp_path / "outbox.sqlite") as journal:
        (drift,) = [json.loads(note.body) for note in journal.notes("drift")]
        (mended,) = [json.loads(note.body) for note in journal.notes("mended")]
    assert (drift["product"], drift["name"]) == ("level", "light")
    assert drift["side"] in ("up", "above")
    assert mended["note"] == "new lamp"


def test_evidence_outlives_a_restart_and_a_damaged_file_begins_anew_with_words(
    run: Callable[..., Any], tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    station, feed, end = run()
    give(station, feed, 170, 200, wait_until)
    assert station.keepers.drift.alarm
    end()
    station, feed, end = run()
    assert station.keepers.drift.alarm
    assert station.troubles["drift"] == ""
    give(station, feed, 170, 2, wait_until)
    end()
    with open_journal(tmp_path / "outbox.sqlite") as journal:
        assert len(list(journal.notes("drift"))) == 1, "one alarm is one note"
    (tmp_path / "outbox.sqlite.drift").write_bytes(b"\xc1torn")
    station, _, _ = run()
    assert not station.keepers.drift.alarm
    assert "begins anew" in station.troubles["drift"]
