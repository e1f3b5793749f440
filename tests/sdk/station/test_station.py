"""The station against a real broker: killed, absent, stalled, refusing; and a disk that is full."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mosquitto_broker import Mosquitto, free_port
from tcp_relay import TcpRelay

from lineside.errors import StorageError
from lineside.mqtt import (
    Hearing,
    MqttSettings,
    StateMessage,
    StateWord,
    StationTopics,
    VerdictMessage,
    decode_state,
    decode_verdict,
    encode_verdict,
    message_of,
)
from lineside.mqtt.publisher import VERDICT_WINDOW, WINDOW
from lineside.outbox import Draft, Outbox, OutboxSettings, Stamp, open_journal
from lineside.sources import FolderSettings, FolderSource
from lineside.station import ModelCard, Product, Products, RunReport, Station
from lineside.station.housekeeping import REMEMBER_GONE_S
from lineside.verdict import Evaluation, Reason, Verdict
from lineside.worker import Worker

TOPICS = StationTopics(site="plant1", line="line3", station="aoi1")
MODEL = ModelCard(product="level", bundle="ab" * 32, version="1.2.3", engine="mean/fp64")


@dataclass
class Running:
    """A station in a thread of its own."""

    station: Station
    thread: threading.Thread
    reports: list[RunReport]
    failures: list[BaseException]

    def join(self, timeout_s: float = 30.0) -> RunReport:
        self.thread.join(timeout_s)
        assert not self.thread.is_alive(), "the station does not end"
        if self.failures:
            raise self.failures[0]
        return self.reports[0]


@pytest.fixture
def start(tmp_path: Path, make_inspector: Callable[..., Any]) -> Iterator[Callable[..., Running]]:
    """``start(url, frames)`` runs a station; stopped and its outbox closed in the end."""
    running: list[Running] = []

    def make(
        url: str,
        *,
        watch: bool = False,
        pause_s: float = 0.0,
        drain_timeout_s: float = 20.0,
        max_mib: int = 64,
        mqtt: dict[str, Any] | None = None,
    ) -> Running:
        outbox = Outbox(OutboxSettings(path=tmp_path / "outbox.sqlite", max_mib=max_mib))
        folder = FolderSettings(path=tmp_path / "frames", watch=watch, settle_ms=0, poll_ms=10)
        quick = {"reconnect_min_s": 0.05, "reconnect_max_s": 0.2, "state_interval_s": 1}
        station = Station(
            topics=TOPICS,
            products=Products([Product(card=MODEL, inspector=make_inspector(pause_s=pause_s))]),
            source=FolderSource(folder, memory=outbox),
            outbox=outbox,
            mqtt=msgspec.structs.replace(MqttSettings(url=url), **{**quick, **(mqtt or {})}),
        )
        reports: list[RunReport] = []
        failures: list[BaseException] = []

        def body() -> None:
            try:
                reports.append(station.run(drain_timeout_s=drain_timeout_s))
            except BaseException as failure:  # noqa: BLE001 - raised again by join
                failures.append(failure)
            finally:
                outbox.close()

        thread = threading.Thread(target=body, daemon=True)
        running.append(Running(station, thread, reports, failures))
        thread.start()
        return running[-1]

    yield make
    for one in running:
        one.station.stop()
        one.thread.join(20)
        assert not one.thread.is_alive()


def verdicts(ear: Any) -> list[VerdictMessage]:
    return [decode_verdict(data, source="ear") for data in ear.payloads("verdict")]


def states(ear: Any) -> list[StateMessage]:
    return [decode_state(data, source="ear") for data in ear.payloads("state")]


def once(messages: list[VerdictMessage]) -> list[VerdictMessage]:
    """What a receiver keeps; a repeated delivery must be the very same."""
    by_id: dict[str, VerdictMessage] = {}
    for message in messages:
        assert by_id.setdefault(message.id, message) == message
    return list(by_id.values())


def test_every_frame_becomes_one_verdict_on_the_broker(
    tmp_path: Path,
    broker: Mosquitto,
    ear: Any,
    start: Callable[..., Running],
    write_frames: Callable[..., list[str]],
) -> None:
    stems = write_frames(tmp_path / "frames", 60)
    report = start(broker.url).join()
    heard = verdicts(ear)
    assert [message.part for message in heard] == stems
    assert [message.seq for message in heard] == list(range(1, 61))
    assert {message.ev for message in heard} == {1, 2}
    assert report.frames == report.acknowledged == report.given == 60
    assert report.waiting == 0
    assert report.evaluations["OK"] + report.evaluations["NOT_OK"] == 60
    for stage in ("read", "infer", "handover", "delivery"):
        times = report.latency_us[stage]
        assert times.count == 60
        assert 0 < times.p50_us <= times.p99_us <= times.max_us


def test_the_state_says_birth_and_goodbye(
    tmp_path: Path,
    broker: Mosquitto,
    ear: Any,
    start: Callable[..., Running],
    write_frames: Callable[..., list[str]],
) -> None:
    write_frames(tmp_path / "frames", 3)
    start(broker.url).join()
    first, *_, last = states(ear)
    assert (first.st, first.state, first.reason) == (1, StateWord.ONLINE, "")
    assert (first.bundle, first.version, first.engine) == ("ab" * 32, "1.2.3", "mean/fp64")
    assert (first.product, first.beat_s) == ("level", 1)
    assert (last.state, last.reason, last.given, last.acked) == (StateWord.OFFLINE, "stopped", 3, 3)
    ear.messages.clear()
    ear.connect()
    deadline_s = time.monotonic() + 5
    while not ear.messages and time.monotonic() < deadline_s:
        time.sleep(0.01)
    # Only the state is kept by the broker: an old verdict must never look like a new one.
    assert [(topic, retained) for topic, _, retained in ear.messages] == [(TOPICS.state, True)]


def test_a_corrupt_image_among_good_ones(
    tmp_path: Path,
    broker: Mosquitto,
    ear: Any,
    start: Callable[..., Running],
    write_frames: Callable[..., list[str]],
) -> None:
    write_frames(tmp_path / "frames", 5)
    (tmp_path / "frames" / "part-00002.png").write_bytes(b"not a picture")
    report = start(broker.url).join()
    heard = verdicts(ear)
    assert len(heard) == 5
    assert heard[2].evaluation is Evaluation.NOT_DECIDABLE
    assert (heard[2].part, heard[2].reason, heard[2].code) == ("part-00002", "frame_decode", 11)
    assert heard[2].score is None
    assert report.evaluations["NOT_DECIDABLE"] == 1
    assert report.reasons[Reason.FRAME_DECODE.value] == 1


def test_the_broker_is_killed_while_verdicts_flow_and_nothing_is_lost(
    tmp_path: Path,
    broker: Mosquitto,
    relay: TcpRelay,
    ear: Any,
    start: Callable[..., Running],
    write_frames: Callable[..., list[str]],
    wait_until: Callable[..., None],
) -> None:
    stems = write_frames(tmp_path / "frames", 400)
    running = start(relay.url, pause_s=0.002)
    for count in (60, 180):
        wait_until(lambda count=count: len(ear.payloads("verdict")) >= count)
        # The relay keeps the station out until the witness listens again: what a broker hands to
        # nobody, nobody can count.
        broker.kill()
        relay.shut()
        time.sleep(0.1)
        broker.start()
        ear.connect()
        relay.open()
    report = running.join()
    kept = once(verdicts(ear))
    assert sorted(message.seq for message in kept) == list(range(1, 401))
    assert [message.part for message in sorted(kept, key=lambda message: message.seq)] == stems
    assert report.reconnects >= 2
    assert (report.waiting, report.acknowledged) == (0, 400)
    assert relay.unacknowledged_peak <= WINDOW


def test_the_connection_breaks_at_any_moment(
    tmp_path: Path,
    broker: Mosquitto,
    relay: TcpRelay,
    ear: Any,
    start: Callable[..., Running],
    write_frames: Callable[..., list[str]],
) -> None:
    write_frames(tmp_path / "frames", 300)
    running = start(relay.url, pause_s=0.003)
    for _ in range(12):
        time.sleep(0.07)
        relay.cut()
    running.join()
    assert sorted(message.seq for message in once(verdicts(ear))) == list(range(1, 301))
    assert relay.unacknowledged_peak <= WINDOW
    assert relay.connections > 5


def test_swallowed_acknowledgements_are_not_waited_for_for_ever(
    tmp_path: Path,
    broker: Mosquitto,
    relay: TcpRelay,
    ear: Any,
    start: Callable[..., Running],
    write_frames: Callable[..., list[str]],
    wait_until: Callable[..., None],
) -> None:
    write_frames(tmp_path / "frames", 50)
    relay.swallow_pubacks = True
    running = start(relay.url, mqtt={"ack_timeout_s": 0.3})
    wait_until(lambda: relay.connections >= 3)
    # Our own window: paho would have sent all 50 by now. Some places are the state's.
    assert {message.seq for message in verdicts(ear)} == set(range(1, VERDICT_WINDOW + 1))
    assert relay.unacknowledged_peak <= WINDOW
    assert running.station.outbox.acknowledged == 0
    relay.swallow_pubacks = False
    report = running.join()
    kept = once(verdicts(ear))
    assert sorted(message.seq for message in kept) == list(range(1, 51))
    assert len(verdicts(ear)) > 50
    assert report.waiting == 0


def test_the_broker_comes_later_than_the_station(
    tmp_path: Path,
    start: Callable[..., Running],
    write_frames: Callable[..., list[str]],
    wait_until: Callable[..., None],
    make_broker: Callable[..., Mosquitto],
) -> None:
    write_frames(tmp_path / "frames", 30)
    broker = make_broker()
    running = start(broker.url)
    wait_until(lambda: running.station.outbox.given == 30)
    wait_until(lambda: running.station.publisher.connection.word == "waiting")
    broker.start()
    report = running.join()
    assert (report.waiting, report.acknowledged, report.reconnects) == (0, 30, 0)


def test_without_a_broker_inspection_goes_on_and_the_verdicts_wait_on_disk(
    tmp_path: Path,
    broker: Mosquitto,
    ear: Any,
    start: Callable[..., Running],
    write_frames: Callable[..., list[str]],
) -> None:
    write_frames(tmp_path / "frames", 40)
    report = start(f"mqtt://127.0.0.1:{free_port()}", drain_timeout_s=0.3).join()
    assert (report.frames, report.waiting) == (40, 40)
    assert "127.0.0.1" in report.connection
    write_frames(tmp_path / "frames", 10, first=40)
    report = start(broker.url).join()
    assert (report.frames, report.passed_over, report.waiting) == (10, 40, 0)
    assert [message.seq for message in verdicts(ear)] == list(range(1, 51))
    hearing = Hearing()
    assert all(hearing.hear(TOPICS, message).missing is None for message in verdicts(ear))


def test_a_refused_password_is_a_state_and_the_station_goes_on(
    tmp_path: Path,
    make_broker: Callable[..., Mosquitto],
    start: Callable[..., Running],
    write_frames: Callable[..., list[str]],
    wait_until: Callable[..., None],
) -> None:
    users = tmp_path / "users"
    users.write_text("", encoding="utf-8")
    broker = make_broker("allow_anonymous false", f"password_file {users}")
    broker.start()
    write_frames(tmp_path / "frames", 20)
    running = start(broker.url, mqtt={"username": "aoi1"}, drain_timeout_s=2.0)
    wait_until(lambda: running.station.outbox.given == 20)
    wait_until(lambda: running.station.publisher.connection.word == "refused")
    report = running.join()
    assert report.waiting == 20
    assert "uthori" in report.connection
    # Patience, not a crash loop: at 0.05 s doubling to 0.2 s, two seconds hold at most twenty.
    assert broker.log().count("New connection") < 25


def fill_up(path: Path, wait_until: Callable[..., None]) -> int:
    """Fill an outbox of 1 MiB: long verdicts (by white space), short ones into what room is left.

    Returns:
        How many.
    """
    given = 0
    for length in (3900, 0):
        outbox = Outbox(OutboxSettings(path=path, max_mib=1))
        stopping = threading.Event()
        feeder = threading.Thread(target=feed, args=(outbox, stopping, length), daemon=True)
        feeder.start()
        wait_until(lambda outbox=outbox: outbox.fault is not None)
        stopping.set()
        feeder.join(5)
        outbox.close()
        given = outbox.given
    return given


def feed(outbox: Outbox, stopping: threading.Event, length: int) -> None:
    verdict = Verdict(evaluation=Evaluation.OK, reason=Reason.WITHIN_LIMIT)

    def encode(stamp: Stamp) -> bytes:
        message = message_of(
            verdict,
            seq=stamp.seq,
            job_id=stamp.job_id,
            part_id="",
            taken_unix_ns=0,
            expires_unix_ms=1,
        )
        return encode_verdict(message).ljust(length)

    while outbox.put(Draft(encode=encode), stopping=stopping):
        pass


def test_a_full_disk_is_told_and_cured(
    tmp_path: Path,
    broker: Mosquitto,
    relay: TcpRelay,
    ear: Any,
    start: Callable[..., Running],
    write_frames: Callable[..., list[str]],
    wait_until: Callable[..., None],
) -> None:
    before = fill_up(tmp_path / "outbox.sqlite", wait_until)
    stems = write_frames(tmp_path / "frames", 300)
    relay.swallow_pubacks = True
    running = start(relay.url, max_mib=1, mqtt={"ack_timeout_s": 60.0})
    wait_until(lambda: any(state.reason == "disk" for state in states(ear)))
    [fault, *_] = [state for state in states(ear) if state.reason == "disk"]
    assert (fault.st, fault.state) == (2, StateWord.FAULT)
    assert running.station.outbox.given < before + 300
    assert running.station.tally.frames < 300
    relay.swallow_pubacks = False
    relay.cut()
    report = running.join()
    kept = once(verdicts(ear))
    assert [message.seq for message in kept] == list(range(1, before + 301))
    assert [message.part for message in kept][before:] == stems
    assert (report.frames, report.waiting) == (300, 0)


def test_a_disk_that_stays_full_ends_a_finite_run_with_its_name(
    tmp_path: Path,
    start: Callable[..., Running],
    write_frames: Callable[..., list[str]],
    wait_until: Callable[..., None],
) -> None:
    fill_up(tmp_path / "outbox.sqlite", wait_until)
    write_frames(tmp_path / "frames", 40)
    url = f"mqtt://127.0.0.1:{free_port()}"
    with pytest.raises(StorageError, match="full"):
        start(url, max_mib=1, drain_timeout_s=1.0).join()


def test_stopping_finishes_the_frame_and_says_offline(
    tmp_path: Path,
    broker: Mosquitto,
    ear: Any,
    start: Callable[..., Running],
    write_frames: Callable[..., list[str]],
    wait_until: Callable[..., None],
) -> None:
    write_frames(tmp_path / "frames", 500)
    running = start(broker.url, watch=True, pause_s=0.01)
    wait_until(lambda: len(ear.payloads("verdict")) >= 20)
    running.station.stop()
    report = running.join()
    assert report.stopped
    assert report.waiting == 0
    assert len(once(verdicts(ear))) == report.frames < 500
    assert states(ear)[-1].reason == "stopped"


def test_a_station_that_dies_is_told_by_the_broker(
    tmp_path: Path,
    broker: Mosquitto,
    relay: TcpRelay,
    ear: Any,
    start: Callable[..., Running],
    write_frames: Callable[..., list[str]],
    wait_until: Callable[..., None],
) -> None:
    write_frames(tmp_path / "frames", 1)
    start(relay.url, watch=True)
    wait_until(lambda: len(ear.payloads("state")) >= 1)
    relay.shut()
    wait_until(lambda: states(ear)[-1].reason == "connection_lost")
    assert states(ear)[-1].st == 0
    relay.open()
    wait_until(lambda: states(ear)[-1].state is StateWord.ONLINE)
    assert states(ear)[-1].reconnects == 1


def test_a_lost_source_is_a_fault_on_the_state_topic(
    tmp_path: Path,
    broker: Mosquitto,
    ear: Any,
    start: Callable[..., Running],
    write_frames: Callable[..., list[str]],
    wait_until: Callable[..., None],
) -> None:
    write_frames(tmp_path / "frames", 1)
    start(broker.url, watch=True)
    wait_until(lambda: len(ear.payloads("verdict")) == 1)
    (tmp_path / "frames").rename(tmp_path / "gone")
    wait_until(lambda: states(ear)[-1].reason == "source")
    (tmp_path / "gone").rename(tmp_path / "frames")
    wait_until(lambda: states(ear)[-1].state is StateWord.ONLINE)


def test_the_state_beats_while_nothing_happens(
    tmp_path: Path,
    broker: Mosquitto,
    ear: Any,
    start: Callable[..., Running],
    write_frames: Callable[..., list[str]],
    wait_until: Callable[..., None],
) -> None:
    write_frames(tmp_path / "frames", 0)
    start(broker.url, watch=True)
    wait_until(lambda: len(ear.payloads("state")) >= 3)
    times = [state.t for state in states(ear)]
    assert times == sorted(times)
    assert times[2] - times[1] < 3000


def test_a_fault_of_ours_ends_the_station_and_the_line_hears_it(
    tmp_path: Path,
    broker: Mosquitto,
    ear: Any,
    start: Callable[..., Running],
    make_inspector: Callable[..., Any],
    write_frames: Callable[..., list[str]],
) -> None:
    write_frames(tmp_path / "frames", 5)
    running = start(broker.url, pause_s=-1.0)  # time.sleep refuses it: a bug inside an inspector
    with pytest.raises(ValueError, match="sleep"):
        running.join()
    assert (states(ear)[-1].st, states(ear)[-1].reason) == (0, "failed")
    # The part hears of it too, and the next start does not meet its frame again.
    assert [(one.part, one.reason) for one in verdicts(ear)] == [("part-00000", "engine")]
    assert start(broker.url).join().frames == 4


def test_a_name_that_is_not_utf_8_is_a_part_like_any_other(
    tmp_path: Path, start: Callable[..., Running], write_frames: Callable[..., list[str]]
) -> None:
    folder = tmp_path / "frames"
    write_frames(folder, 2)
    (folder / os.fsdecode(b"odd-\xff.png")).write_bytes((folder / "part-00000.png").read_bytes())
    (folder / os.fsdecode(b"damaged-\xfe.png")).write_bytes(b"no picture")
    report = start("mqtt://127.0.0.1:1", drain_timeout_s=0.1).join()
    assert (report.frames, report.reasons["frame_decode"]) == (4, 1)
    with open_journal(tmp_path / "outbox.sqlite") as journal:
        parts = {entry.part for _, entry in journal.entries()}
    assert parts == {"part-00000", "part-00001", "odd-\\udcff", "damaged-\\udcfe"}


def test_a_connection_that_is_dead_without_a_word_is_noticed(
    tmp_path: Path,
    broker: Mosquitto,
    relay: TcpRelay,
    ear: Any,
    start: Callable[..., Running],
    write_frames: Callable[..., list[str]],
    wait_until: Callable[..., None],
) -> None:
    write_frames(tmp_path / "frames", 1)
    # The state would be unacknowledged and give it away; so rare that only the keepalive is left.
    quiet = {"keepalive_s": 2, "state_interval_s": 3600}
    running = start(relay.url, watch=True, mqtt=quiet)
    wait_until(lambda: len(ear.payloads("verdict")) == 1)
    relay.stalled = True
    wait_until(lambda: running.station.publisher.connection.word != "online")
    relay.stalled = False
    relay.cut()
    wait_until(lambda: running.station.publisher.connection.reconnects >= 1)
    write_frames(tmp_path / "frames", 1, first=1)
    wait_until(lambda: len(once(verdicts(ear))) == 2)


def test_a_publisher_that_dies_while_no_frame_comes_ends_the_station(
    tmp_path: Path,
    broker: Mosquitto,
    start: Callable[..., Running],
    write_frames: Callable[..., list[str]],
    wait_until: Callable[..., None],
) -> None:
    write_frames(tmp_path / "frames", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", lambda _: None)
        # A setting that the configuration would have refused: the thread falls over it.
        running = start(broker.url, watch=True, mqtt={"state_interval_s": "often"})
        with pytest.raises(TypeError):
            running.join()


def test_frames_that_are_gone_are_forgotten_in_time(
    tmp_path: Path,
    broker: Mosquitto,
    start: Callable[..., Running],
    write_frames: Callable[..., list[str]],
) -> None:
    write_frames(tmp_path / "frames", 6)
    start(broker.url).join()
    for number in (0, 1):
        (tmp_path / "frames" / f"part-{number:05d}.png").unlink()
    long_ago = int(time.time() - REMEMBER_GONE_S - 60)
    with contextlib.closing(sqlite3.connect(tmp_path / "outbox.sqlite")) as database, database:
        database.execute("UPDATE inspected SET at_unix_s = ? WHERE seq != 2", (long_ago,))
    assert start(broker.url).join().passed_over == 4
    with contextlib.closing(sqlite3.connect(tmp_path / "outbox.sqlite")) as database:
        rows = database.execute("SELECT seq FROM inspected ORDER BY seq").fetchall()
    # 1 is gone and old, 2 is gone only just, the rest still lie there.
    assert rows == [(2,), (3,), (4,), (5,), (6,)]


def test_a_thread_that_dies_is_noticed() -> None:
    def body() -> None:
        raise LookupError("a bug")

    worker = Worker(body, name="dies")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", lambda _: None)
        worker.start()
        assert worker.join(5)
    with pytest.raises(LookupError, match="a bug"):
        worker.check()
