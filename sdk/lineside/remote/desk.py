"""Where signed commands are worked off: one after the other, in a thread of their own.

Whoever can publish can flood: what waits, what is answered and what is remembered are bounded, and
of refusals only so many a second are answered; all are counted.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from lineside.errors import LinesideError
from lineside.mqtt.commands import Answer
from lineside.mqtt.desk import Reply
from lineside.remote.envelope import SIGNED_LIMIT_BYTES
from lineside.remote.gate import Gate, Refusal, RefusalReason, SignedCommand
from lineside.remote.handlers import Handler
from lineside.remote.keys import KeyRing
from lineside.remote.verbs import Args
from lineside.worker import Worker

WAITING_LIMIT: Final = 64
REFUSALS_PER_S: Final = 20
_OUTCOMES: Final = 256
# As of unsigned commands: a sender whose answer was lost asks again soon.
_ANSWERS: Final = 256
_ANSWERED_S: Final = 600.0
_TICK_S: Final = 0.2


def _pass_over(_payload: bytes) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class _Message:
    payload: bytes
    retained: bool


@dataclass(frozen=True, kw_only=True)
class _Answered:
    args: Args
    answer: Answer
    at_s: float


class RemoteDesk:
    """Judges what is signed, has it done, and answers. `take` and `later` from any thread.

    One that was done and comes again by the same id, signed anew, is answered again and not done
    twice: its sender has not heard the answer.

    Attributes:
        chunk: takes the payloads of ``cmd/chunk``, in the thread of `take`, and never waits; they
            are passed over until it is set.

    Args:
        gate: who may what.
        ring: the keys of the gate, looked at before each command.
        execute: does a command that has passed.
        answer: puts an answer on its way; from any thread, never waits.
        now_unix_ms: the station's clock.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        ring: KeyRing,
        execute: Handler,
        answer: Callable[[Reply], None],
        now_unix_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.chunk: Callable[[bytes], None] = _pass_over
        self._gate = gate
        self._ring = ring
        self._execute = execute
        self._answer = answer
        self._now_unix_ms = now_unix_ms
        self._waiting: queue.Queue[_Message | Callable[[], None]] = queue.Queue(WAITING_LIMIT)
        self._stopping = threading.Event()
        self._worker = Worker(self._work_off, name="lineside-commands")
        self._done = 0
        self._busy = 0
        self._outcomes: OrderedDict[bytes, str] = OrderedDict()
        self._answered: OrderedDict[tuple[bytes, str, str], _Answered] = OrderedDict()
        self._second = 0
        self._refused_in_it = 0

    @property
    def counts(self) -> Mapping[str, int]:
        """Commands done, and those refused by reason (``refused_stranger``); no zeros."""
        refused = {f"refused_{reason.value}": n for reason, n in self._gate.refused.items()}
        told = {"done": self._done, **refused, "refused_busy": self._busy}
        return {name: count for name, count in told.items() if count}

    @property
    def fault(self) -> str:
        """Why no key counts just now; ``""`` when all is well."""
        return self._ring.fault

    def take(self, name: str, payload: bytes, retained: bool) -> bool:
        """A payload of ``signed`` or ``chunk``; ``False``: too many wait. Never waits."""
        if name == "chunk":
            if not retained:
                self.chunk(payload)
            return True
        # One byte more than is read, so that it is seen to be too long.
        kept = payload[: SIGNED_LIMIT_BYTES + 1]
        taken = self.later(_Message(payload=kept, retained=retained))
        self._busy += not taken
        return taken

    def later(self, work: _Message | Callable[[], None]) -> bool:
        """Have something done in this thread, behind what waits; ``False``: too many wait."""
        try:
            self._waiting.put_nowait(work)
        except queue.Full:
            return False
        return True

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def check(self) -> None:
        """Raise what ended the thread, if something did."""
        self._worker.check()

    def stop(self, timeout_s: float) -> None:
        """Finish the command under way; those behind it are not done, and their senders hear no
        answer."""
        self._stopping.set()
        self._worker.join(timeout_s)

    def _work_off(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(queue.Empty):
                self._do(self._waiting.get(timeout=_TICK_S))

    def _do(self, work: _Message | Callable[[], None]) -> None:
        if isinstance(work, _Message):
            self._on_signed(work)
        else:
            work()

    def _on_signed(self, message: _Message) -> None:
        self._gate.keys = self._ring.look()
        now_ms = self._now_unix_ms()
        found = self._gate.judge(message.payload, now_ms, retained=message.retained)
        if isinstance(found, Refusal):
            self._refuse(found)
            return
        before = self._recall(found)
        if before is not None:
            self._answer(Reply(cmd=found.verb, command_id=found.command_id, answer=before))
            return
        self._remember(found.nonce, "it is under way")
        answer = self._execute_safely(found)
        if answer is None:
            return
        if answer.ok:
            self._remember_answer(found, answer)
            self._done += 1
        self._remember(found.nonce, "it was done" if answer.ok else "it was not done then either")
        self._answer(Reply(cmd=found.verb, command_id=found.command_id, answer=answer))

    def _recall(self, command: SignedCommand) -> Answer | None:
        oldest_s = time.monotonic() - _ANSWERED_S
        while self._answered and next(iter(self._answered.values())).at_s < oldest_s:
            self._answered.popitem(last=False)
        before = self._answered.get(_name_of(command)) if command.command_id else None
        if before is None or before.args != command.args:
            return None
        return Answer(ok=before.answer.ok, detail=before.answer.detail)

    def _remember_answer(self, command: SignedCommand, answer: Answer) -> None:
        found = _Answered(args=command.args, answer=answer, at_s=time.monotonic())
        self._answered.pop(_name_of(command), None)
        self._answered[_name_of(command)] = found
        while len(self._answered) > _ANSWERS:
            self._answered.popitem(last=False)

    def _execute_safely(self, command: SignedCommand) -> Answer | None:
        try:
            return self._execute(command)
        except LinesideError as error:
            return Answer(ok=False, detail=str(error))

    def _refuse(self, refusal: Refusal) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._refused_in_it = second, 0
        self._refused_in_it += 1
        if self._refused_in_it > REFUSALS_PER_S:
            return
        detail = refusal.detail
        if refusal.reason is RefusalReason.REPLAY and refusal.nonce in self._outcomes:
            detail += f" ({self._outcomes[refusal.nonce]})"
        self._answer(
            Reply(
                cmd=refusal.verb or "signed",
                command_id=refusal.command_id,
                answer=Answer(ok=False, detail=detail),
            )
        )

    def _remember(self, nonce: bytes, outcome: str) -> None:
        """So that whoever did not hear the answer learns it when he says it again."""
        self._outcomes[nonce] = outcome
        while len(self._outcomes) > _OUTCOMES:
            self._outcomes.popitem(last=False)


def _name_of(command: SignedCommand) -> tuple[bytes, str, str]:
    """What its sender knows it by."""
    return command.key.key_id, command.verb, command.command_id
