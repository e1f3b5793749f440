"""A command that was given, and what became of it; for whoever waits."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lineside.errors import BrokerError, CommandRefusedError, LinesideError
from lineside.mqtt.commands import AckMessage
from lineside.mqtt.state import StateMessage, StateWord
from lineside.mqtt.topics import StationTopics
from lineside.remote.bundlefile import BundleFile
from lineside.remote.conversation import Conversation, reason_of
from lineside.remote.events import Ask, Fault, Upload
from lineside.remote.verbs import Scalar
from lineside.remote.window import Stretch

OnProgress = Callable[[int, int], None]
"""Called with the bytes that the station has, and the bytes of the whole file; 0: not known."""


def say_nothing(_done_bytes: int, _size_bytes: int) -> None:
    """No progress is told."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a station is to do.

    Attributes:
        args: as the verb asks.
        upload: of an installation.
        file: what is sent; ``None``: nothing is.
        on_progress: called in the caller's thread; must be quick and not raise.
    """

    station: StationTopics
    verb: str
    args: Mapping[str, Scalar]
    upload: Upload | None = None
    file: BundleFile | None = None
    on_progress: OnProgress = say_nothing


class Call:
    """Set in motion by a `Caller`; `result` from any thread.

    Attributes:
        order: what was asked.
        offset: bytes that the station has.
        fault: why it failed, where it is the conversation's end.
        is_given_up: nothing more of it is to be sent.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self.offset = 0
        self.fault: Fault | None = None
        self.is_given_up = False
        self._ended = threading.Event()
        self._ack: AckMessage | None = None
        self._error: LinesideError | None = None

    @property
    def done(self) -> bool:
        """Whether it is over."""
        return self._ended.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until it is over; ``False`` when the time is over before."""
        return self._ended.wait(timeout_s)

    def result(self) -> AckMessage:
        """The station's answer; waits for it.

        Raises:
            CommandRefusedError: it said no.
            BrokerError: no answer in time, or no broker.
            InputDataError, SigningError: the file cannot be read, or the key cannot sign.
        """
        self._ended.wait()
        if self._error is not None:
            raise self._error
        assert self._ack is not None
        return self._ack

    def give_up(self) -> None:
        """Nobody waits for it any more: soon it ends as a `BrokerError`. From any thread."""
        self.is_given_up = True

    def succeed(self, ack: AckMessage) -> None:
        """The station has done it."""
        self._ack = ack
        self._ended.set()

    def fail(self, error: LinesideError, fault: Fault | None = None) -> None:
        """It will not be done, or nobody knows."""
        self._error, self.fault = error, fault
        self._ended.set()


@dataclass(kw_only=True)
class Talk:
    """A call with its conversation, and what is to be published of it; for the caller's thread.

    Attributes:
        queue: not published yet.
        on_the_way: messages that the broker has not taken yet.
        shown: bytes that were told last; -1: nothing was.
    """

    call: Call
    conversation: Conversation
    queue: deque[Ask | Stretch] = field(default_factory=deque)
    on_the_way: int = 0
    shown: int = -1

    @property
    def waits(self) -> bool:
        """Whether the broker has not yet taken all."""
        return bool(self.queue) or self.on_the_way > 0

    def show(self) -> None:
        """Tell how far it is, where that has changed."""
        offset, order = self.conversation.offset, self.call.order
        if self.conversation.has_begun and offset != self.shown:
            self.call.offset = self.shown = offset
            order.on_progress(offset, order.upload.size_bytes if order.upload else 0)


def error_of(
    fault: Fault, order: Order, *, broker: str, state: StateMessage | None
) -> LinesideError:
    """What is raised where the call's result is asked for.

    Args:
        fault: how the conversation ended.
        order: what it was about.
        broker: its URL.
        state: the last state heard of the station.
    """
    what = f"{order.station}: {order.verb}"
    if fault.kind == "refused":
        reason = reason_of(fault.words) or "refused"
        words = f"{what}: refused: {fault.words or 'without a reason'}{_clock_words(fault, reason)}"
        return CommandRefusedError(words, reason=reason)
    if fault.kind == "broker":
        return BrokerError(f"{broker}: {what}: {fault.words}")
    if fault.kind == "silent":
        return BrokerError(f"{what}: {fault.words}: {_whereabouts(state)}")
    return BrokerError(f"{what}: {fault.words}{_size_words(order)}")


def _clock_words(fault: Fault, reason: str) -> str:
    if reason not in ("expired", "early"):
        return ""
    side = "ahead of" if fault.clock_gap_s > 0 else "behind"
    return f"; the station's clock is {abs(fault.clock_gap_s):.0f} s {side} ours: set both, by NTP"


def _whereabouts(state: StateMessage | None) -> str:
    if state is None:
        return (
            "the broker knows of no such station: is its name right, and may this user read its "
            "topics state and ack?"
        )
    if state.state is StateWord.OFFLINE:
        return f"the station is offline ({state.reason or 'stopped'}); it is told again once back"
    return "the station is online: does it take signed commands, and may this user write them?"


def _size_words(order: Order) -> str:
    if order.upload is None or order.upload.fetched:
        return ""
    kib = order.upload.chunk_bytes // 1024
    return (
        f": does the broker pass on messages of {kib} KiB (mosquitto: max_packet_size, "
        "message_size_limit)? Else send smaller ones, --chunk-kib 4"
    )
