"""Commands: strict, done once, answered; whatever comes in."""

from __future__ import annotations

import json
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.errors import InputDataError
from lineside.mqtt import (
    AckMessage,
    Answer,
    ChangeoverCommand,
    Command,
    DispositionCommand,
    TriggerCommand,
    decode_ack,
)
from lineside.mqtt.answers import ANSWERS_LIMIT, Answers
from lineside.mqtt.commands import (
    ACK_LIMIT_BYTES,
    COMMAND_LIMIT_BYTES,
    decode_command,
    encode_ack,
    find_id,
)
from lineside.mqtt.desk import CommandDesk
from lineside.mqtt.topics import COMMANDS


class Handler:
    """Does every command, and says so."""

    def __init__(self, answer: Answer = Answer(ok=True)) -> None:  # noqa: B008 - frozen
        self.done: list[Command] = []
        self._answer = answer

    def __call__(self, command: Command) -> Answer:
        self.done.append(command)
        return self._answer


def test_a_trigger_as_a_plc_writes_it() -> None:
    found = decode_command("trigger", b'{"id":"17","part":"LED-000317","product":"led"}')
    assert found == TriggerCommand(id="17", part="LED-000317", product="led")
    assert decode_command("trigger", b"{}") == TriggerCommand()
    assert decode_command("changeover", b'{"product":"b"}') == ChangeoverCommand(product="b")
    body = b'{"id":"x","part":"p","evaluation":2,"defect":"void","by":"J. Doe","note":"as told"}'
    assert decode_command("disposition", body) == DispositionCommand(
        id="x", part="p", evaluation=2, defect="void", by="J. Doe", note="as told"
    )


@pytest.mark.parametrize(
    ("name", "payload", "words"),
    [
        ("trigger", b"", "the message is empty"),
        ("trigger", b"\xff\xfe", "malformed|UTF-8|utf-8"),
        ("trigger", b"[1]", "object"),
        ("trigger", b'{"x":' + b"[" * 4000, "unknown|recursion"),
        ("trigger", b'{"prat":"1"}', "^unknown key prat; there are id, part, product$"),
        ("trigger", b'{"part":1}', "^part: Expected 'str', got 'int'$"),
        ("trigger", b'{"kind":"changeover","product":"b"}', "kind"),
        ("trigger", b'{"id":"a\\u0000b"}', "id: .*control"),
        ("trigger", b'{"id":"a\\nb"}', "id: .*control"),
        ("trigger", b'{"id":"' + b"1" * 37 + b'"}', "id: 37 characters"),
        ("trigger", b'{"part":"a\\u001b[2J"}', "part: holds control"),
        ("trigger", b'{"part":"' + b"p" * 129 + b'"}', "part: 129 characters"),
        ("trigger", b'{"part":"' + b"p" * 5000 + b'"}', f"at most {COMMAND_LIMIT_BYTES}"),
        ("changeover", b"{}", "^product is missing$"),
        ("changeover", b'{"product":""}', "product is empty"),
        ("disposition", b'{"evaluation":1}', "verdict .* or part"),
        ("disposition", b'{"verdict":"a","part":"b","evaluation":1}', "one of both"),
        ("disposition", b'{"part":"b","evaluation":3}', "evaluation is 1"),
        ("disposition", b'{"part":"b"}', "evaluation"),
        ("shutdown", b"{}", "unknown command shutdown"),
    ],
)
def test_what_is_wrong_is_refused_in_words_and_never_done(
    name: str, payload: bytes, words: str
) -> None:
    with pytest.raises(InputDataError, match=words):
        decode_command(name, payload)
    handler = Handler()
    reply = CommandDesk(handler).take(name, payload, retained=False)
    assert not reply.answer.ok
    assert reply.answer.detail
    assert handler.done == []


def test_the_sender_of_a_wrong_command_learns_which_one() -> None:
    reply = CommandDesk(Handler()).take("trigger", b'{"id":"17","prat":"x"}', retained=False)
    assert (reply.command_id, reply.answer.ok) == ("17", False)
    assert "prat" in reply.answer.detail


@given(st.sampled_from([*COMMANDS, "x"]), st.binary(max_size=400), st.booleans())
def test_any_bytes_are_answered_within_the_limit(name: str, payload: bytes, retained: bool) -> None:
    reply = CommandDesk(Handler()).take(name, payload, retained=retained)
    data = encode_ack(
        cmd=reply.cmd,
        command_id=reply.command_id,
        ok=reply.answer.ok,
        detail=reply.answer.detail,
    )
    assert len(data) <= ACK_LIMIT_BYTES
    find_id(payload)


@given(st.text(max_size=400), st.text(max_size=400), st.text(max_size=400), st.booleans())
def test_any_answer_fits_and_comes_back(cmd: str, command_id: str, detail: str, ok: bool) -> None:
    data = encode_ack(cmd=cmd, command_id=command_id, ok=ok, detail=detail)
    assert len(data) <= ACK_LIMIT_BYTES
    assert tuple(json.loads(data)) == AckMessage.__struct_fields__
    message = decode_ack(data, source="test")
    assert message.ok is ok
    assert b"\\" not in data, "escapes are beyond a PLC's parser"
    if len(detail) <= 120 and detail.isascii() and detail.isprintable() and "\\" not in detail:
        assert message.detail == detail.replace('"', "'")


def test_an_answer_is_refused_when_it_is_none() -> None:
    with pytest.raises(InputDataError, match="ack"):
        decode_ack(b"{}", source="ack")


def test_a_retained_command_is_refused() -> None:
    handler = Handler()
    reply = CommandDesk(handler).take("trigger", b'{"id":"5","part":"a"}', retained=True)
    assert (reply.command_id, reply.answer.ok) == ("5", False)
    assert "retain" in reply.answer.detail
    assert handler.done == []


def test_a_repeated_command_is_answered_again_and_done_once() -> None:
    handler = Handler(Answer(ok=False, detail="no bundle for it"))
    desk = CommandDesk(handler)
    first = desk.take("changeover", b'{"id":"5","product":"x"}', retained=False)
    again = desk.take("changeover", b'{"id":"5","product":"x"}', retained=False)
    assert (first.answer.ok, first.answer.detail) == (again.answer.ok, again.answer.detail)
    assert len(handler.done) == 1
    # The id counts for one topic only, and without id nothing is remembered.
    desk.take("trigger", b'{"id":"5"}', retained=False)
    desk.take("trigger", b"{}", retained=False)
    desk.take("trigger", b"{}", retained=False)
    assert len(handler.done) == 4


def test_an_id_that_was_used_for_something_else_is_refused_not_swallowed() -> None:
    handler = Handler()
    desk = CommandDesk(handler)
    desk.take("trigger", b'{"id":"1","part":"a"}', retained=False)
    reply = desk.take("trigger", b'{"id":"1","part":"b"}', retained=False)
    assert not reply.answer.ok
    assert "new id" in reply.answer.detail
    assert len(handler.done) == 1


def test_the_memory_of_ids_is_bounded() -> None:
    handler = Handler()
    desk = CommandDesk(handler)
    for number in range(1000):
        desk.take("trigger", msgspec.json.encode({"id": str(number)}), retained=False)
    desk.take("trigger", b'{"id":"999"}', retained=False)
    assert len(handler.done) == 1000
    desk.take("trigger", b'{"id":"0"}', retained=False)
    assert len(handler.done) == 1001


def test_who_waits_for_an_answer_is_never_left_waiting() -> None:
    answers = Answers()
    assert answers.tell(cmd="changeover", detail="", ok=True).is_set(), "there is no connection"
    answers.open()
    sent, queued = (answers.tell(cmd="changeover", detail=word, ok=True) for word in "ab")
    assert answers.pop() is not None
    assert not sent.is_set()
    answers.settle()
    assert sent.is_set()
    assert not queued.is_set()
    answers.close()
    assert queued.is_set()
    assert answers.pop() is None


def test_an_answer_that_breaks_off_while_it_is_sent_counts_as_gone() -> None:
    answers = Answers()
    answers.open()
    event = answers.tell(cmd="changeover", detail="", ok=True)
    answers.pop()
    answers.close()
    assert event.is_set()
    assert len(answers) == 0


def test_answers_are_bounded() -> None:
    answers = Answers()
    answers.open()
    events: list[threading.Event] = [
        answers.tell(cmd="changeover", detail="", ok=True) for _ in range(ANSWERS_LIMIT + 5)
    ]
    assert len(answers) == ANSWERS_LIMIT
    assert not answers.has_room
    assert [event.is_set() for event in events].count(True) == 5
