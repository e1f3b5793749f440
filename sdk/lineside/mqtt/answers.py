"""Answers on their way to ``ack``: bounded, and whoever waits for one is never left waiting."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from lineside.mqtt.commands import encode_ack
from lineside.mqtt.desk import Reply

# Beyond, a sender floods us, or the broker acknowledges nothing: commands are passed over then, and
# their sender hears no answer.
ANSWERS_LIMIT = 256


@dataclass(frozen=True, kw_only=True)
class _Waiting:
    payload: bytes
    then: Callable[[], None]


class Answers:
    """A queue between whoever answers and the connection of the moment. `tell` from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: deque[_Waiting] = deque()
        self._unwritten: deque[Callable[[], None]] = deque()
        self._is_open = False

    def __len__(self) -> int:
        return len(self._queue) + len(self._unwritten)

    @property
    def has_room(self) -> bool:
        """Whether one more command is to be heard; the other half is for what was heard before."""
        return len(self._queue) < ANSWERS_LIMIT // 2

    def open(self) -> None:
        """There is a connection."""
        with self._lock:
            self._is_open = True

    def close(self) -> None:
        """There is none any more: nobody hears these answers, so nobody need wait for them."""
        with self._lock:
            self._is_open = False
            left = [*self._unwritten, *(one.then for one in self._queue)]
            self._queue.clear()
            self._unwritten.clear()
        for then in left:
            then()

    def reply(self, reply: Reply) -> None:
        """Answer a command."""
        payload = encode_ack(
            cmd=reply.cmd,
            command_id=reply.command_id,
            ok=reply.answer.ok,
            detail=reply.answer.detail,
        )
        self._put(payload, reply.answer.then)

    def tell(self, *, cmd: str, detail: str, ok: bool) -> threading.Event:
        """The station itself says something; the event is set once written, or in vain."""
        written = threading.Event()
        self._put(encode_ack(cmd=cmd, command_id="", ok=ok, detail=detail), written.set)
        return written

    def pop(self) -> bytes | None:
        """The next answer, to be sent now; `settle` once it was."""
        with self._lock:
            if not self._queue:
                return None
            waiting = self._queue.popleft()
            self._unwritten.append(waiting.then)
            return waiting.payload

    def settle(self) -> None:
        """All that was popped has been written."""
        while self._unwritten:
            self._unwritten.popleft()()

    def _put(self, payload: bytes, then: Callable[[], None]) -> None:
        with self._lock:
            taken = self._is_open and len(self._queue) < ANSWERS_LIMIT
            if taken:
                self._queue.append(_Waiting(payload=payload, then=then))
        if not taken:
            then()
