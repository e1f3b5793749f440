"""Ask a sensor and get its answer, over a line that loses, doubles, delays and garbles.

One request at a time by `Client.call`, or several by `Client.send` and `Client.take`. All of it
ends in bounded time, whatever the other side does.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from lineside_bridge.body import Body
from lineside_bridge.errors import (
    BridgeError,
    MalformedError,
    SensorGarbledError,
    SensorRefusedError,
    SensorSilentError,
)
from lineside_bridge.framing import Framing, encode_frame, new_decoder, resync_bytes
from lineside_bridge.header import Version
from lineside_bridge.link import Link, wire_s
from lineside_bridge.message import Failure, Message, Request, decode_message, find_failure
from lineside_bridge.refusal import refuse
from lineside_bridge.requests import name_request

# Longer than any pause inside a frame: USB adapters hand bytes over every 16 ms.
_QUIET_S: Final = 0.2
_TOO_NEW: Final = 13
_SEQUENCES: Final = 256
# Longer claims are noise; without a CRC they would swallow what comes behind them.
_LONGEST_RAW_BYTES: Final = 16_384
_LONGEST_BYTES: Final = 65_543


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait and how often to ask.

    Attributes:
        answer_s: from the request's last byte to the answer's, at the first attempt; it doubles.
        longest_s: at most so long in one attempt.
        attempts: requests sent before giving up.
    """

    answer_s: float = 1.0
    longest_s: float = 8.0
    attempts: int = 5

    def wait_s(self, attempt: int) -> float:
        """In attempt 0, 1 …"""
        return min(self.longest_s, self.answer_s * (1 << attempt))


PATIENT: Final = Patience()
ONCE: Final = Patience(attempts=1)


@dataclass(kw_only=True)
class Tally:
    """What the line did.

    Attributes:
        repeated: requests sent again.
        late: answers to what was not asked, or not any more.
        garbled: messages whose body could not be read.
        heard_bytes: all that came.
    """

    repeated: int = 0
    late: int = 0
    garbled: int = 0
    heard_bytes: int = 0


class Client:
    """Over an open link. Not for several threads.

    Args:
        buffer_bytes: the sensor's, where it is known: how long an answer may take on the wire.
        first_sequence: by chance, so that answers to a client before us are not taken for ours.
    """

    def __init__(
        self,
        link: Link,
        framing: Framing,
        *,
        buffer_bytes: int = 2048,
        first_sequence: int | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.link = link
        self.framing = framing
        self.version = Version.V2
        self.buffer_bytes = buffer_bytes
        self.tally = Tally()
        raw = framing is Framing.RAW
        self._decoder = new_decoder(framing, _LONGEST_RAW_BYTES if raw else _LONGEST_BYTES)
        self._held: list[Message] = []
        self._sequence = secrets.randbelow(_SEQUENCES) if first_sequence is None else first_sequence
        self._now_s = now_s

    @property
    def dropped(self) -> int:
        """Frames that could not be used; of `Framing.RAW` bytes."""
        return self._decoder.dropped

    def call(self, request: Request, patience: Patience = PATIENT) -> Body:
        """Ask until it is answered.

        Raises:
            SensorSilentError: nothing came at all; `SensorGarbledError`: nothing that is an answer.
            SensorRefusedError: it says no.
            PortError: the port went away.
        """
        # One sequence number for all attempts: a late answer to the first is an answer.
        sequence = self._next_sequence()
        began_s, heard_bytes = self._now_s(), self.tally.heard_bytes
        failure: Failure | None = None
        for attempt in range(patience.attempts):
            if attempt:
                self.resync()
            self._transmit(request, sequence)
            found = self._await(sequence, request, patience.wait_s(attempt))
            if found is None:
                continue
            said, failure = failure, find_failure(found.body)
            if failure is None:
                return found.body
            if failure.code == _TOO_NEW and failure.group is None and self.version is Version.V2:
                self.version = Version.V1
            # Nothing guards a raw request on its way: a no counts when it is said again.
            elif self.framing is not Framing.RAW or said == failure:
                break
        if failure is not None:
            raise self.refusal(request, failure)
        raise self.unanswered(
            request,
            waited_s=self._now_s() - began_s,
            attempts=patience.attempts,
            heard_bytes=self.tally.heard_bytes - heard_bytes,
        )

    def send(self, request: Request) -> int:
        """Ask and do not wait; the sequence number by which `take` knows the answer."""
        sequence = self._next_sequence()
        self._transmit(request, sequence)
        return sequence

    def take(self, sequences: Collection[int], until_s: float) -> Message | None:
        """The next answer to one of these; ``None``: none came until then (`now_s`)."""
        while True:
            while self._held:
                message = self._held.pop(0)
                if message.header.operation.is_reply and message.header.sequence in sequences:
                    return message
                self.tally.late += 1
            remaining_s = until_s - self._now_s()
            if remaining_s <= 0:
                return None
            self._listen(min(remaining_s, _QUIET_S))

    def resync(self) -> None:
        """Before a repeated request: the sensor shall not wait for the rest of a cut one."""
        self.tally.repeated += 1
        self.link.write(resync_bytes(self.framing))

    def refusal(self, request: Request, failure: Failure) -> SensorRefusedError:
        """The error of a no."""
        return refuse(f"{self.link.name}: {name_request(request)}", failure)

    def unanswered(
        self, request: Request, *, waited_s: float, attempts: int, heard_bytes: int
    ) -> BridgeError:
        """The error of no answer."""
        where = f"{self.link.name}: {name_request(request)}"
        how = f"{waited_s:.1f} s, {attempts} attempts, framing {self.framing.value}"
        if self.link.baud:
            how += f", {self.link.baud} baud"
        if heard_bytes:
            return SensorGarbledError(
                f"{where}: no answer among {heard_bytes} bytes that came in {how}: another rate or "
                "framing, a log that fills the line, a bad cable, or no SMP server there"
            )
        return SensorSilentError(
            f"{where}: no answer in {how}: is the sensor powered, is this its port, and does its "
            "firmware listen there?"
        )

    def _next_sequence(self) -> int:
        self._sequence = (self._sequence + 1) % _SEQUENCES
        return self._sequence

    def _transmit(self, request: Request, sequence: int) -> None:
        self.link.write(encode_frame(self.framing, request.message(sequence, self.version)))

    def _await(self, sequence: int, request: Request, wait_s: float) -> Message | None:
        size_bytes = request.size_bytes + self.buffer_bytes
        until_s = self._now_s() + wait_s + wire_s(size_bytes, self.link.baud)
        while (found := self.take((sequence,), until_s)) is not None:
            if found.header.answers == (request.group, request.command, sequence):
                return found
            self.tally.late += 1
        return None

    def _listen(self, wait_s: float) -> None:
        data = self.link.read(wait_s)
        self.tally.heard_bytes += len(data)
        for found in self._decoder.feed(data) if data else self._decoder.quiet():
            try:
                self._held.append(decode_message(found))
            except MalformedError:
                self.tally.garbled += 1
