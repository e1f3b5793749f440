"""Each turn's one verdict on its way to the disk: in time, whole, and none let go in silence."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frame_feed import Feed

from lineside.errors import StorageError
from lineside.frame import Frame
from lineside.mqtt import MqttSettings, StationTopics, decode_verdict
from lineside.outbox import Outbox, OutboxSettings, open_journal
from lineside.sources import Capture, trigger_now
from lineside.station import Pace, Products, Station
from lineside.station.giving import Giver, Judgement
from lineside.station.products import ModelCard, Product
from lineside.station.report import Tally
from lineside.station.turn import Turn
from lineside.verdict import Evaluation, Reason

CARD = ModelCard(product="level", bundle="ab" * 32, version="1", engine="mean/fp64")


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    made = Outbox(OutboxSettings(path=tmp_path / "outbox.sqlite"))
    yield made
    made.close()


@pytest.fixture
def product(make_inspector: Callable[..., Any]) -> Product:
    return Product(card=CARD, inspector=make_inspector())


def turn_of(part_id: str = "p", *, ago_s: float = 0.0, deadline_ms: float | None = None) -> Turn:
    capture = Capture(
        part_id=part_id,
        taken_unix_ns=time.time_ns(),
        taken_ns=time.monotonic_ns() - round(ago_s * 1e9),
        read_us=0.0,
        frame=Frame(pixels_hwc=np.zeros((8, 8, 1), np.uint8), part_id=part_id),
        trigger=trigger_now(part_id),
    )
    return Turn(capture, None, deadline_ms=deadline_ms)


def judged(turn: Turn, product: Product) -> Judgement:
    assert turn.capture.frame is not None
    (found,) = product.inspector.inspect_batch([turn.capture.frame])
    return Judgement(verdict=found.verdict, product=product, inspections=(found,))


def giver_of(outbox: Outbox, stopping: threading.Event | None = None) -> Giver:
    return Giver(outbox, Tally(), expiry_s=10.0, stopping=stopping or threading.Event())


def published(outbox: Outbox) -> list[tuple[str, Evaluation, str]]:
    assert outbox.flush(10)
    rows = [decode_verdict(row.payload, source="outbox") for row in outbox.unsent(0, 10_000)]
    return [(row.part, row.evaluation, row.reason) for row in rows]


def test_a_result_past_the_deadline_is_no_verdict_though_nobody_has_said_so_yet(
    outbox: Outbox, product: Product, tmp_path: Path
) -> None:
    # A process that was stopped and goes on, or starved: inspection may wake before the watch.
    giver, turn = giver_of(outbox), turn_of("slept", ago_s=5.0, deadline_ms=100.0)
    found = judged(turn, product)
    assert found.verdict.evaluation is Evaluation.OK
    assert not giver.give(turn, found)
    assert published(outbox) == [("slept", Evaluation.NOT_DECIDABLE, "deadline")]
    assert (giver.late, giver.late_lost) == (1, 0)
    with open_journal(tmp_path / "outbox.sqlite") as journal:
        (late,) = [entry for _, entry in journal.late()]
    assert (late.turn, late.evaluation, late.late) == (turn.id, int(Evaluation.OK), True)


def test_what_is_no_result_is_not_kept_as_a_late_one(outbox: Outbox, product: Product) -> None:
    giver, turn = giver_of(outbox), turn_of("p", deadline_ms=60_000.0)
    assert giver.give(turn, judged(turn, product))
    assert not giver.expire(turn, product)  # the watch had looked a moment before
    assert not giver.give_fault(turn, product, Reason.OVERLOAD, "others were waiting")
    assert published(outbox) == [("p", Evaluation.OK, "within_limit")]
    assert giver.late == 0


def test_parts_that_end_together_with_the_station_keep_their_verdicts(
    outbox: Outbox, product: Product
) -> None:
    # More at one moment than the outbox takes unwritten: the disk is well, so they are waited for.
    stopping = threading.Event()
    stopping.set()
    giver = giver_of(outbox, stopping)
    for number in range(1000):
        assert giver.give_fault(turn_of(str(number)), product, Reason.FRAME_MISSING, "the end")
    assert [part for part, _, _ in published(outbox)] == [str(number) for number in range(1000)]
    assert giver.lost == 0


def test_a_station_that_ends_on_a_full_disk_says_that_parts_are_left_without_a_verdict(
    tmp_path: Path, product: Product, wait_until: Callable[..., None]
) -> None:
    feed = Feed()
    outbox = Outbox(OutboxSettings(path=tmp_path / "outbox.sqlite", max_mib=1))
    station = Station(
        topics=StationTopics(site="plant1", line="line3", station="aoi1"),
        products=Products([product]),
        source=feed,
        outbox=outbox,
        mqtt=MqttSettings(url="mqtt://127.0.0.1:1"),
        pace=Pace(policy="block"),
    )
    ended: list[BaseException] = []

    def run() -> None:
        try:
            station.run(drain_timeout_s=1.0)
        except StorageError as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    for number in range(3000):
        feed.give(f"p{number}")
    wait_until(lambda: outbox.fault is not None, 60)
    station.stop()
    thread.join(30)
    outbox.close()
    (error,) = ended
    assert "could not be written before the end" in str(error)
    assert "outbox.max_mib" in str(error)
