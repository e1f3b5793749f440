"""Where commands come in: each decoded, done once, and answered. Pure but for the handler."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass

from lineside.errors import InputDataError
from lineside.mqtt.commands import Answer, CommandHandler, decode_command, find_id

# A repeated delivery comes at once, or after a reconnection; a PLC that counts its ids may begin
# anew when it was off, and must not be taken for repeating.
_REMEMBERED = 256
_REMEMBERED_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer with what it is to."""

    cmd: str
    command_id: str
    answer: Answer


@dataclass(frozen=True, kw_only=True)
class _Done:
    payload: bytes
    ok: bool
    detail: str
    at_s: float


class CommandDesk:
    """Hands commands to ``handle``, each once, in bounded memory."""

    def __init__(self, handle: CommandHandler) -> None:
        self._handle = handle
        self._done: OrderedDict[tuple[str, str], _Done] = OrderedDict()

    def take(self, name: str, payload: bytes, *, retained: bool) -> Reply:
        """Decode, do, and answer one command of ``cmd/<name>``."""
        if retained:
            # The broker hands it to every new subscription: a part that stood there last week
            # would be inspected at each connection.
            words = "retained commands are not done: publish without the retain flag, and clear it"
            return _refusal(name, payload, words)
        try:
            command = decode_command(name, payload)
        except InputDataError as error:
            return _refusal(name, payload, str(error))
        before = self._recall((name, command.id)) if command.id else None
        if before is not None:
            return _repeated(name, command.id, before, payload)
        answer = self._handle(command)
        if command.id:
            self._remember((name, command.id), payload, answer)
        return Reply(cmd=name, command_id=command.id, answer=answer)

    def _recall(self, key: tuple[str, str]) -> _Done | None:
        oldest_s = time.monotonic() - _REMEMBERED_S
        while self._done and next(iter(self._done.values())).at_s < oldest_s:
            self._done.popitem(last=False)
        return self._done.get(key)

    def _remember(self, key: tuple[str, str], payload: bytes, answer: Answer) -> None:
        self._done[key] = _Done(
            payload=payload, ok=answer.ok, detail=answer.detail, at_s=time.monotonic()
        )
        while len(self._done) > _REMEMBERED:
            self._done.popitem(last=False)


def _repeated(name: str, command_id: str, before: _Done, payload: bytes) -> Reply:
    if before.payload == payload:
        answer = Answer(ok=before.ok, detail=before.detail)
    else:
        answer = Answer(
            ok=False, detail="this id was used for another command just now; not done, use a new id"
        )
    return Reply(cmd=name, command_id=command_id, answer=answer)


def _refusal(name: str, payload: bytes, words: str) -> Reply:
    return Reply(cmd=name, command_id=find_id(payload), answer=Answer(ok=False, detail=words))
