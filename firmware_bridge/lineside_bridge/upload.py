"""Bring a file into a sensor, whatever the line does; in the end it has all of it, or says no."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lineside_bridge import custom
from lineside_bridge.chunks import Chunk, Source
from lineside_bridge.client import Client
from lineside_bridge.custom import Code
from lineside_bridge.errors import BridgeError, MalformedError, SensorGarbledError
from lineside_bridge.flight import SETBACKS_LIMIT, Flight, Sent
from lineside_bridge.framing import Framing, encode_frame
from lineside_bridge.message import Failure, Message, find_failure
from lineside_bridge.probe import Peer
from lineside_bridge.refusal import tell_failure
from lineside_bridge.requests import Uploaded

_CHECKSUM: Final = (custom.GROUP, int(Code.CHECKSUM))
# Soon over: no memory, busy.
_PASSING: Final = ((None, 2), (None, 10))
_BUSY_S: Final = 0.1
_LONGEST_BUSY_S: Final = 2.0
# Nothing guards a raw request on its way: a no counts when it was said so often in a row.
_RAW_REFUSALS: Final = 3


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Of an upload under way.

    Attributes:
        done_bytes: that the sensor has, of ``size_bytes``.
        sent_bytes: of the file, that went over the wire and arrived.
        left_bytes: that still have to.
        elapsed_s: since the first request.
    """

    done_bytes: int
    size_bytes: int
    sent_bytes: int
    left_bytes: int
    elapsed_s: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of an upload.

    Attributes:
        size_bytes: of the file.
        sent_bytes: of it, that went over the wire and arrived.
        resumed_bytes: that the sensor had already from an upload before.
        lost: requests without use: lost, garbled, or refused for the line's fault.
        setbacks: how often the sensor had less than before.
        took_s: in all.
        matches: what the sensor said of the SHA-256; ``None``: nothing.
    """

    size_bytes: int
    sent_bytes: int
    resumed_bytes: int
    lost: int
    setbacks: int
    took_s: float
    matches: bool | None


class Upload:
    """One file into one sensor.

    Args:
        is_there: asked when the sensor says that it has nothing, all of a sudden: servers forget
            an upload with its last byte, and the answer to that may have been lost.
    """

    def __init__(
        self,
        client: Client,
        peer: Peer,
        source: Source,
        *,
        on_progress: Callable[[Progress], None] = lambda _: None,
        is_there: Callable[[], bool] = lambda: False,
    ) -> None:
        self._client = client
        self._source = source
        self._on_progress = on_progress
        self._is_there = is_there
        # Unguarded bytes go one message at a time: a cut one would be filled from the next.
        alone = peer.framing is Framing.RAW and not source.guarded
        self._began_s = time.monotonic()
        self._flight = Flight(
            size_bytes=source.size_bytes,
            room_bytes=peer.room_bytes,
            window=1 if alone else peer.window,
            baud=client.link.baud,
            now_s=self._began_s,
        )
        self._chunks: dict[int, tuple[Chunk, int]] = {}
        self._heard_bytes = client.tally.heard_bytes
        self._sent_bytes = 0
        self._resumed_bytes = 0
        self._refusals = 0
        self._matches: bool | None = None
        # The last answer that was of no use: what the sensor said in it.
        self._useless = ""

    def run(self) -> Outcome:
        """Send it; what the sensor has of it already is not sent again.

        Raises:
            SensorRefusedError: it says no.
            SensorSilentError, SensorGarbledError: no answer for long, or hardly any.
            PortError: the port went away.
        """
        while not self._flight.done:
            self._send()
            message = self._client.take(self._flight.sequences, self._flight.until_s)
            if message is None:
                self._useless = ""
                self._flight.lose()
                self._client.resync()
            elif self._hear(message):
                break
            if self._flight.tired(time.monotonic()):
                raise self._give_up()
            self._tell()
        return Outcome(
            size_bytes=self._source.size_bytes,
            sent_bytes=self._sent_bytes,
            resumed_bytes=self._resumed_bytes,
            lost=self._flight.losses,
            setbacks=self._flight.setbacks,
            took_s=time.monotonic() - self._began_s,
            matches=self._matches,
        )

    def _send(self) -> None:
        flight = self._flight
        if not flight.sequences:
            self._chunks.clear()
        while flight.wants:
            off = flight.next_off
            chunk = self._source.chunk(off, flight.room_bytes)
            sequence = self._client.send(chunk.request)
            self._chunks[sequence] = chunk, off
            sent = Sent(
                off=off,
                size_bytes=chunk.size_bytes,
                wire_bytes=len(encode_frame(self._client.framing, chunk.request.message(0))),
                at_s=time.monotonic(),
                extra_s=chunk.extra_s,
            )
            flight.send(sequence, sent)

    def _hear(self, message: Message) -> bool:
        """Whether the file turned out to be there already."""
        sequence = message.header.sequence
        chunk, off = self._chunks[sequence]
        request = chunk.request
        if message.header.answers != (request.group, request.command, sequence):
            self._flight.lose()
            return False
        failure = find_failure(message.body)
        if failure is not None:
            self._refuse(chunk, off, failure)
            return False
        self._refusals = 0
        try:
            answer = custom.decode(message.body, Uploaded)
        except MalformedError:
            answer = None
        if answer is None or answer.off > self._source.size_bytes:
            self._useless = "no offset" if answer is None else f"an offset of {answer.off:,}"
            self._flight.lose()
            return False
        self._book(chunk, off, answer, sequence)
        return off > 0 and answer.off == 0 and self._is_there()

    def _book(self, chunk: Chunk, off: int, answer: Uploaded, sequence: int) -> None:
        self._useless = "" if answer.off > off else f"that it has {answer.off:,}"
        if off < answer.off <= off + chunk.size_bytes:
            self._sent_bytes += min(chunk.sent_bytes, answer.off - off)
        elif not off and not self._flight.arrived:
            self._resumed_bytes = answer.off
        if answer.match is not None:
            self._matches = answer.match
        self._flight.answer(sequence, answer.off, time.monotonic())

    def _refuse(self, chunk: Chunk, off: int, failure: Failure) -> None:
        said = failure.group, failure.code
        self._refusals += 1
        if said == _CHECKSUM:
            self._source.refuse(off)
        elif said in _PASSING:
            self._useless = f"no: {tell_failure(failure)}"
            # A slot takes seconds to erase: all of a first request's patience is about a minute.
            time.sleep(min(_LONGEST_BUSY_S, _BUSY_S * self._refusals))
        elif self._client.framing is not Framing.RAW or self._refusals >= _RAW_REFUSALS:
            raise self._client.refusal(chunk.request, failure)
        self._flight.lose()

    def _give_up(self) -> BridgeError:
        where, size = f"{self._client.link.name}: upload", f"{self._source.size_bytes:,} bytes"
        if self._flight.setbacks > SETBACKS_LIMIT:
            return SensorGarbledError(
                f"{where}: of {size} the sensor had less than before for {self._flight.setbacks} "
                f"times, at last {self._flight.acked:,}: it loses power in between, or somebody "
                "else uploads to it; repeat it"
            )
        if self._useless:
            return SensorGarbledError(
                f"{where}: of {size} the sensor says {self._useless}, and comes no further: a "
                "fault of its firmware, or a line that damages what is sent: --framing, --baud"
            )
        request = self._source.chunk(self._flight.acked, self._flight.room_bytes).request
        return self._client.unanswered(
            request,
            waited_s=time.monotonic() - self._began_s,
            attempts=self._flight.losses,
            heard_bytes=self._client.tally.heard_bytes - self._heard_bytes,
        )

    def _tell(self) -> None:
        acked = self._flight.acked
        self._on_progress(
            Progress(
                done_bytes=acked,
                size_bytes=self._source.size_bytes,
                sent_bytes=self._sent_bytes,
                left_bytes=self._source.left_bytes(acked),
                elapsed_s=time.monotonic() - self._began_s,
            )
        )
