"""Signed commands are worked off in order, answered when done, and no flood fills anything."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lineside.bundle import PrivateKey
from lineside.errors import RefusedError, StorageError
from lineside.mqtt import Answer, Reply
from lineside.remote import CommandKeys, Gate, KeyRing, SignedCommand, sign_command
from lineside.remote.desk import REFUSALS_PER_S, WAITING_LIMIT, RemoteDesk
from lineside.remote.nonces import NonceFile

STATION = "hall-3/line-2/joint-01"
NOW_MS = 1_763_740_800_000
KEY = PrivateKey(bytes(range(32)), name="operator")
KEYS = CommandKeys(
    keys={KEY.public.key_id: KEY.public},
    verbs={KEY.public.key_id: frozenset({"pause", "resume", "range", "trigger"})},
)


class Desk:
    """A desk with what it does and says written down.

    A handler waits at ``gate`` once that is cleared.
    """

    def __init__(self, path: Path) -> None:
        self.done: list[SignedCommand] = []
        self.replies: list[Reply] = []
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.nonces = NonceFile(path / "x.nonces")
        self.fault: Exception | None = None
        ring = KeyRing(lambda: KEYS)
        gate = Gate(station=STATION, keys=KEYS, nonces=self.nonces)
        self.desk = RemoteDesk(
            gate,
            ring=ring,
            execute=self.execute,
            answer=self.replies.append,
            now_unix_ms=lambda: NOW_MS,
        )

    def execute(self, command: SignedCommand) -> Answer | None:
        self.entered.set()
        assert self.open.wait(10)
        if self.fault is not None:
            raise self.fault
        self.done.append(command)
        return None if command.verb == "range" else Answer(ok=True, detail="done so")

    def take(self, payload: bytes, *, retained: bool = False) -> bool:
        return self.desk.take("signed", payload, retained)

    def work_off(self) -> None:
        """All that was taken has been done, and answered."""
        over = threading.Event()
        while not self.desk.later(over.set):
            pass
        assert over.wait(10)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    desk.desk.start()
    yield desk
    desk.open.set()
    desk.desk.stop(10)
    desk.desk.check()
    desk.nonces.close()


def sign(verb: str = "pause", *, command_id: str = "c-1") -> bytes:
    args = {"first": 1, "last": 2} if verb == "range" else {}
    return sign_command(
        KEY, verb=verb, station=STATION, args=args, command_id=command_id, now_unix_ms=NOW_MS
    )


def told(reply: Reply) -> tuple[str, str, bool, str]:
    return reply.cmd, reply.command_id, reply.answer.ok, reply.answer.detail


def test_commands_are_done_in_their_order_and_answered(made: Desk) -> None:
    for verb in ("pause", "trigger", "resume"):
        assert made.take(sign(verb, command_id=verb))
    made.work_off()
    assert [one.verb for one in made.done] == ["pause", "trigger", "resume"]
    assert [told(one) for one in made.replies] == [
        (verb, verb, True, "done so") for verb in ("pause", "trigger", "resume")
    ]
    assert made.desk.counts == {"done": 3}


def test_what_goes_on_is_answered_by_whoever_goes_on(made: Desk) -> None:
    assert made.take(sign("range"))
    made.work_off()
    assert [one.verb for one in made.done] == ["range"]
    assert made.replies == []


@pytest.mark.parametrize(
    "fault", [RefusedError("nothing is on trial"), StorageError("orders: the disk is full")]
)
def test_what_cannot_be_done_is_answered_in_words_and_the_thread_lives(
    made: Desk, fault: Exception
) -> None:
    made.fault = fault
    made.take(sign())
    made.work_off()
    made.fault = None
    made.take(sign())
    made.work_off()
    assert [told(one)[2:] for one in made.replies] == [(False, str(fault)), (True, "done so")]


def test_a_repeated_command_is_refused_and_its_sender_learns_what_became_of_it(made: Desk) -> None:
    payload, failed = sign(), sign(command_id="c-2")
    made.take(payload)
    made.take(payload)
    made.work_off()
    made.fault = RefusedError("not now")
    made.take(failed)
    made.take(failed)
    made.work_off()
    assert len(made.done) == 1
    details = [told(one)[3] for one in made.replies]
    assert details[1].startswith("replay: ")
    assert details[1].endswith("(it was done)")
    assert details[3].endswith("(it was not done then either)")
    assert made.desk.counts == {"done": 1, "refused_replay": 2}


def test_one_that_is_signed_anew_is_answered_again_and_not_done_twice(made: Desk) -> None:
    for payload in (sign(), sign(), sign("resume"), sign(command_id="c-2")):
        made.take(payload)
    made.work_off()
    assert [told(one)[1:] for one in made.replies] == [("c-1", True, "done so")] * 3 + [
        ("c-2", True, "done so")
    ]
    assert len(made.done) == 3
    made.fault = RefusedError("not now")
    made.take(sign(command_id="c-3"))
    made.work_off()
    made.fault = None
    made.take(sign(command_id="c-3"))
    made.work_off()
    assert len(made.done) == 4, "what was refused may be said again"


def test_a_replay_is_refused_also_after_a_restart(made: Desk, tmp_path: Path) -> None:
    payload = sign()
    made.take(payload)
    made.work_off()
    again = Desk(tmp_path)
    again.desk.start()
    again.take(payload)
    again.work_off()
    assert again.done == []
    assert [told(one) for one in again.replies] == [
        ("pause", "c-1", False, "replay: it was heard before; sign a new one")
    ]
    again.desk.stop(10)


def test_a_retained_command_is_refused(made: Desk) -> None:
    made.take(sign(), retained=True)
    made.work_off()
    assert made.done == []
    assert told(made.replies[0])[:3] == ("signed", "c-1", False)


def test_publishing_never_waits_and_too_many_are_told_so(made: Desk) -> None:
    made.open.clear()
    made.take(sign())
    assert made.entered.wait(10)
    ids = [f"c-{number}" for number in range(WAITING_LIMIT + 10)]
    taken = [made.take(sign("resume", command_id=one)) for one in ids]
    assert taken == [True] * WAITING_LIMIT + [False] * 10
    assert made.desk.counts["refused_busy"] == 10
    made.open.set()
    made.work_off()
    assert len(made.done) == WAITING_LIMIT + 1


def test_a_flood_of_strangers_is_counted_and_hardly_answered(made: Desk) -> None:
    stranger = PrivateKey(bytes(32), name="stranger")
    payload = sign_command(
        stranger, verb="pause", station=STATION, args={}, command_id="x", now_unix_ms=NOW_MS
    )
    size_before = (made.nonces._path).stat().st_size
    for _ in range(500):
        while not made.take(payload):
            made.work_off()
    made.take(sign(command_id="mine"))
    made.work_off()
    assert made.desk.counts["refused_stranger"] == 500
    # Two seconds may have begun meanwhile, on a slow machine some more.
    refused = [one for one in made.replies if not one.answer.ok]
    assert REFUSALS_PER_S <= len(refused) < 250
    assert told(made.replies[-1]) == ("pause", "mine", True, "done so")
    assert made.nonces._path.stat().st_size == size_before + 32


def test_a_payload_that_is_too_long_is_not_kept(made: Desk) -> None:
    made.take(sign() + b" " * 1_000_000)
    made.work_off()
    assert told(made.replies[0])[3].startswith("malformed: 4097 bytes")


def test_chunks_go_straight_to_who_takes_them(made: Desk) -> None:
    assert made.desk.take("chunk", b"nobody takes it", False)
    heard: list[bytes] = []
    made.desk.chunk = heard.append
    made.open.clear()
    made.take(sign())
    made.desk.take("chunk", b"abc", False)
    made.desk.take("chunk", b"retained", True)
    assert heard == [b"abc"], "though a command is being worked off"


def test_what_ends_the_thread_is_raised_where_somebody_looks(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.fault = KeyError("ours")
    desk.desk.start()
    threading.excepthook, before = lambda _: None, threading.excepthook
    try:
        desk.take(sign())
        desk.desk.stop(10)
    finally:
        threading.excepthook = before
    with pytest.raises(KeyError):
        desk.desk.check()
