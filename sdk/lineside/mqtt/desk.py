"""Where commands come in: each decoded, done once, and answered. Pure but for the handler."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from lineside.errors import InputDataError
from lineside.mqtt.commands import Answer, CommandHandler, decode_command, find_id
from lineside.mqtt.topics import REMOTE

# A repeated delivery comes at once, or after a reconnection; a PLC that counts its ids may begin
# anew when it was off, and must not be taken for repeating.
_REMEMBERED = 256
_REMEMBERED_S = 600.0

RemoteIntake = Callable[[str, bytes, bool], bool]
"""Takes a payload of ``signed`` or ``chunk`` (which, payload, retained) in the publisher's thread,
to be worked off in another; ``False``: there is no room for it."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer with what it is to."""

    cmd: str
    command_id: str
    answer: Answer


@dataclass(frozen=True, kw_only=True)
class _Done:
    """``answer`` is ``None`` while it is under way."""

    payload: bytes
    answer: Answer | None
    at_s: float


class CommandDesk:
    """Hands commands to ``handle``, each once, in bounded memory, and what is signed to ``remote``.

    Args:
        handle: does what they say.
        remote: judges what is signed; ``None``: nobody does.
    """

    def __init__(self, handle: CommandHandler, remote: RemoteIntake | None = None) -> None:
        self._handle = handle
        self._remote = remote
        # Commands come in one thread, and answers that were waited for in another.
        self._lock = threading.Lock()
        self._done: OrderedDict[tuple[str, str], _Done] = OrderedDict()

    def take(self, name: str, payload: bytes, *, retained: bool) -> Reply | None:
        """Decode, do, and answer one command of ``cmd/<name>``; ``None``: its answer comes."""
        if self._remote is not None and name in REMOTE:
            if self._remote(name, payload, retained):
                return None
            return _refusal(name, payload, "busy: too many wait; say it again later")
        if retained:
            # The broker hands it to every new subscription: a part that stood there last week
            # would be inspected at each connection.
            words = "retained commands are not done: publish without the retain flag, and clear it"
            return _refusal(name, payload, words)
        try:
            command = decode_command(name, payload)
        except InputDataError as error:
            return _refusal(name, payload, str(error))
        key = (name, command.id)
        before = self._recall(key) if command.id else None
        if before is not None:
            return _repeated(name, command.id, before, payload)
        if command.id:  # first: its answer may be there before `handle` has returned
            self._remember(key, payload)
        answer = self._handle(command)
        if answer is None:
            return None
        reply = Reply(cmd=name, command_id=command.id, answer=answer)
        self.settle(reply)
        return reply

    def settle(self, reply: Reply) -> None:
        """This is the answer; a repeated command is given the same. From any thread."""
        key = (reply.cmd, reply.command_id)
        with self._lock:
            done = self._done.get(key)
            if done is not None and done.answer is None:
                answer = Answer(ok=reply.answer.ok, detail=reply.answer.detail)
                self._done[key] = replace(done, answer=answer)

    def _recall(self, key: tuple[str, str]) -> _Done | None:
        oldest_s = time.monotonic() - _REMEMBERED_S
        with self._lock:
            while self._done and next(iter(self._done.values())).at_s < oldest_s:
                self._done.popitem(last=False)
            return self._done.get(key)

    def _remember(self, key: tuple[str, str], payload: bytes) -> None:
        with self._lock:
            self._done[key] = _Done(payload=payload, answer=None, at_s=time.monotonic())
            while len(self._done) > _REMEMBERED:
                self._done.popitem(last=False)


def _repeated(name: str, command_id: str, before: _Done, payload: bytes) -> Reply | None:
    if before.payload != payload:
        words = "this id was used for another command just now; not done, use a new id"
        return Reply(cmd=name, command_id=command_id, answer=Answer(ok=False, detail=words))
    if before.answer is None:
        return None
    return Reply(cmd=name, command_id=command_id, answer=before.answer)


def _refusal(name: str, payload: bytes, words: str) -> Reply:
    return Reply(cmd=name, command_id=find_id(payload), answer=Answer(ok=False, detail=words))
