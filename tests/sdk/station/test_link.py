"""The connection: paho's faults guarded, every fault of a broker mapped to ours."""

from __future__ import annotations

import inspect
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mosquitto_broker import Mosquitto, free_port
from paho.mqtt import MQTTException

import lineside.mqtt
from lineside.errors import BrokerError, BrokerRefusedError, ConfigurationError, LinesideError
from lineside.mqtt import Link, Message, MqttSettings, Receiver, parse_url
from lineside.mqtt.wake import Wake


@pytest.fixture
def wake() -> Iterator[Wake]:
    made = Wake()
    yield made
    made.close()


class Peer:
    """Accepts one connection, answers with given bytes, then hears out the client."""

    def __init__(self, answer: bytes, *, hang_up: bool = False) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self._server.getsockname()[1]}"
        self._answer = answer
        self._hang_up = hang_up
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            client, _ = self._server.accept()
            with client:
                client.recv(4096)
                client.sendall(self._answer)
                while not self._hang_up and client.recv(4096):
                    pass
        except OSError:
            return

    def close(self) -> None:
        self._server.close()
        self._thread.join(5)


CONNACK = b"\x20\x02\x00\x00"


def test_nobody_there_is_a_broker_error(wake: Wake) -> None:
    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:\d+: Connection refused$"):
        Link(MqttSettings(url=f"mqtt://127.0.0.1:{free_port()}"), client_id="x", wake=wake)


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_wrong_password_is_a_refusal(
    make_broker: Callable[..., Mosquitto], tmp_path: Path, wake: Wake, protocol: str
) -> None:
    users = tmp_path / "users"
    # mosquitto 2 reads PBKDF2; an empty file knows nobody.
    users.write_text("", encoding="utf-8")
    broker = make_broker("allow_anonymous false", f"password_file {users}")
    broker.start()
    secret = tmp_path / "secret"
    secret.write_text("hunter2-not-for-logs\n", encoding="utf-8")
    settings = MqttSettings(url=broker.url, username="me", password_file=secret, protocol=protocol)
    with pytest.raises(BrokerRefusedError) as caught:
        Link(settings, client_id="x", wake=wake)
    assert "uthori" in caught.value.reason
    assert "hunter2" not in str(caught.value) + repr(settings)


def test_mqtt_5_hears_that_a_message_was_thrown_away(
    make_broker: Callable[..., Mosquitto], tmp_path: Path, wake: Wake
) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic read lineside/#\n", encoding="utf-8")
    broker = make_broker(f"acl_file {rules}")
    broker.start()
    with Link(MqttSettings(url=broker.url, protocol="5"), client_id="x", wake=wake) as link:
        link.publish(Message(topic="lineside/v1/a/b/c/verdict", payload=b"1"))
        with pytest.raises(BrokerRefusedError, match="refused"):
            for _ in range(50):
                assert link.step(0.1) == []


def test_a_refused_subscription_is_a_refusal_not_silence(wake: Wake) -> None:
    # MQTT 3.1.1, section 3.9.3: return code 0x80 is a failure, and nothing else ever comes.
    peer = Peer(CONNACK + bytes.fromhex("9003000180"))
    link = Link(MqttSettings(url=peer.url), client_id="x", wake=wake)
    with pytest.raises(BrokerRefusedError, match="subscription"):
        link.subscribe(["lineside/#"])
        for _ in range(20):
            link.step(0.1)
    assert not link.subscribed
    link.abort()
    peer.close()


def test_a_refused_subscription_that_is_not_needed_is_named_and_done_without(wake: Wake) -> None:
    peer = Peer(CONNACK + bytes.fromhex("900400018000"))
    with Link(MqttSettings(url=peer.url), client_id="x", wake=wake) as link:
        link.subscribe(["a/cmd/+", "a/state"], optional=True)
        for _ in range(100):
            link.step(0.1)
            if link.subscribed:
                break
        assert link.subscribed
        assert len(link.gone_without) == 1
        assert "a/cmd/+ was refused" in link.gone_without[0]
    peer.close()


def test_acknowledgements_come_back_by_number(broker: Mosquitto, wake: Wake) -> None:
    with Link(MqttSettings(url=broker.url), client_id="x", wake=wake) as link:
        sent = {link.publish(Message(topic="lineside/t", payload=b"1")) for _ in range(50)}
        got: set[int] = set()
        deadline_s = time.monotonic() + 10
        while got != sent and time.monotonic() < deadline_s:
            got.update(link.step(0.1))
        assert got == sent


def test_closing_with_unacknowledged_messages_does_not_hang(wake: Wake) -> None:
    # paho's loop_stop waits for ever here.
    peer = Peer(CONNACK)
    link = Link(MqttSettings(url=peer.url), client_id="x", wake=wake)
    for _ in range(20):
        link.publish(Message(topic="t", payload=b"1"))
    assert link.step(0.05) == []
    started_s = time.monotonic()
    link.close()
    assert time.monotonic() - started_s < 1
    peer.close()


def test_a_broker_that_hangs_up_is_noticed_at_once(wake: Wake) -> None:
    peer = Peer(CONNACK, hang_up=True)
    link = Link(MqttSettings(url=peer.url), client_id="x", wake=wake)
    with pytest.raises(BrokerError):
        for _ in range(10):
            link.step(1)
            link.publish(Message(topic="t", payload=b"1"))
    link.abort()
    peer.close()


def test_the_wake_ends_a_wait(broker: Mosquitto, wake: Wake) -> None:
    with Link(MqttSettings(url=broker.url), client_id="x", wake=wake) as link:
        threading.Timer(0.1, wake.set).start()
        started_s = time.monotonic()
        link.step(10)
        assert time.monotonic() - started_s < 5


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(min_size=1, max_size=40))
def test_whatever_a_peer_says_only_our_errors_come_out(noise: bytes) -> None:
    wake = Wake()
    peer = Peer(CONNACK + noise, hang_up=True)
    try:
        with Link(MqttSettings(url=peer.url), client_id="x", wake=wake) as link:
            for _ in range(20):
                link.step(0.5)
    except LinesideError:
        pass
    else:
        raise AssertionError("a connection that was closed looked alive")
    finally:
        peer.close()
        wake.close()


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=1, max_size=10))
def test_whatever_stands_where_the_welcome_should_be(noise: bytes) -> None:
    wake = Wake()
    peer = Peer(noise, hang_up=True)
    try:
        Link(MqttSettings(url=peer.url), client_id="x", wake=wake).abort()
    except LinesideError:
        pass
    finally:
        peer.close()
        wake.close()


@pytest.mark.parametrize(
    "failure", [OSError("x"), ValueError("x"), struct.error("x"), MQTTException("x")]
)
def test_faults_inside_paho_are_mapped(broker: Mosquitto, wake: Wake, failure: Exception) -> None:
    with Link(MqttSettings(url=broker.url), client_id="x", wake=wake) as link:

        def broken(*_: object) -> int:
            raise failure

        # The vendor's client, not our code: there is no other way to make it fail like this.
        link._client.loop_misc = broken  # type: ignore[method-assign]
        with pytest.raises(BrokerError):
            link.step(0.01)


def test_no_type_of_paho_is_in_a_public_signature() -> None:
    for name in lineside.mqtt.__all__:
        member = getattr(lineside.mqtt, name)
        public = (
            [member]
            if inspect.isfunction(member)
            else [
                value
                for key, value in getattr(member, "__dict__", {}).items()
                if inspect.isfunction(value) and (key == "__init__" or not key.startswith("_"))
            ]
        )
        for function in public:
            words = " ".join(map(str, function.__annotations__.values()))
            assert "paho" not in words, f"{name}.{function.__name__}: {words}"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mqtt://user:geheim@host", "password_file"),
        ("http://host", "mqtt://HOST"),
        ("mqtt://", "mqtt://HOST"),
        ("mqtt://host:0", "port 0"),
        ("mqtt://host:99999", "range"),
        ("mqtt://host/topic", "mqtt://HOST"),
        ("host:1883", "mqtt://HOST"),
        ("mqtt://$SYS/a", "mqtt://HOST"),
    ],
)
def test_urls_that_are_none_are_refused(url: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        parse_url(url)
    assert "geheim" not in str(caught.value)


def test_urls_are_taken_apart() -> None:
    assert str(parse_url("mqtt://broker")) == "mqtt://broker:1883"
    assert str(parse_url("mqtts://broker")) == "mqtts://broker:8883"
    assert parse_url("mqtts://broker:99").tls
    assert parse_url("mqtt://[::1]:5").host == "::1"


def test_passwords_come_from_file_or_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    file.write_text("eins\nzwei\n", encoding="utf-8")
    assert MqttSettings(username="u", password_file=file).read_password() == "eins"
    monkeypatch.setenv("LINESIDE_TEST_PASSWORD", "drei")
    settings = MqttSettings(username="u", password_env="LINESIDE_TEST_PASSWORD")
    assert settings.read_password() == "drei"
    monkeypatch.delenv("LINESIDE_TEST_PASSWORD")
    with pytest.raises(ConfigurationError, match="LINESIDE_TEST_PASSWORD"):
        settings.read_password()
    with pytest.raises(ConfigurationError, match="password_file"):
        MqttSettings(username="u", password_file=tmp_path / "none").read_password()
    file.write_text("\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="empty"):
        MqttSettings(username="u", password_file=file).read_password()


def test_the_receiver_comes_back(broker: Mosquitto, wake: Wake) -> None:
    with Receiver(MqttSettings(url=broker.url), ["lineside/#"]) as receiver:
        assert receiver.receive(0.05) == []
        broker.kill()
        with pytest.raises(BrokerError):
            for _ in range(10):
                receiver.receive(0.2)
        broker.start()
        receiver.receive(0.2)
        with Link(MqttSettings(url=broker.url), client_id="x", wake=wake) as link:
            link.publish(Message(topic="lineside/x", payload=b"there"))
            link.step(0.2)
        deadline_s = time.monotonic() + 10
        heard: list[Message] = []
        while not heard and time.monotonic() < deadline_s:
            heard = receiver.receive(0.2)
        assert [message.payload for message in heard] == [b"there"]
