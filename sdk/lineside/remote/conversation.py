"""One command to one station, from the first asking to its answer. Pure: events in, actions out.

A command is asked again, newly signed but by the same id, until its answer comes: the station does
it once. An installation asks likewise, is told from where to send, and sends a few stretches ahead
of what the station has made durable; whatever is lost on the way (a stretch, an answer, the broker,
the station) is found out by asking again. It always ends: by an answer, or by a `Fault`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from lineside.mqtt.commands import AckMessage
from lineside.remote.events import (
    Action,
    Ask,
    Back,
    End,
    Event,
    Fault,
    Heard,
    Joined,
    Lost,
    Send,
    Taken,
    Upload,
)
from lineside.remote.window import Window

INSTALL: Final = "install"
CHUNK: Final = "chunk"
SIGNED: Final = "signed"

# A station that says so may say otherwise soon: another sender falls silent, its memory of nonces
# has room again.
_PASSING: Final = frozenset({"busy", "memory"})
# Each asking has a nonce of its own, so this is about a doubled delivery: the first was answered.
_DOUBLED: Final = "replay"
_EXPIRED: Final = "expired"
# Clocks nearer than this are not why a command has expired: it was on its way for too long.
_CLOCKS_NEAR_S: Final = 15.0
_EXPIRED_TIMES: Final = 3
_BACKOFF: Final = 1.5
_SOON_S: Final = 1.0
_REASON: Final = re.compile(r"([a-z][a-z_]{0,23}): ")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait for what, seconds.

    Attributes:
        answer_s: without any sign of life of the station, or of the broker, the conversation ends.
        again_s, again_max_s: first and longest pause before a command is asked again.
        busy_s: a station that is busy with another sender's file is asked for so long.
        still_s: the longest standstill: from the last byte to the answer, while the station proves
            the bundle; while it fetches a file by itself; of answers that say nothing new.
        fruitless: so often it may be told where to go on without having got further.
        losses: so often it may have less than it had.
    """

    answer_s: float = 30.0
    again_s: float = 3.0
    again_max_s: float = 10.0
    busy_s: float = 14.0
    still_s: float = 300.0
    fruitless: int = 4
    losses: int = 8

    def with_answer(self, answer_s: float) -> Patience:
        """The same with another wait for an answer."""
        return replace(self, answer_s=answer_s)


class Conversation:
    """One command and its answer.

    Args:
        verb: ``pause``, ``install`` and the like.
        command_id: of the command, at most 30 characters; a new attempt after a `busy` adds to it.
        now_s: of a clock that never goes back.
        upload: of an installation.

    Attributes:
        offset: bytes that the station has.
        has_begun: it has said so.
    """

    def __init__(
        self,
        verb: str,
        command_id: str,
        now_s: float,
        *,
        upload: Upload | None = None,
        patience: Patience = Patience(),
    ) -> None:
        self.offset = 0
        self.has_begun = False
        self._verb = verb
        self._first_id = command_id
        self._attempt = 1
        self._patience = patience
        self._upload = upload
        sends = upload is not None and not upload.fetched
        self._window = Window(upload.size_bytes, upload.chunk_bytes) if upload and sends else None
        self._ended = False
        self._is_joined = False
        self._is_waiting = False
        self._broker_words = ""
        # Of the connection that broke since the station got further.
        self._lost_words = ""
        self._last_words = ""
        # Asked, and not told yet from where to send.
        self._is_asking = True
        self._asked_s = now_s - _SOON_S
        self._ask_due_s = now_s
        self._pause_s = patience.again_s
        # Since when the station owes an answer; None: it owes none.
        self._owed_since_s: float | None = None
        self._broker_alive_s = now_s
        self._moved_s = now_s
        self._fruitless = 0
        self._losses = 0
        self._expired = 0
        self._busy_since_s: float | None = None

    @property
    def command_id(self) -> str:
        """What answers are known by."""
        return self._first_id if self._attempt == 1 else f"{self._first_id}-{self._attempt}"

    @property
    def whole(self) -> bool:
        """Whether the station has all bytes, and verifies them."""
        return self._upload is not None and 0 < self._upload.size_bytes == self.offset

    def step(self, event: Event, now_s: float) -> tuple[Action, ...]:
        """What to do next; after an `End` nothing any more."""
        if self._ended:
            return ()
        if isinstance(event, Heard):
            actions = self._on_heard(event, now_s)
        elif isinstance(event, Joined):
            self._is_joined, self._broker_words = True, ""
            self._broker_alive_s = now_s
            actions = self._ask(now_s)
        elif isinstance(event, Lost):
            self._is_joined, self._broker_words = False, event.words
            self._lost_words = event.words
            self._owed_since_s = None
            actions = self._on_time(now_s)
        elif isinstance(event, Back):
            actions = self._ask_soon(now_s)
        elif isinstance(event, Taken):
            self._on_taken(now_s)
            actions = ()
        else:
            self._is_waiting = event.waits
            if event.waits:
                self._ask_due_s = max(self._ask_due_s, now_s + self._patience.again_s)
            actions = self._on_time(now_s)
        self._ended = any(isinstance(action, End) for action in actions)
        return actions

    def _on_taken(self, now_s: float) -> None:
        self._broker_alive_s = now_s
        if self._owed_since_s is None:
            self._owed_since_s = now_s

    def _on_time(self, now_s: float) -> tuple[Action, ...]:
        if fault := self._overdue(now_s):
            return (End(fault=fault),)
        if self._is_joined and now_s >= self._ask_due_s:
            return self._ask(now_s)
        return ()

    def _overdue(self, now_s: float) -> Fault | None:
        patience = self._patience
        is_stalled = self._is_waiting or not self._is_joined
        if is_stalled and now_s - self._broker_alive_s > patience.answer_s:
            words = self._broker_words or "it takes nothing from us"
            return Fault(kind="broker", words=f"{words}, for {patience.answer_s:g} s")
        if self._owed_since_s is not None and now_s - self._owed_since_s > patience.answer_s:
            words = f"no answer within {patience.answer_s:g} s"
            last = f"; the last one was: {self._last_words}" if self._last_words else ""
            return Fault(kind="silent", words=words + last)
        if now_s - self._moved_s > patience.still_s:
            return Fault(kind="stuck", words=f"nothing has moved for {patience.still_s:g} s")
        return None

    def _ask(self, now_s: float) -> tuple[Action, ...]:
        self._is_asking = True
        self._asked_s = now_s
        self._ask_due_s = now_s + self._pause_s
        self._pause_s = min(self._pause_s * _BACKOFF, self._patience.again_max_s)
        return (Ask(command_id=self.command_id),)

    def _ask_soon(self, now_s: float) -> tuple[Action, ...]:
        if self._is_joined and now_s - self._asked_s >= _SOON_S:
            return self._ask(now_s)
        self._ask_due_s = min(self._ask_due_s, self._asked_s + _SOON_S)
        return ()

    def _on_heard(self, heard: Heard, now_s: float) -> tuple[Action, ...]:
        ack = heard.ack
        if ack.id != self.command_id:
            return self._overhear(ack, now_s)
        if ack.cmd not in (self._verb, CHUNK, SIGNED):
            return ()
        self._broker_alive_s = now_s
        if reason_of(ack.detail) == _DOUBLED and not ack.ok:
            self._last_words = ack.detail
            return ()
        self._owed_since_s = None
        if ack.cmd == CHUNK:
            return self._on_offset(ack, now_s)
        if ack.ok:
            return (End(ack=ack),)
        return self._on_refusal(heard, now_s)

    def _overhear(self, ack: AckMessage, now_s: float) -> tuple[Action, ...]:
        """Not to us, but of use: a station that knows of no transfer, or of no signed commands."""
        if ack.id or ack.ok or ack.cmd not in (CHUNK, SIGNED):
            return ()
        self._last_words = ack.detail
        return self._ask_soon(now_s) if ack.cmd == CHUNK and self._upload is not None else ()

    def _on_refusal(self, heard: Heard, now_s: float) -> tuple[Action, ...]:
        reason = reason_of(heard.ack.detail)
        self._last_words = heard.ack.detail
        if reason in _PASSING and self._still_patient(now_s):
            # By a new id, because the station may remember its answer to this one.
            self._attempt += 1
            self._ask_due_s = now_s + self._patience.again_s
            return ()
        if reason == _EXPIRED and abs(heard.clock_gap_s) < _CLOCKS_NEAR_S:
            self._expired += 1
            if self._expired <= _EXPIRED_TIMES:
                return self._ask(now_s)
        words, gap_s = heard.ack.detail, heard.clock_gap_s
        return (End(fault=Fault(kind="refused", words=words, clock_gap_s=gap_s)),)

    def _still_patient(self, now_s: float) -> bool:
        if self._busy_since_s is None:
            self._busy_since_s = now_s
        return now_s - self._busy_since_s < self._patience.busy_s

    def _on_offset(self, ack: AckMessage, now_s: float) -> tuple[Action, ...]:
        offset = int(ack.detail) if ack.detail.isdecimal() and len(ack.detail) < 16 else -1
        if not ack.ok or offset < 0 or self._upload is None:
            return self._ask_soon(now_s)
        self._busy_since_s = None
        self._pause_s = self._patience.again_s
        if self._window is None:
            return self._on_fetched(offset, now_s)
        if not self._window.holds(offset):
            return ()
        self.has_begun = True
        if self._is_asking:
            return self._set_off(self._window, offset, now_s)
        if offset > self._window.acknowledged:
            return self._go_on(self._window, offset, now_s)
        if offset < self._window.acknowledged or not self._window.out:
            return ()
        # Said twice: what follows was lost.
        if not self._window.go_back(now_s, self._patience.again_s):
            return ()
        return self._fill(self._window, anew=True)

    def _on_fetched(self, offset: int, now_s: float) -> tuple[Action, ...]:
        if offset > self.offset:
            self._moved_s = now_s
        self.offset, self.has_begun = offset, True
        self._is_asking = False
        self._ask_due_s = now_s + self._patience.again_max_s
        return ()

    def _set_off(self, window: Window, offset: int, now_s: float) -> tuple[Action, ...]:
        """The station has said where to go on."""
        fruitless = window.out and offset == window.acknowledged
        self._losses += offset < window.acknowledged
        self._fruitless = self._fruitless + 1 if fruitless else 0
        if self._fruitless >= self._patience.fruitless or self._losses > self._patience.losses:
            words = "the station keeps losing what it had"
            if fruitless:
                lost = f" ({self._lost_words})" if self._lost_words else ""
                words = f"the station stays at byte {offset}, whatever is sent{lost}"
            return (End(fault=Fault(kind="stuck", words=words)),)
        if offset != window.acknowledged:
            self._moved_s = now_s
        window.set(offset)
        self._is_asking = False
        return self._after_offset(window, now_s, anew=True)

    def _go_on(self, window: Window, offset: int, now_s: float) -> tuple[Action, ...]:
        self._fruitless, self._lost_words = 0, ""
        self._moved_s = now_s
        window.grow(offset)
        return self._after_offset(window, now_s, anew=False)

    def _after_offset(self, window: Window, now_s: float, *, anew: bool) -> tuple[Action, ...]:
        self.offset = window.acknowledged
        patience = self._patience
        # While the station proves the bundle there is nothing to hurry.
        self._ask_due_s = now_s + (patience.again_max_s if window.whole else patience.again_s)
        return self._fill(window, anew=anew)

    def _fill(self, window: Window, *, anew: bool) -> tuple[Action, ...]:
        stretches = tuple(window.fill())
        return tuple(
            Send(stretch=stretch, anew=anew and index == 0)
            for index, stretch in enumerate(stretches)
        )


def reason_of(detail: str) -> str:
    """The first word of a refusal, where a colon makes it one."""
    found = _REASON.match(detail)
    return found[1] if found else ""
