"""Uploads against a stock server over a pseudo-terminal: every loss, resume, noise, and pages."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paged_server import PagedServer
from smp_responder import Faults, Responder, StockServer

from lineside_bridge import flight as flight_module
from lineside_bridge.chunks import ImageSource, PageSource, Source
from lineside_bridge.client import Patience
from lineside_bridge.errors import (
    BridgeError,
    SensorFullError,
    SensorGarbledError,
    SensorRefusedError,
    SensorSilentError,
)
from lineside_bridge.framing import Framing
from lineside_bridge.link import SerialLink
from lineside_bridge.pages import Stretch, hash_pages, plan_copies, read_pages
from lineside_bridge.probe import Peer, find_sensor
from lineside_bridge.upload import Outcome, Progress, Upload

QUICK = Patience(answer_s=0.1, attempts=2)
FAST = 4_000_000
IMAGE = random.Random(1).randbytes(30_000)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rules, in a tenth of the time."""
    waits = ("_FIRST_WAIT_S", "_LEAST_WAIT_S", "_LONGEST_WAIT_S")
    for name in (*waits, "_EDGE_PATIENCE_S", "_PATIENCE_S"):
        monkeypatch.setattr(flight_module, name, getattr(flight_module, name) / 10)
    for name in ("_OPENING_WAIT_S", "_LONGEST_OPENING_S"):
        monkeypatch.setattr(flight_module, name, getattr(flight_module, name) / 100)


def send(
    sensor: Responder,
    source: Source | None = None,
    *,
    framing: Framing | None = Framing.CONSOLE,
    on_progress: Callable[[Progress], None] = lambda _: None,
    is_there: Callable[[], bool] = lambda: False,
) -> Outcome:
    with SerialLink(sensor.port, FAST) as link:
        client, peer = find_sensor(link, framing, patience=QUICK)
        source = source or ImageSource(IMAGE)
        run = Upload(client, peer, source, on_progress=on_progress, is_there=is_there)
        return run.run()


@pytest.mark.parametrize("framing", list(Framing))
def test_brings_all_of_it(framing: Framing) -> None:
    server = StockServer()
    seen: list[Progress] = []
    with Responder(server.answer, framing=framing) as sensor:
        outcome = send(sensor, framing=framing, on_progress=seen.append)

    assert server.uploaded == IMAGE
    assert (outcome.sent_bytes, outcome.resumed_bytes, outcome.lost) == (len(IMAGE), 0, 0)
    assert outcome.matches is True
    assert [each.done_bytes for each in seen] == sorted(each.done_bytes for each in seen)
    assert seen[-1].left_bytes == 0
    assert server.longest <= server.buffer_bytes


def test_one_that_takes_whole_words_alone_is_asked_for_the_rest_again() -> None:
    """MCUboot's serial recovery drops what its flash cannot write yet, and has one buffer."""
    server = StockServer(buffer_count=1, buffer_bytes=256)
    server.word_bytes = 32
    with Responder(server.answer) as sensor:
        outcome = send(sensor)
    assert server.uploaded == IMAGE
    assert outcome.sent_bytes == len(IMAGE)
    assert outcome.setbacks == 0


def test_a_slot_may_take_longer_to_erase_than_is_waited_for() -> None:
    """The answer to the first attempt counts while the second waits; MCUboot erases for each."""
    flight = flight_module.Flight(size_bytes=1000, room_bytes=200, window=1, baud=0, now_s=0.0)
    sent = flight_module.Sent(off=0, size_bytes=100, wire_bytes=120, at_s=0.0)
    flight.send(0, sent)
    assert flight.until_s == pytest.approx(0.08)
    flight.lose()
    flight.send(1, replace(sent, at_s=0.08))
    assert flight.until_s == pytest.approx(0.24)
    assert flight.sequences == (1, 0)
    flight.answer(0, 100, 0.2)
    assert (flight.acked, flight.next_off, flight.sequences) == (100, 100, ())
    # How long that took says nothing of the requests behind it.
    flight.send(2, replace(sent, off=100, at_s=0.2))
    assert flight.until_s == pytest.approx(0.3)


def test_an_upload_that_nobody_opens_is_given_up_after_five_attempts() -> None:
    flight = flight_module.Flight(size_bytes=1000, room_bytes=200, window=1, baud=0, now_s=0.0)
    now_s = 0.0
    for attempt in range(5):
        assert not flight.tired(10.0)
        sent = flight_module.Sent(off=0, size_bytes=100, wire_bytes=120, at_s=now_s)
        flight.send(attempt, sent)
        now_s = flight.until_s
        flight.lose()
    assert now_s == pytest.approx(0.08 + 4 * 0.16)
    assert flight.tired(10.0)


def test_a_request_taken_in_part_is_no_loss() -> None:
    flight = flight_module.Flight(size_bytes=1000, room_bytes=200, window=3, baud=0, now_s=0.0)
    flight.send(1, flight_module.Sent(off=0, size_bytes=100, wire_bytes=120, at_s=0.0))
    flight.answer(1, 96, 0.1)
    assert (flight.acked, flight.next_off, flight.sequences) == (96, 96, ())
    assert (flight.losses, flight.arrived, flight.wants) == (0, 1, True)


def test_a_sensor_without_parameters_is_asked_one_at_a_time() -> None:
    server = StockServer(buffer_count=0, buffer_bytes=256)
    with Responder(server.answer) as sensor, SerialLink(sensor.port) as link:
        _, peer = find_sensor(link, Framing.CONSOLE, patience=QUICK)
    assert (peer.buffer_bytes, peer.window, peer.offer) == (256, 1, None)


def test_one_that_takes_a_line_at_most_gets_lines() -> None:
    server = StockServer(buffer_count=0, buffer_bytes=92)
    with Responder(server.answer) as sensor:
        send(sensor, ImageSource(IMAGE[:1000]))
    assert server.uploaded == IMAGE[:1000]
    assert server.longest <= 92


def test_several_requests_are_under_way_where_there_are_buffers() -> None:
    server = StockServer(buffer_count=4)
    with Responder(server.answer) as sensor, SerialLink(sensor.port) as link:
        client, peer = find_sensor(link, Framing.CONSOLE, patience=QUICK)
        upload = Upload(client, peer, ImageSource(IMAGE))
        upload.run()
        assert peer.window == 3
        assert upload._flight.window == 3


@pytest.mark.parametrize("number", range(2, 18, 4))
@pytest.mark.parametrize("kind", ["lose_requests", "lose_answers", "double_answers"])
def test_any_one_message_may_be_lost_or_doubled(kind: str, number: int) -> None:
    server = StockServer()
    with Responder(server.answer, faults=Faults(**{kind: {number, number + 1}})) as sensor:
        send(sensor)
    assert server.uploaded == IMAGE


def test_a_lost_answer_costs_no_second_sending() -> None:
    """The server's next answer says that it is further than we believed."""
    server = StockServer()
    with Responder(server.answer, faults=Faults(lose_answers={12})) as sensor:
        send(sensor)
    assert len(server.offsets) == len(set(server.offsets))


def test_goes_on_where_an_earlier_upload_ended() -> None:
    class Killed(Exception):
        pass

    def kill(progress: Progress) -> None:
        if progress.done_bytes > 15_000:
            raise Killed

    server = StockServer()
    with Responder(server.answer) as sensor:
        with pytest.raises(Killed):
            send(sensor, on_progress=kill)
        there = len(server.uploaded)
        outcome = send(sensor)
    assert server.uploaded == IMAGE
    assert outcome.resumed_bytes >= there
    assert outcome.sent_bytes == len(IMAGE) - outcome.resumed_bytes


def test_a_sensor_that_starts_anew_half_way_gets_it_from_where_it_says() -> None:
    server = StockServer()
    faults = 0

    def answer(request: bytes) -> bytes:
        nonlocal faults
        if len(server.uploaded) > 15_000 and not faults:
            faults += 1
            server.uploaded.clear()
            server.upload_sha = b""
        if len(server.uploaded) == 0 and b"csha" not in request and request[7] == 1 and faults:
            # No upload is open: what comes is not taken, and the offset is 0.
            body = cbor2.dumps({"off": 0})
            return bytes([request[0] + 1, 0, 0, len(body), *request[4:8]]) + body
        return server.answer(request)

    with Responder(answer) as sensor:
        outcome = send(sensor)
    assert server.uploaded == IMAGE
    assert outcome.setbacks == 1


def test_one_that_starts_anew_for_ever_is_given_up() -> None:
    server = StockServer()

    def answer(request: bytes) -> bytes:
        if len(server.uploaded) > 8_000:
            server.uploaded.clear()
        return server.answer(request)

    with Responder(answer) as sensor, pytest.raises(BridgeError):
        send(sensor)


def test_a_server_that_forgets_with_the_last_byte_is_asked_for_its_slots() -> None:
    """Zephyr closes the upload with the last byte; here the answer to that is lost."""
    server = StockServer()
    closed = 0

    def answer(request: bytes) -> bytes | None:
        nonlocal closed
        if closed and request[7] == 1:
            body = cbor2.dumps({"off": 0})
            return bytes([request[0] + 1, 0, 0, len(body), *request[4:8]]) + body
        answered = server.answer(request)
        if len(server.uploaded) == len(IMAGE) and not closed:
            closed = 1
            return None
        return answered

    with Responder(answer) as sensor:
        outcome = send(sensor, is_there=lambda: closed == 1)
    assert outcome.matches is None
    assert server.uploaded == IMAGE


def test_busy_and_out_of_memory_are_waited_for() -> None:
    server = StockServer()
    codes = iter([10, 2, 10])

    def answer(request: bytes) -> bytes:
        if len(server.uploaded) > 10_000 and (code := next(codes, None)):
            return bytes([request[0] + 1, 0, 0, 5, *request[4:8]]) + b"\xa1brc" + bytes([code])
        return server.answer(request)

    with Responder(answer) as sensor:
        send(sensor)
    assert server.uploaded == IMAGE


@pytest.mark.parametrize(("code", "kind"), [(30, SensorFullError), (27, SensorRefusedError)])
def test_a_no_ends_it_at_once(code: int, kind: type[BridgeError]) -> None:
    server = StockServer()

    def answer(request: bytes) -> bytes:
        if request[7] == 1:
            body = cbor2.dumps({"err": {"group": 1, "rc": code}})
            return bytes([request[0] + 1, 0, 0, len(body), *request[4:8]]) + body
        return server.answer(request)

    with Responder(answer) as sensor, pytest.raises(kind, match="image upload: the sensor says no"):
        send(sensor)


def test_one_that_falls_silent_is_given_up() -> None:
    server = StockServer()
    with Responder(server.answer) as sensor:

        def pull(progress: Progress) -> None:
            sensor.deaf = progress.done_bytes > 15_000

        with pytest.raises((SensorSilentError, SensorGarbledError), match="image upload"):
            send(sensor, on_progress=pull)
    assert server.uploaded != IMAGE


@pytest.mark.parametrize("framing", [Framing.CONSOLE, Framing.COBS])
@pytest.mark.parametrize("rate", [1e-5, 3e-5])
def test_noise_delays_and_changes_nothing(framing: Framing, rate: float) -> None:
    server = StockServer()
    faults = Faults(bit_error_rate=rate, seed=3)
    with Responder(server.answer, framing=framing, faults=faults) as sensor:
        outcome = send(sensor, framing=framing)
    assert server.uploaded == IMAGE
    assert outcome.matches is True


@pytest.mark.parametrize("framing", list(Framing))
def test_noise_beyond_all_measure_ends_cleanly(framing: Framing) -> None:
    server = StockServer()
    faults = Faults(bit_error_rate=0.02, seed=3)
    ends = pytest.raises((SensorGarbledError, SensorSilentError, SensorRefusedError))
    with Responder(server.answer, framing=framing, faults=faults) as sensor, ends:
        send(sensor, framing=framing)


BASE = b"".join(bytes([number]) * 4096 for number in range(20)) + b"end"


@st.composite
def rebuilt(draw: st.DrawFn) -> bytes:
    """A new file of old and new pages in any order."""
    pages = draw(st.lists(st.integers(0, 25), min_size=1, max_size=30))
    data = b"".join(bytes([number]) * 4096 for number in pages)
    return data + draw(st.binary(max_size=50))


@given(data=rebuilt())
def test_a_plan_makes_the_new_file_of_the_old_one(data: bytes) -> None:
    made = b""
    plan = plan_copies(data, hash_pages(BASE))
    for stretch in plan:
        size = stretch.stop - stretch.start
        assert stretch.start == len(made)
        assert size > 0
        if stretch.source is None:
            made += data[stretch.start : stretch.stop]
        else:
            made += BASE[stretch.source : stretch.source + size]
    assert made == data
    sent = sum(each.stop - each.start for each in plan if each.source is None)
    assert sent <= sum(
        4096
        for start in range(0, len(data), 4096)
        if data[start] > 19 or data[start : start + 4096] != bytes([data[start]]) * 4096
    )


@dataclass
class Retrained:
    """A file of which a few pages are others than in the sensor's slot."""

    old: bytes
    new: bytes
    changed: int


@pytest.fixture
def retrained() -> Retrained:
    old = random.Random(2).randbytes(40 * 4096 + 700)
    new = bytearray(b"header" + bytes(4090) + old)  # everything is a page further on
    new[10 * 4096 + 5] ^= 1
    return Retrained(old=old, new=bytes(new), changed=2)


@pytest.mark.parametrize("framing", list(Framing))
def test_a_retrained_model_costs_its_changed_pages(retrained: Retrained, framing: Framing) -> None:
    server = PagedServer(held=retrained.old)
    with Responder(server.answer, framing=framing) as sensor, SerialLink(sensor.port) as link:
        client, peer = find_sensor(link, framing, patience=QUICK)
        plan = plan_copies(retrained.new, read_pages(client, 0, peer.room_bytes))
        source = PageSource(retrained.new, plan, slot=0)
        outcome = Upload(client, peer, source).run()
    assert server.uploaded == retrained.new
    assert outcome.sent_bytes == retrained.changed * 4096
    assert peer.offer is not None


def test_pages_that_are_not_what_their_hashes_said_are_sent(retrained: Retrained) -> None:
    server = PagedServer(held=bytes(len(retrained.old)))
    plan = plan_copies(retrained.new, hash_pages(retrained.old))
    with Responder(server.answer) as sensor:
        outcome = send(sensor, PageSource(retrained.new, plan, slot=0))
    assert server.uploaded == retrained.new
    assert outcome.sent_bytes == len(retrained.new)


def test_raw_pages_are_checked_one_by_one(retrained: Retrained) -> None:
    """Nothing guards the raw framing: each page has a checksum of its own."""
    server = PagedServer(held=b"")
    faults = Faults(bit_error_rate=2e-5, seed=8)
    plan = (Stretch(start=0, stop=len(IMAGE)),)
    with Responder(server.answer, framing=Framing.RAW, faults=faults) as sensor:
        send(sensor, PageSource(IMAGE, plan, slot=0), framing=Framing.RAW)
        assert sensor.errors.flips > 2
    # The first chunk goes by the published request, which has none.
    assert server.uploaded[2048:] == IMAGE[2048:]


@pytest.mark.parametrize("lost", [set(), {2}], ids=["", "its yes is lost"])
def test_the_best_framing_that_is_offered_is_taken(lost: set[int]) -> None:
    server = PagedServer(held=b"", framings=("cobs", "console"))
    faults = Faults(lose_answers=lost)
    with (
        Responder(
            server.answer, framing=None, faults=faults, chosen=lambda: server.chosen
        ) as sensor,
        SerialLink(sensor.port, FAST) as link,
    ):
        _, peer = find_sensor(link, patience=QUICK)
    assert peer.framing is Framing.COBS


def test_a_peer_s_room_leaves_place_for_what_its_framing_adds() -> None:
    rooms = {
        framing: Peer(framing=framing, buffer_bytes=2048, window=1, offer=None).room_bytes
        for framing in Framing
    }
    assert rooms == {Framing.CONSOLE: 2044, Framing.COBS: 2036, Framing.RAW: 2048}


def test_a_client_never_sends_longer_than_the_buffer() -> None:
    sha256 = hashlib.sha256(IMAGE).digest()
    assert len(sha256) == 32
    for room in (96, 128, 384, 2044, 16_000):
        for off in (0, 1, 300, 29_000):
            chunk = ImageSource(IMAGE).chunk(off, room)
            assert chunk.request.size_bytes <= room
            assert chunk.size_bytes == chunk.sent_bytes > 0
