"""One verdict for every part, in time: deadlines, a full backlog, regions, several products."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from frame_feed import Feed
from mosquitto_broker import Mosquitto

from lineside.framekey import FrameKey
from lineside.mqtt import MqttSettings, StationTopics, VerdictMessage, decode_verdict
from lineside.outbox import Draft, Outbox, OutboxSettings
from lineside.outbox.reading import open_journal
from lineside.sources import trigger_now
from lineside.station import ModelCard, Pace, Product, Products, RegionSettings, Station
from lineside.verdict import Evaluation

TOPICS = StationTopics(site="plant1", line="line3", station="aoi1")


def card(product: str) -> ModelCard:
    return ModelCard(product=product, bundle="ab" * 32, version="1", engine="mean/fp64")


@pytest.fixture
def run(
    tmp_path: Path, broker: Mosquitto, make_inspector: Callable[..., Any]
) -> Iterator[Callable[..., tuple[Station, Feed, Any]]]:
    """``run(pace, pause_s=…)``: a station that runs; with its feed and its first inspector."""
    running: list[tuple[Station, threading.Thread, Outbox]] = []

    def make(
        pace: Pace,
        *,
        pause_s: float = 0.0,
        regions: tuple[RegionSettings, ...] = (),
        remembered: tuple[str, ...] = (),
    ) -> tuple[Station, Feed, Any]:
        feed, outbox = Feed(), Outbox(OutboxSettings(path=tmp_path / "outbox.sqlite"))
        for name in remembered:
            key = FrameKey(source=feed.identity, name=name.encode(), size_bytes=1, mtime_ns=1)
            outbox.put(Draft(encode=lambda _: b"{}", key=key), stopping=threading.Event())
        assert outbox.flush(10)
        inspector = make_inspector(pause_s=pause_s)
        station = Station(
            topics=TOPICS,
            products=Products(
                [
                    Product(card=card("level"), inspector=inspector, regions=regions),
                    Product(card=card("other"), inspector=make_inspector()),
                ]
            ),
            source=feed,
            outbox=outbox,
            mqtt=MqttSettings(url=broker.url),
            pace=pace,
        )
        thread = threading.Thread(target=station.run, kwargs={"drain_timeout_s": 20.0})
        thread.start()
        running.append((station, thread, outbox))
        return station, feed, inspector

    yield make
    for station, thread, outbox in running:
        station.stop()
        thread.join(30)
        assert not thread.is_alive()
        outbox.close()


def heard(ear: Any) -> dict[str, VerdictMessage]:
    messages = [decode_verdict(data, source="ear") for data in ear.payloads("verdict")]
    by_part = {message.part: message for message in messages}
    assert len(by_part) == len(messages), "a part has two verdicts"
    return by_part


def test_a_part_past_its_deadline_hears_so_at_the_deadline(
    run: Callable[..., tuple[Station, Feed, Any]], ear: Any, wait_until: Callable[..., None]
) -> None:
    station, feed, _ = run(Pace(deadline_ms=400.0), pause_s=2.0)
    feed.give("slow", level=200)
    wait_until(lambda: "slow" in heard(ear), 30)
    verdict = heard(ear)["slow"]
    assert (verdict.evaluation, verdict.reason) == (Evaluation.NOT_DECIDABLE, "deadline")
    # It was said while the inspection was still busy with it, and the line hears nothing else.
    assert station.tally.frames == 1
    wait_until(lambda: station.giver.late == 1, 30)
    feed.close()
    wait_until(lambda: station.outbox.waiting == 0)
    assert list(heard(ear)) == ["slow"]


def test_a_frame_that_waited_too_long_is_not_inspected(
    run: Callable[..., tuple[Station, Feed, Any]], ear: Any, wait_until: Callable[..., None]
) -> None:
    _, feed, inspector = run(Pace(deadline_ms=300.0), pause_s=1.5)
    for number in range(4):
        feed.give(f"p{number}")
    wait_until(lambda: len(heard(ear)) == 4, 30)
    assert {verdict.reason for verdict in heard(ear).values()} == {"deadline"}
    wait_until(lambda: inspector.seen == ["p0"], 30)
    inspector.pause_s = 0.0
    feed.give("after")
    wait_until(lambda: "after" in inspector.seen, 30)
    assert inspector.seen == ["p0", "after"]


def test_a_picture_that_hangs_on_its_way_does_not_hold_up_the_deadline(
    run: Callable[..., tuple[Station, Feed, Any]], ear: Any, wait_until: Callable[..., None]
) -> None:
    station, feed, inspector = run(Pace(deadline_ms=300.0))
    trigger = trigger_now("slow share")
    feed.accepted(trigger)  # the picture does not come, say, from a share that stands
    wait_until(lambda: heard(ear))
    assert heard(ear)["slow share"].reason == "deadline"
    feed.give("slow share", trigger=trigger)
    feed.give("next")
    wait_until(lambda: "next" in heard(ear))
    assert heard(ear).keys() == {"slow share", "next"}  # and no part has two
    assert inspector.seen == ["next"]
    assert station.giver.late == 0  # nothing was found of it


@pytest.mark.parametrize(("policy", "loses"), [("newest", "first"), ("oldest", "last")])
def test_what_gives_way_has_a_verdict_too(
    run: Callable[..., tuple[Station, Feed, Any]],
    ear: Any,
    wait_until: Callable[..., None],
    policy: Any,
    loses: str,
) -> None:
    station, feed, _ = run(Pace(backlog=2, policy=policy), pause_s=0.5)
    feed.give("busy")
    wait_until(lambda: len(station.backlog) == 0)
    time.sleep(0.1)  # it is being inspected
    for name in ("first", "second", "last"):
        feed.give(name)
    wait_until(lambda: len(heard(ear)) == 4, 30)
    reasons = {part: verdict.reason for part, verdict in heard(ear).items()}
    assert {part for part, reason in reasons.items() if reason == "overload"} == {loses}
    assert station.backlog.gave_way == 1


def test_the_worst_region_decides_for_the_part(
    run: Callable[..., tuple[Station, Feed, Any]], ear: Any, wait_until: Callable[..., None]
) -> None:
    half = RegionSettings(name="upper", x0_px=0, y0_px=0, x1_px=8, y1_px=4)
    lower = RegionSettings(name="lower", x0_px=0, y0_px=4, x1_px=8, y1_px=8)
    _, feed, inspector = run(Pace(), regions=(half, lower))
    feed.give("bad", level=250)
    wait_until(lambda: "bad" in heard(ear))
    assert heard(ear)["bad"].evaluation is Evaluation.NOT_OK
    assert inspector.seen == ["bad", "bad"]


def test_a_frame_too_small_for_its_region_is_not_decidable(
    run: Callable[..., tuple[Station, Feed, Any]], ear: Any, wait_until: Callable[..., None]
) -> None:
    far = RegionSettings(name="far", x0_px=0, y0_px=0, x1_px=9, y1_px=4)
    _, feed, _ = run(Pace(), regions=(far,))
    feed.give("small")
    wait_until(lambda: "small" in heard(ear))
    assert heard(ear)["small"].reason == "frame_size"


def test_the_trigger_s_product_picks_the_bundle_for_that_part(
    run: Callable[..., tuple[Station, Feed, Any]],
    ear: Any,
    wait_until: Callable[..., None],
    tmp_path: Path,
) -> None:
    station, feed, inspector = run(Pace())
    feed.give("a")
    feed.give("b", product="other")
    feed.give("c", product="unheard-of")
    feed.give("d")
    wait_until(lambda: len(heard(ear)) == 4)
    assert inspector.seen == ["a", "d"]
    assert heard(ear)["b"].evaluation is Evaluation.OK
    unknown = heard(ear)["c"]
    assert (unknown.evaluation, unknown.reason) == (Evaluation.NOT_DECIDABLE, "product_unknown")
    with open_journal(tmp_path / "outbox.sqlite") as journal:
        entries = {entry.part: entry.product for _, entry in journal.entries()}
    assert entries == {"a": "level", "b": "other", "c": "unheard-of", "d": "level"}
    station.products.activate("other")
    feed.give("e")
    wait_until(lambda: len(heard(ear)) == 5)
    assert inspector.seen == ["a", "d"]


def test_a_share_that_does_not_answer_about_old_frames_holds_up_no_part(
    run: Callable[..., tuple[Station, Feed, Any]],
    ear: Any,
    wait_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hanging, asked = threading.Event(), threading.Event()

    def is_gone(_feed: Feed, _name: bytes) -> bool:
        asked.set()
        return hanging.wait(60)

    monkeypatch.setattr(Feed, "is_gone", is_gone)
    monkeypatch.setattr("lineside.station.housekeeping.REMEMBER_GONE_S", -10.0)
    station, feed, _ = run(Pace(), remembered=("old",))
    assert asked.wait(10)
    feed.give("new")
    wait_until(lambda: any(b'"part":"new"' in data for data in ear.payloads("verdict")))
    station.stop()
    wait_until(lambda: station.publisher.connection.word == "ended")
    hanging.set()


def test_what_cannot_come_again_is_judged_before_the_end(
    run: Callable[..., tuple[Station, Feed, Any]], ear: Any, wait_until: Callable[..., None]
) -> None:
    station, feed, _ = run(Pace(), pause_s=0.3)
    for name in "abc":
        feed.give(name)
    wait_until(lambda: len(station.backlog) == 2)
    station.stop()
    wait_until(lambda: len(heard(ear)) == 3)
