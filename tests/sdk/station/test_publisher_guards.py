"""Two stations set up as one, topics that a broker refuses, and ids: judged without a broker."""

from __future__ import annotations

from lineside.mqtt import Message, StateMessage, StateWord, encode_state
from lineside.mqtt.rival import OFTEN, SOON_S, IdRival, TopicRival
from lineside.mqtt.state import make_state
from lineside.mqtt.wire import Permissions


def state_of(instance: str, word: StateWord = StateWord.ONLINE, beat_s: int = 10) -> bytes:
    made: StateMessage = make_state(word)
    return encode_state(
        StateMessage(st=made.st, state=word, t=made.t, beat_s=beat_s, instance=instance)
    )


def test_another_instance_that_is_online_now_is_a_rival_for_three_beats() -> None:
    rival = TopicRival("aaaaaaaa")
    rival.hear(state_of("bbbbbbbb"), retained=False, now_s=100.0)
    assert "bbbbbbbb" in rival.words("s/l/x", now_s=100.0)
    assert "s/l/x" in rival.words("s/l/x", now_s=129.0)
    assert rival.words("s/l/x", now_s=131.0) == ""


def test_what_is_no_rival() -> None:
    rival = TopicRival("aaaaaaaa")
    for payload, retained in (
        (state_of("aaaaaaaa"), False),
        (state_of("bbbbbbbb"), True),
        (state_of("bbbbbbbb", StateWord.OFFLINE), False),
        (state_of(""), False),
        (b"", False),
        (b"not a state", False),
    ):
        rival.hear(payload, retained=retained, now_s=100.0)
        assert rival.words("s/l/x", now_s=100.0) == ""


def test_a_broker_that_is_restarted_twice_is_no_rival() -> None:
    rival = IdRival(30.0)
    for _ in range(OFTEN - 1):
        rival.ended(1.0, closed_by_broker=True, taken_over=False)
    assert not rival.found
    rival.ended(SOON_S + 1, closed_by_broker=True, taken_over=False)
    rival.ended(1.0, closed_by_broker=True, taken_over=False)
    assert not rival.found


def test_a_network_that_breaks_is_no_rival() -> None:
    rival = IdRival(30.0)
    for _ in range(10):
        rival.ended(1.0, closed_by_broker=False, taken_over=False)
    assert not rival.found


def test_thrown_out_again_and_again_it_holds_back_until_there_is_peace() -> None:
    rival = IdRival(30.0)
    for _ in range(OFTEN):
        rival.ended(1.0, closed_by_broker=True, taken_over=False)
    assert rival.found
    assert "'me'" in rival.words("me")
    # The other one holds back just as long as we do: half a minute is no peace yet.
    rival.ended(37.0, closed_by_broker=True, taken_over=False)
    rival.stands(40.0)
    assert rival.found
    rival.stands(46.0)
    assert not rival.found


def test_mqtt_5_says_it_the_first_time() -> None:
    rival = IdRival(30.0)
    rival.ended(600.0, closed_by_broker=True, taken_over=True)
    assert rival.found


def test_a_first_message_travels_alone_and_a_refused_topic_is_left_alone() -> None:
    found = Permissions(asks=True)
    health = Message(topic="a/health", payload=b"", optional=True)
    found.sent(1, health)
    assert found.on_trial
    found.settle([1], {"a/health": "a message on a/health was refused: Not authorized"})
    assert not found.on_trial
    assert not found.may(health)
    assert found.words == ("a message on a/health was refused: Not authorized",)
    ack = Message(topic="a/ack", payload=b"", optional=True)
    found.sent(2, ack)
    found.settle([2], {})
    found.sent(3, ack)
    assert not found.on_trial, "once it was taken, no more"


def test_hang_ups_without_a_word_are_counted_before_a_topic_is_given_up() -> None:
    found = Permissions(asks=True)
    health = Message(topic="a/health", payload=b"", optional=True)
    verdict = Message(topic="a/verdict", payload=b"")
    for number in range(3):
        assert found.may(health)
        found.sent(number, health)
        found.lost({})
        assert not found.on_trial
        found.sent(number, verdict)
        found.lost({})
    assert not found.may(health)
    assert found.may(verdict), "a verdict is never given up"


def test_a_broker_of_mqtt_3_never_answers_with_a_refusal_so_nothing_waits() -> None:
    found = Permissions(asks=False)
    found.sent(1, Message(topic="a", payload=b"", optional=True))
    assert not found.on_trial
