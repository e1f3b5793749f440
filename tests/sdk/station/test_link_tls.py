"""TLS against a real mosquitto: who trusts whom, what is said, and that no secret is."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from certificates import Authority, Pair
from memory_spool import MemorySpool
from mosquitto_broker import Mosquitto

from lineside.errors import BrokerError, BrokerRefusedError, ConfigurationError
from lineside.mqtt import Link, Message, MqttSettings, Publisher, StateWord, StationTopics
from lineside.mqtt.state import make_state
from lineside.mqtt.wake import Wake
from lineside.worker import Worker

SECRET = "hunter2-not-for-logs"


@pytest.fixture
def wake() -> Iterator[Wake]:
    made = Wake()
    yield made
    made.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def make_tls_broker(
    make_broker: Callable[..., Mosquitto],
) -> Callable[..., str]:
    """``make_tls_broker(pair)`` starts one; with ``clients`` it asks for their certificates."""

    def make(server: Pair, *, clients: Authority | None = None) -> str:
        extra = [f"certfile {server.certificate}", f"keyfile {server.key}"]
        if clients is not None:
            extra += [f"cafile {clients.ca_file}", "require_certificate true"]
        broker = make_broker(*extra)
        broker.start()
        return f"mqtts://127.0.0.1:{broker.port}"

    return make


def exchange(settings: MqttSettings, wake: Wake) -> int:
    """How many of twenty messages are acknowledged."""
    with Link(settings, client_id="x", wake=wake) as link:
        sent = [link.publish(Message(topic="t", payload=b"x" * 3000)) for _ in range(20)]
        got: list[int] = []
        deadline_s = time.monotonic() + 10
        while len(got) < len(sent) and time.monotonic() < deadline_s:
            got += link.step(0.2)
        assert sorted(got) == sorted(sent)
        return len(got)


def test_the_given_authority_is_trusted_and_no_other(
    make_tls_broker: Callable[..., str], authority: Authority, tmp_path: Path, wake: Wake
) -> None:
    url = make_tls_broker(authority.issue("broker"))
    assert exchange(MqttSettings(url=url, ca_file=authority.ca_file), wake) == 20
    other = Authority(tmp_path, "other")
    for ca_file in (None, other.ca_file):
        with pytest.raises(BrokerRefusedError, match=r"mqtt\.ca_file does not hold"):
            Link(MqttSettings(url=url, ca_file=ca_file), client_id="x", wake=wake)


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_broker_that_asks_who_we_are_is_answered(
    make_tls_broker: Callable[..., str], authority: Authority, wake: Wake, protocol: str
) -> None:
    url = make_tls_broker(authority.issue("broker"), clients=authority)
    own = authority.issue("aoi1")
    settings = MqttSettings(
        url=url,
        ca_file=authority.ca_file,
        cert_file=own.certificate,
        key_file=own.key,
        protocol=protocol,
    )
    assert exchange(settings, wake) == 20
    # Both in one file.
    own.certificate.write_bytes(own.certificate.read_bytes() + own.key.read_bytes())
    assert exchange(msgspec.structs.replace(settings, key_file=None), wake) == 20


def test_a_key_with_a_password_is_opened_and_never_asked_for_at_the_terminal(
    make_tls_broker: Callable[..., str],
    authority: Authority,
    wake: Wake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = make_tls_broker(authority.issue("broker"), clients=authority)
    own = authority.issue("aoi1", password=SECRET)
    settings = MqttSettings(
        url=url, ca_file=authority.ca_file, cert_file=own.certificate, key_file=own.key
    )
    with pytest.raises(ConfigurationError, match="key_password_env") as caught:
        Link(settings, client_id="x", wake=wake)
    assert caught.value.path == "mqtt.key_file"
    named = msgspec.structs.replace(settings, key_password_env="LINESIDE_TEST_KEY_PASSWORD")
    with pytest.raises(ConfigurationError, match="LINESIDE_TEST_KEY_PASSWORD"):
        Link(named, client_id="x", wake=wake)
    monkeypatch.setenv("LINESIDE_TEST_KEY_PASSWORD", "wrong")
    with pytest.raises(ConfigurationError, match="password") as caught:
        Link(named, client_id="x", wake=wake)
    assert "wrong" not in str(caught.value).replace("is wrong or missing", "")
    monkeypatch.setenv("LINESIDE_TEST_KEY_PASSWORD", SECRET)
    assert exchange(named, wake) == 20


def enter(settings: MqttSettings, wake: Wake) -> None:
    """Connect and stay a moment: with TLS 1.3 a refusal comes after the handshake."""
    with Link(settings, client_id="x", wake=wake) as link:
        for _ in range(20):
            link.step(0.1)


def test_a_missing_or_wrong_client_certificate_is_refused_in_words(
    make_tls_broker: Callable[..., str], authority: Authority, tmp_path: Path, wake: Wake
) -> None:
    url = make_tls_broker(authority.issue("broker"), clients=authority)
    plain = MqttSettings(url=url, ca_file=authority.ca_file)
    with pytest.raises(BrokerRefusedError, match=r"set mqtt\.cert_file"):
        enter(plain, wake)
    stranger = Authority(tmp_path, "stranger").issue("aoi1")
    expired = authority.issue("aoi1", expired=True)
    for pair, words in ((stranger, "does not trust"), (expired, "expired")):
        own = msgspec.structs.replace(plain, cert_file=pair.certificate, key_file=pair.key)
        with pytest.raises(BrokerRefusedError, match=words):
            enter(own, wake)


def test_a_broker_whose_certificate_does_not_hold_is_refused_in_words(
    make_tls_broker: Callable[..., str],
    broker: Mosquitto,
    authority: Authority,
    wake: Wake,
) -> None:
    for pair, words in (
        (authority.issue("broker", expired=True), "has expired"),
        (authority.issue("broker", address="10.0.0.1"), "another address"),
    ):
        url = make_tls_broker(pair)
        with pytest.raises(BrokerRefusedError, match=words):
            enter(MqttSettings(url=url, ca_file=authority.ca_file), wake)
    with pytest.raises(BrokerError):
        enter(MqttSettings(url=broker.url.replace("mqtt:", "mqtts:")), wake)


def test_files_that_are_none_are_named(authority: Authority, tmp_path: Path, wake: Wake) -> None:
    own, other = authority.issue("a"), authority.issue("b")
    none, text = tmp_path / "none.pem", tmp_path / "text.pem"
    text.write_text("not a certificate", encoding="utf-8")
    base = MqttSettings(url="mqtts://127.0.0.1:1", ca_file=authority.ca_file)
    wrong: list[tuple[str, dict[str, Path]]] = [
        ("mqtt.ca_file", {"ca_file": none}),
        ("mqtt.ca_file", {"ca_file": text}),
        ("mqtt.ca_file", {"ca_file": tmp_path}),
        ("mqtt.cert_file", {"cert_file": none, "key_file": own.key}),
        ("mqtt.key_file", {"cert_file": own.certificate, "key_file": none}),
        ("mqtt.key_file", {"cert_file": text, "key_file": own.key}),
        ("mqtt.key_file", {"cert_file": own.certificate, "key_file": other.key}),
        ("mqtt.key_file", {"cert_file": own.certificate}),
    ]
    for path, files in wrong:
        with pytest.raises(ConfigurationError) as caught:
            Link(msgspec.structs.replace(base, **files), client_id="x", wake=wake)
        assert caught.value.path == path
        assert any(str(file) in str(caught.value) for file in files.values())


def test_settings_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without cert_file"):
        MqttSettings(key_file=tmp_path / "a.key")
    with pytest.raises(ConfigurationError, match="mqtts://") as caught:
        MqttSettings(url="mqtt://broker", cert_file=tmp_path / "a.pem").check()
    assert caught.value.path == "mqtt.cert_file"


def test_refused_is_a_state_with_patience_and_without_secrets(
    make_broker: Callable[..., Mosquitto],
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    users = tmp_path / "users"
    users.write_text("", encoding="utf-8")
    server = authority.issue("broker")
    broker = make_broker(
        f"certfile {server.certificate}",
        f"keyfile {server.key}",
        "allow_anonymous false",
        f"password_file {users}",
    )
    broker.start()
    monkeypatch.setenv("LINESIDE_TEST_PASSWORD", SECRET)
    details: set[str] = set()
    spool = MemorySpool()
    spool.give(3)
    publisher = Publisher(
        MqttSettings(
            url=f"mqtts://127.0.0.1:{broker.port}",
            ca_file=authority.ca_file,
            username="aoi1",
            password_env="LINESIDE_TEST_PASSWORD",
            reconnect_min_s=0.05,
            reconnect_max_s=0.2,
        ),
        topics=StationTopics(site="s", line="l", station="x"),
        spool=spool,
        describe=lambda: make_state(StateWord.ONLINE),
    )
    worker = Worker(publisher.run, name="test-publisher")
    worker.start()

    def refused_often() -> bool:
        details.add(publisher.connection.detail)
        return broker.log().count("New connection") >= 4

    wait_until(refused_often)
    wait_until(lambda: publisher.connection.word == "refused")
    assert "uthori" in publisher.connection.detail
    publisher.stop(0.0)
    assert worker.join(20)
    worker.check()
    assert spool.waiting == [1, 2, 3]
    out, err = capfd.readouterr()
    assert SECRET not in "".join((*details, caplog.text, out, err, repr(publisher.connection)))


def test_a_refused_station_comes_in_as_soon_as_the_cause_is_gone(
    make_tls_broker: Callable[..., str],
    authority: Authority,
    tmp_path: Path,
    wait_until: Callable[..., None],
) -> None:
    url = make_tls_broker(authority.issue("broker"), clients=authority)
    stranger, own = Authority(tmp_path, "stranger").issue("x"), authority.issue("x")
    used = Pair(certificate=tmp_path / "used.pem", key=tmp_path / "used.key")

    def install(pair: Pair) -> None:
        used.certificate.write_bytes(pair.certificate.read_bytes())
        used.key.write_bytes(pair.key.read_bytes())

    install(stranger)
    spool = MemorySpool()
    spool.give(3)
    publisher = Publisher(
        MqttSettings(
            url=url,
            ca_file=authority.ca_file,
            cert_file=used.certificate,
            key_file=used.key,
            reconnect_min_s=0.05,
            reconnect_max_s=0.2,
        ),
        topics=StationTopics(site="s", line="l", station="x"),
        spool=spool,
        describe=lambda: make_state(StateWord.ONLINE),
    )
    worker = Worker(publisher.run, name="test-publisher")
    worker.start()
    wait_until(lambda: publisher.connection.word == "refused")
    assert "does not trust" in publisher.connection.detail
    install(own)
    wait_until(lambda: not spool.waiting)
    assert publisher.connection.word == "online"
    publisher.stop(0.0)
    assert worker.join(20)
