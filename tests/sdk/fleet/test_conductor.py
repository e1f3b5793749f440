"""What carries a rollout out, over a real broker; stations are here but retained states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from mosquitto_broker import Mosquitto

from lineside.bundle import generate_key_pair
from lineside.errors import BrokerError
from lineside.fleet import (
    Conductor,
    Freight,
    Journal,
    Phase,
    Rollout,
    RolloutState,
    Rules,
    fresh,
    make_plan,
    parse_amount,
    parse_waves,
    topics_of,
)
from lineside.mqtt import Link, Message, MqttSettings, StateMessage, StateWord, encode_state
from lineside.mqtt.state import make_state
from lineside.mqtt.wake import Wake
from lineside.remote.bundlefile import BundleFile
from lineside.remote.call import Order
from lineside.remote.caller import Caller

pytestmark = pytest.mark.broker

HASH = "ab" * 32
NAMES = ("hall/line/open", "hall/line/closed")
ANY = parse_amount("100%", path="x")


class Notes:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.broker_words: list[str] = []
        self.at_tick = lambda: None

    def state(self, before: RolloutState, rollout: Rollout) -> None:
        assert before != rollout.state

    def tick(self, rollout: Rollout, sent_bytes: Mapping[str, int]) -> None:
        self.at_tick()

    def broker(self, words: str) -> None:
        self.broker_words.append(words)


def retain(broker: Mosquitto, name: str, state: StateMessage) -> None:
    """As a station that has been there leaves it."""
    message = Message(topic=topics_of(name).state, payload=encode_state(state), retain=True)
    with Link(MqttSettings(url=broker.url), client_id="left", wake=Wake()) as link:
        number = link.publish(message)
        while number not in link.step(0.1):
            pass


def online(**fields: str) -> StateMessage:
    return msgspec.structs.replace(make_state(StateWord.ONLINE), **fields)


def rollout(names: tuple[str, ...], *, timeout_s: float = 30) -> Rollout:
    rules = Rules(
        canary_failures=ANY,
        failures=ANY,
        at_once=9,
        timeout_s=timeout_s,
        trial_timeout_s=timeout_s,
        on_failure="stop",
    )
    return Rollout(make_plan(names, canary=0, waves=parse_waves("100%")), rules, fresh(names))


@contextmanager
def conducting(
    folder: Path, settings: MqttSettings, going: Rollout, show: Notes, *, patience_s: float = 30
) -> Iterator[Conductor]:
    bundle = folder / "joint.lsb"
    bundle.write_bytes(bytes(1000))
    journal = Journal(
        folder / "joint.rollout.json",
        bundle_hash=HASH,
        product="joint",
        version="1",
        stations=tuple(going.state.stations),
    )
    with journal, BundleFile(bundle) as file, Caller(settings, generate_key_pair("op")) as caller:
        yield Conductor(
            going,
            freight=Freight(file=file, bundle_hash=HASH),
            journal=journal,
            caller=caller,
            settings=settings,
            show=show,
            patience_s=patience_s,
        )
        assert journal.read() == going.state


def test_a_station_whose_topics_are_closed_to_us_fails_and_others_do_not(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text(
        "topic readwrite lineside/v1/hall/line/open/#\n"
        "topic read lineside/v1/hall/line/closed/#\n"
        "topic write lineside/v1/hall/line/closed/state\n"
    )
    broker = Mosquitto(tmp_path, f"acl_file {acl}", "allow_anonymous true")
    broker.start()
    try:
        retain(broker, NAMES[0], online(bundle=HASH, slot_state="confirmed"))
        retain(broker, NAMES[1], online(bundle="cd" * 32, slot_state="confirmed"))
        going = rollout(NAMES)
        settings = MqttSettings(url=broker.url, protocol="5")
        with conducting(tmp_path, settings, going, Notes()) as conductor:
            conductor.run()
    finally:
        broker.kill()

    there, closed = (going.state.stations[name] for name in NAMES)
    assert there.phase is Phase.SKIPPED
    assert closed.phase is Phase.FAILED
    assert "access list" in closed.reason


def test_what_is_given_up_ends_at_once(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    broker.start()
    order = Order(station=topics_of(NAMES[0]), verb="pause", args={})
    try:
        with Caller(MqttSettings(url=broker.url), generate_key_pair("op")) as caller:
            call = caller.submit(order, timeout_s=1000)
            call.give_up()
            with pytest.raises(BrokerError, match="pause: was given up"):
                call.result()
    finally:
        broker.kill()


def test_a_broker_that_stays_away_ends_it_and_its_time_counts_for_no_station(
    tmp_path: Path,
) -> None:
    broker = Mosquitto(tmp_path)
    broker.start()
    try:
        retain(broker, NAMES[0], online(bundle=HASH, slot_state="trial"))
        going, show = rollout(NAMES[:1], timeout_s=1000), Notes()

        def kill_once() -> None:
            if going.state.stations[NAMES[0]].phase is Phase.TRIAL:
                broker.kill()

        show.at_tick = kill_once
        settings = MqttSettings(url=broker.url, reconnect_min_s=0.05)
        with (
            conducting(tmp_path, settings, going, show, patience_s=0.3) as conductor,
            pytest.raises(BrokerError, match=str(broker.port)),
        ):
            conductor.run()
    finally:
        broker.kill()

    assert going.state.stations[NAMES[0]].phase is Phase.TRIAL
    assert show.broker_words and show.broker_words[0]


def test_an_older_state_that_a_broker_kept_does_not_count(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    broker.start()
    name = NAMES[0]
    try:
        before = online(bundle="cd" * 32, next=HASH[:16])
        after = msgspec.structs.replace(
            before, t=before.t + 9000, bundle=HASH, next="", slot_state="trial"
        )
        end = msgspec.structs.replace(after, t=after.t + 1, slot_state="confirmed")
        retain(broker, name, after)
        going, show = rollout((name,)), Notes()
        steps: list[Phase] = []

        def restart_with_older() -> None:
            phase = going.state.stations[name].phase
            if phase is Phase.TRIAL and not steps:
                steps.append(phase)
                broker.kill()
                broker.start()
                retain(broker, name, before)
            elif show.broker_words[-1:] == [""] and len(steps) < 10:
                # It stands again, and what was retained has come.
                steps.append(phase)
            elif len(steps) == 10:
                steps.append(phase)
                retain(broker, name, end)

        show.at_tick = restart_with_older
        settings = MqttSettings(url=broker.url, reconnect_min_s=0.05)
        with conducting(tmp_path, settings, going, show) as conductor:
            conductor.run()
    finally:
        broker.kill()

    assert set(steps) == {Phase.TRIAL}
    assert going.state.stations[name].phase is Phase.CONFIRMED
