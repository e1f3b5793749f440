"""Commands and bundles over a real broker: what is lost is gone on with, what is wrong refused."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bundle_server import serving
from mosquitto_broker import Mosquitto
from remote_station import TOPICS, Latch, RemoteStation, running, until
from tiny_bundle import TinyBundle

from lineside.bundle import PrivateKey, generate_key_pair, load_private_key, write_key_pair
from lineside.errors import (
    BrokerError,
    BrokerRefusedError,
    CommandRefusedError,
    InputDataError,
    SelfTestError,
    StorageError,
)
from lineside.mqtt import MqttSettings, StationTopics
from lineside.mqtt.link import Link, Message
from lineside.mqtt.wake import Wake
from lineside.remote.bundlefile import BundleFile
from lineside.remote.caller import Caller
from lineside.remote.chunk import pack_chunk
from lineside.remote.conversation import Patience
from lineside.remote.reception import Destination
from lineside.slots import SlotState, Store
from lineside.station.destination import destination_of

pytestmark = pytest.mark.broker

QUICK = Patience(answer_s=15.0, again_s=0.3, again_max_s=0.6, busy_s=1.5)
ELSEWHERE = StationTopics(site="plant1", line="line3", station="aoi2")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return generate_key_pair("operator")


@pytest.fixture
def station(broker: Mosquitto, tmp_path: Path, key: PrivateKey) -> Iterator[RemoteStation]:
    with running(RemoteStation(url=broker.url, folder=tmp_path, keys=(key.public,))) as station:
        yield station


@pytest.fixture
def caller(broker: Mosquitto, key: PrivateKey) -> Iterator[Caller]:
    with Caller(quick_settings(broker.url), key, patience=QUICK, chunk_bytes=8192) as caller:
        yield caller


def quick_settings(url: str, **more: object) -> MqttSettings:
    return MqttSettings(url=url, reconnect_min_s=0.05, reconnect_max_s=0.2, **more)  # type: ignore[arg-type]


def bundle(folder: Path, *, size_bytes: int = 1_500_000, seed: int = 1) -> Path:
    path = folder / f"new-{seed}.lsb"
    path.write_bytes(random.Random(seed).randbytes(size_bytes))
    return path


class Progress:
    """Notes how far it is, and does something at a share of it, once; nothing is sent meanwhile."""

    def __init__(self, at: float = 2.0, act: Callable[[], None] = lambda: None) -> None:
        self.offsets: list[int] = []
        self._at, self._act = at, act

    def __call__(self, done_bytes: int, size_bytes: int) -> None:
        self.offsets.append(done_bytes)
        if done_bytes >= self._at * size_bytes:
            self._at = 2.0
            self._act()


def test_a_command_is_done_once_and_answered(station: RemoteStation, caller: Caller) -> None:
    answer = caller.call(TOPICS, "range", {"first": 1, "last": 3})
    assert (answer.ok, answer.cmd) == (True, "range")
    assert [command.verb for command in station.done] == ["range"]
    until(lambda: caller.state(TOPICS) is not None)


def test_what_the_station_refuses_comes_back_in_its_words(
    broker: Mosquitto, station: RemoteStation
) -> None:
    words = r"plant1/line3/aoi1: pause: .*stranger"
    with (
        Caller(quick_settings(broker.url), generate_key_pair(), patience=QUICK) as stranger,
        pytest.raises(CommandRefusedError, match=words) as no,
    ):
        stranger.call(TOPICS, "pause", {})
    assert no.value.reason == "stranger"
    assert station.done == []


def test_what_no_station_would_take_is_not_sent(caller: Caller) -> None:
    with pytest.raises(InputDataError, match="first to last"):
        caller.call(TOPICS, "range", {"first": 3, "last": 1})


def test_a_clock_that_differs_is_named(
    broker: Mosquitto, tmp_path: Path, key: PrivateKey, caller: Caller
) -> None:
    late = RemoteStation(url=broker.url, folder=tmp_path, keys=(key.public,), clock_ahead_s=120)
    with running(late), pytest.raises(CommandRefusedError, match="expired") as no:
        caller.call(TOPICS, "pause", {})
    assert no.value.reason == "expired"


def test_a_station_that_is_not_there_is_waited_for_and_named(
    station: RemoteStation, caller: Caller
) -> None:
    with pytest.raises(BrokerError, match=r"plant1/line3/aoi2: pause: .*knows of no such station"):
        caller.call(ELSEWHERE, "pause", {}, timeout_s=0.5)


def test_many_calls_share_one_connection(
    broker: Mosquitto, station: RemoteStation, caller: Caller
) -> None:
    answers = []

    def ask() -> None:
        answers.append(caller.call(TOPICS, "pause", {}))

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [answer.ok for answer in answers] == [True] * 20
    assert broker.log().count("as lineside-command-") == 1


def test_a_bundle_arrives(station: RemoteStation, caller: Caller, tmp_path: Path) -> None:
    path, progress = bundle(tmp_path), Progress()
    answer = caller.install(TOPICS, path, progress)
    assert answer.detail.startswith("confirmed a ")
    assert station.bundle(SlotState.CONFIRMED) == path.read_bytes()
    assert progress.offsets == sorted(progress.offsets)
    assert progress.offsets[-1] == path.stat().st_size
    again = caller.install(TOPICS, path)
    assert again.detail.startswith("already confirmed a ")
    second = bundle(tmp_path, seed=2)
    assert caller.install(TOPICS, second).detail.startswith("pending b ")
    third = bundle(tmp_path, seed=3)
    with pytest.raises(CommandRefusedError, match="waits for trial") as no:
        caller.install(TOPICS, third)
    assert no.value.reason == "slots"
    assert station.bundle(SlotState.PENDING) == second.read_bytes()


def test_it_goes_on_after_the_broker_died(
    broker: Mosquitto, station: RemoteStation, caller: Caller, tmp_path: Path
) -> None:
    def restart() -> None:
        broker.kill()
        broker.start()

    path, progress = bundle(tmp_path), Progress(0.4, restart)
    assert caller.install(TOPICS, path, progress).ok
    assert station.bundle(SlotState.CONFIRMED) == path.read_bytes()
    assert progress.offsets == sorted(progress.offsets), "not a byte is asked for again"


def test_it_goes_on_after_the_broker_hung(
    broker: Mosquitto, station: RemoteStation, caller: Caller, tmp_path: Path
) -> None:
    def hang() -> None:
        broker.stall()
        threading.Timer(0.7, broker.resume).start()

    path, progress = bundle(tmp_path), Progress(0.4, hang)
    assert caller.install(TOPICS, path, progress).ok
    assert station.bundle(SlotState.CONFIRMED) == path.read_bytes()


def test_it_goes_on_after_the_station_was_restarted(
    station: RemoteStation, caller: Caller, tmp_path: Path
) -> None:
    path = bundle(tmp_path, size_bytes=3_000_000)
    progress = Progress(0.7, station.restart)
    assert caller.install(TOPICS, path, progress).ok
    assert station.bundle(SlotState.CONFIRMED) == path.read_bytes()
    back = min(
        after
        for before, after in zip(progress.offsets, progress.offsets[1:], strict=False)
        if after < before
    )
    assert back >= 1024 * 1024, "only the last page of the store is sent again"


def test_it_goes_on_after_the_sender_was_killed(
    broker: Mosquitto, station: RemoteStation, caller: Caller, tmp_path: Path, key: PrivateKey
) -> None:
    path = bundle(tmp_path, size_bytes=6_000_000)
    private, _ = write_key_pair(tmp_path, "second")
    second = load_private_key(private)
    station.keys += (second.public,)
    station.restart()
    program = textwrap.dedent(
        f"""
        import sys
        from lineside.bundle import load_private_key
        from lineside.mqtt import MqttSettings, StationTopics
        from lineside.remote.caller import Caller
        def show(done, size):
            if done > size // 3:
                print("far", flush=True)
                sys.stdin.read()  # until it is killed
        with Caller(MqttSettings(url={broker.url!r}), load_private_key({str(private)!r})) as caller:
            topics = StationTopics(site="plant1", line="line3", station="aoi1")
            caller.install(topics, {str(path)!r}, show)
        """
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe) as sender:
        assert sender.stdout is not None
        assert sender.stdout.readline() == b"far\n"
        sender.send_signal(signal.SIGKILL)
    progress = Progress()
    patient = Patience(again_s=0.5, busy_s=30)
    with Caller(quick_settings(broker.url), key, patience=patient) as again:
        assert again.install(TOPICS, path, progress).ok
    assert progress.offsets[0] > path.stat().st_size // 3
    assert station.bundle(SlotState.CONFIRMED) == path.read_bytes()


def test_a_download_goes_on_after_the_station_was_restarted(
    station: RemoteStation, caller: Caller, tmp_path: Path
) -> None:
    def restart() -> None:
        station.restart()
        server.released.set()

    path = bundle(tmp_path, size_bytes=3_000_000)
    with serving(path.read_bytes()) as server:
        server.hold_bytes = 2_000_000
        station.stop()
        station.download_from = server.url
        station.start()
        order = caller.order_download(
            TOPICS,
            "new.lsb",
            Progress(0.5, restart),
            sha256=hashlib.sha256(server.data).digest(),
            size_bytes=len(server.data),
        )
        assert caller.submit(order).result().ok
        begins = [wanted for _, wanted in server.asked if wanted]
    assert station.bundle(SlotState.CONFIRMED) == path.read_bytes()
    assert min(begins) >= "bytes=1048576-", "only the last page of the store is fetched again"


def test_a_second_sender_is_refused_in_words(
    broker: Mosquitto, station: RemoteStation, caller: Caller, tmp_path: Path, key: PrivateKey
) -> None:
    first, second = bundle(tmp_path), bundle(tmp_path, seed=2)
    latch = Latch()
    station.proof = latch
    words: list[str] = []

    def send() -> None:
        words.append(caller.install(TOPICS, first).detail)

    thread = threading.Thread(target=send)
    thread.start()
    assert latch.reached.wait(20)
    with (
        Caller(quick_settings(broker.url), key, patience=QUICK) as other,
        pytest.raises(CommandRefusedError, match="busy: another file") as no,
    ):
        other.install(TOPICS, second)
    latch.release()
    thread.join(20)
    assert no.value.reason == "busy"
    assert words[0].startswith("confirmed")
    assert station.bundle(SlotState.CONFIRMED) == first.read_bytes()


def test_a_real_bundle_is_proved_before_it_counts(
    broker: Mosquitto,
    tmp_path: Path,
    key: PrivateKey,
    caller: Caller,
    tiny_bundle: TinyBundle,
) -> None:
    def into(store: Store) -> Destination:
        return destination_of(store, trust=tiny_bundle.public_key_path, engine="onnxruntime")

    station = RemoteStation(url=broker.url, folder=tmp_path, keys=(key.public,), destination=into)
    damaged = tmp_path / "damaged.lsb"
    damaged.write_bytes(tiny_bundle.path.read_bytes()[:-1] + b"x")
    with running(station):
        assert caller.install(TOPICS, tiny_bundle.path).detail.startswith("confirmed a ")
        with pytest.raises(CommandRefusedError, match=r"refused: bundle: ") as no:
            caller.install(TOPICS, damaged)
        assert no.value.reason == "bundle"
        assert station.bundle(SlotState.CONFIRMED) == tiny_bundle.path.read_bytes()


def test_what_does_not_prove_is_refused_and_nothing_of_it_stays(
    station: RemoteStation, caller: Caller, tmp_path: Path
) -> None:
    def fail() -> None:
        raise SelfTestError("golden samples differ")

    station.proof = fail
    with pytest.raises(CommandRefusedError, match="self_test: golden samples differ") as no:
        caller.install(TOPICS, bundle(tmp_path))
    assert no.value.reason == "self_test"
    assert not any(slot.incoming for slot in station.store.record.slots.values())


def test_a_full_disk_is_told_before_the_first_byte(
    station: RemoteStation, caller: Caller, tmp_path: Path
) -> None:
    def refuse(size_bytes: int) -> None:
        raise StorageError(f"{size_bytes} bytes find no room")

    station.check_room = refuse
    progress = Progress()
    with pytest.raises(CommandRefusedError, match="storage: 1500000 bytes find no room"):
        caller.install(TOPICS, bundle(tmp_path), progress)
    assert progress.offsets == []


def test_a_file_that_changes_while_it_is_sent_is_refused(
    station: RemoteStation, caller: Caller, tmp_path: Path
) -> None:
    path = bundle(tmp_path)
    with BundleFile(path) as file:
        with path.open("r+b") as other:
            other.seek(1_400_000)
            other.write(b"other bytes")
        order = caller.order_install(TOPICS, file)
        with pytest.raises(CommandRefusedError, match="changed on its way: send it again"):
            caller.submit(order).result()
        with path.open("r+b") as other:
            other.truncate(700_000)
        with pytest.raises(InputDataError, match="become shorter"):
            caller.submit(order).result()


def test_bytes_of_another_file_are_not_taken(
    broker: Mosquitto, station: RemoteStation, caller: Caller, tmp_path: Path
) -> None:
    path = bundle(tmp_path)
    wake = Wake()
    # It answers, so it hears: what comes before its subscription reaches nobody.
    assert caller.call(TOPICS, "pause", {}).ok
    with Link(quick_settings(broker.url), client_id="intruder", wake=wake) as intruder:
        strange = pack_chunk(sha256=b"another!", offset=0, data=bytes(1000))
        topic = TOPICS.command("chunk")
        intruder.subscribe([TOPICS.ack])
        for payload in (strange, b"", b"short", strange[:16]):
            intruder.publish(Message(topic=topic, payload=payload))
        heard: list[Message] = []

        def hears() -> bool:
            intruder.step(0.1)
            heard.extend(intruder.received())
            return bool(heard)

        until(hears)
        assert b'"cmd":"chunk"' in heard[0].payload
        assert b"no file is being taken" in heard[0].payload

        def intrude() -> None:
            for offset in (0, 8192, 99_000):
                payload = pack_chunk(sha256=b"another!", offset=offset, data=bytes(9000))
                intruder.publish(Message(topic=topic, payload=payload))
            intruder.step(0.1)

        assert caller.install(TOPICS, path, Progress(0.2, intrude)).ok
    wake.close()
    assert station.bundle(SlotState.CONFIRMED) == path.read_bytes()


@pytest.mark.parametrize(
    ("limit", "protocol"), [("message_size_limit 4000", "3.1.1"), ("max_packet_size 4000", "5")]
)
def test_a_broker_that_takes_no_such_messages_is_found_out(
    tmp_path: Path, key: PrivateKey, limit: str, protocol: str
) -> None:
    broker = Mosquitto(tmp_path, limit)
    broker.start()
    path = bundle(tmp_path, size_bytes=30_000)
    settings = quick_settings(broker.url, protocol=protocol)
    try:
        with running(RemoteStation(url=broker.url, folder=tmp_path, keys=(key.public,))):
            with (
                Caller(settings, key, patience=QUICK, chunk_bytes=8192) as caller,
                pytest.raises(BrokerError, match=r"message_size_limit.*--chunk-kib"),
            ):
                caller.install(TOPICS, path)
            with Caller(settings, key, patience=QUICK, chunk_bytes=2048) as caller:
                assert caller.install(TOPICS, path).ok
    finally:
        broker.kill()


def test_a_user_who_may_not_write_the_topic_is_told(tmp_path: Path, key: PrivateKey) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic read lineside/#\n")
    broker = Mosquitto(tmp_path, "allow_anonymous true", f"acl_file {rules}")
    broker.start()
    try:
        settings = quick_settings(broker.url, protocol="5")
        with (
            Caller(settings, key, patience=QUICK) as caller,
            pytest.raises(BrokerRefusedError, match=r"cmd/signed.*[Nn]ot authorized"),
        ):
            caller.call(TOPICS, "pause", {})
    finally:
        broker.kill()


def test_a_broker_that_lets_us_not_in_is_told_at_once(tmp_path: Path, key: PrivateKey) -> None:
    broker = Mosquitto(tmp_path, "allow_anonymous false")
    broker.start()
    try:
        with (
            Caller(quick_settings(broker.url), key, patience=QUICK) as caller,
            pytest.raises(BrokerRefusedError, match=r"[Nn]ot authori[sz]ed"),
        ):
            caller.call(TOPICS, "pause", {})
    finally:
        broker.kill()


def test_a_broker_that_is_not_there_is_named(key: PrivateKey) -> None:
    words = r"127.0.0.1:1: plant1/line3/aoi1: pause: .*refused"
    with (
        Caller(quick_settings("mqtt://127.0.0.1:1"), key, patience=QUICK) as caller,
        pytest.raises(BrokerError, match=words),
    ):
        caller.call(TOPICS, "pause", {}, timeout_s=0.5)


def test_calls_that_are_not_over_end_with_the_caller(broker: Mosquitto, key: PrivateKey) -> None:
    with Caller(quick_settings(broker.url), key) as caller:
        words: list[str] = []

        def ask() -> None:
            with pytest.raises(BrokerError, match="closed") as error:
                caller.call(TOPICS, "pause", {})
            words.append(str(error.value))

        thread = threading.Thread(target=ask)
        thread.start()
        until(lambda: "as lineside-command-" in broker.log())
    thread.join(20)
    assert len(words) == 1
