"""From bytes of the line to bytes of the line. No port, no clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from lineside.errors import LinesideError
from lineside_bridge.custom import GROUP, Code
from lineside_bridge.errors import MalformedError
from lineside_bridge.framing import DetectingDecoder, Framing, encode_frame, message_room_bytes
from lineside_bridge.header import Header, Version
from lineside_bridge.message import Failure, decode_message, encode_answer, encode_refusal
from lineside_bridge.requests import IMAGE_GROUP, OS_GROUP, Parameters
from lineside_bridge.sensor.denial import (
    ENOTSUP,
    DeniedError,
    UnknownRequestError,
    deny,
)
from lineside_bridge.sensor.groups import CustomGroup, Group, ImageGroup, OsGroup
from lineside_bridge.sensor.line import Line
from lineside_bridge.sensor.sensor import Sensor

BUFFER_BYTES: Final = 2048
BUFFER_COUNT: Final = 4
FRAMINGS: Final = (Framing.RAW, Framing.COBS, Framing.CONSOLE)
# A client that is not understood for so long may be speaking another framing.
_RELEASE_AFTER_QUIETS: Final = 10
_CONSOLE_BEGINS: Final = b"\x06\x09"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer on its way.

    Attributes:
        frame: its bytes on the line.
        then: to be called once they have left.
    """

    frame: bytes
    then: Callable[[], None]


class Server:
    """Answers whatever comes, in the framing it comes in. For one thread.

    Args:
        groups: by number.
        framings: those that are understood.
        buffer_bytes: as parameters tell.
        line: may say that one of them alone counts.
        told: hears what was refused, in words.
    """

    def __init__(
        self,
        groups: Mapping[int, Group],
        *,
        framings: tuple[Framing, ...] = FRAMINGS,
        buffer_bytes: int = BUFFER_BYTES,
        line: Line | None = None,
        told: Callable[[str], None] = lambda _words: None,
    ) -> None:
        self._groups = dict(groups)
        self._framings = framings
        self._buffer_bytes = buffer_bytes
        self._line = line or Line()
        self._followed: Framing | None = None
        # No framing's room is larger than the buffer.
        self._decoder = DetectingDecoder(framings, buffer_bytes)
        self._told = told
        self._quiets = 0
        # What came since the last message or silence: maybe another client, in another framing.
        self._burst = bytearray()

    def feed(self, data: bytes) -> list[Reply]:
        """What is to be answered to these bytes."""
        self._follow_line()
        messages = self._decoder.feed(data)
        if messages:
            self._burst.clear()
        elif len(self._burst) <= 2 * self._buffer_bytes:
            self._burst += data
        return self._answer_all(messages)

    def quiet(self) -> list[Reply]:
        """Nothing has come for longer than a pause inside a frame may last."""
        self._follow_line()
        messages = self._decoder.quiet()
        if not messages and (self._decoder.framing or self._followed) is not None:
            messages = self._switch(bytes(self._burst))
        self._burst.clear()
        # Answered before the framing is let go: whoever comes after a second's silence may be
        # understood only now, and is answered in the framing that it came in.
        replies = self._answer_all(messages)
        if not replies:
            self._quiets += 1
        if self._quiets >= _RELEASE_AFTER_QUIETS and self._decoder.framing is not None:
            self._decoder.release()
        return replies

    def _follow_line(self) -> None:
        if self._line.framing is self._followed:
            return
        self._followed = self._line.framing
        framings = self._framings if self._followed is None else (self._followed,)
        self._decoder = DetectingDecoder(framings, self._buffer_bytes)
        self._burst.clear()

    def _switch(self, burst: bytes) -> list[bytes]:
        """Between two silences there was nothing but whole frames of another framing: another
        client. Frames inside something else are not obeyed; see `DetectingDecoder`.
        """
        for framing in self._framings:
            if framing is self._decoder.framing or not _begins(burst, framing):
                continue
            decoder = DetectingDecoder((framing,), self._buffer_bytes)
            messages = decoder.feed(burst)
            if messages and not decoder.dropped and burst[-1:] in _ENDS[framing]:
                self._line.release()
                self._followed = None
                self._decoder = DetectingDecoder(self._framings, self._buffer_bytes)
                return self._decoder.feed(burst)
        return []

    def _answer_all(self, messages: list[bytes]) -> list[Reply]:
        replies = [reply for message in messages if (reply := self._answer(message)) is not None]
        if replies:
            self._quiets = 0
        return replies

    def _answer(self, data: bytes) -> Reply | None:
        try:
            message = decode_message(data)
        except MalformedError:
            return None  # noise: whoever asked will ask again
        asked = message.header
        if asked.operation.is_reply:
            return None  # our own words, by a line that echoes
        then: Callable[[], None] = _nothing
        try:
            outcome = self._group(asked).answer(asked.operation, asked.command, message.body)
            answer, then = encode_answer(asked, outcome.body), outcome.then
        except UnknownRequestError:
            answer = encode_refusal(asked, Failure(group=None, code=ENOTSUP))
        except (DeniedError, MalformedError, LinesideError) as error:
            answer = self._refuse(asked, error)
        framing = self._decoder.framing
        assert framing is not None, "a message came in some framing"
        return Reply(frame=encode_frame(framing, answer), then=then)

    def _group(self, asked: Header) -> Group:
        group = self._groups.get(asked.group)
        if group is None:
            raise UnknownRequestError
        return group

    def _refuse(self, asked: Header, error: Exception) -> bytes:
        if isinstance(error, MalformedError):
            denied = DeniedError(Code.INVALID, str(error))
        elif isinstance(error, LinesideError):
            denied = deny(error)
        else:
            assert isinstance(error, DeniedError)
            denied = error
        self._told(denied.words)
        return encode_refusal(asked, denied.failure(numbered=asked.version is Version.V2))


def make_server(
    sensor: Sensor,
    *,
    framings: tuple[Framing, ...] = FRAMINGS,
    buffer_bytes: int = BUFFER_BYTES,
    buffer_count: int = BUFFER_COUNT,
    line: Line | None = None,
) -> Server:
    """A server with all groups over a sensor.

    Args:
        sensor: what it speaks for.
        framings: those that are understood, best first.
        buffer_bytes: of one frame's message.
        buffer_count: messages that a client may have under way, one of them the answer.
        line: what a client may change of it; ``None``: it has no rate.
    """
    line = line or Line()
    room_bytes = min(message_room_bytes(framing, buffer_bytes) for framing in framings)
    custom = CustomGroup(sensor, message_bytes=room_bytes, framings=framings, line=line)
    groups: dict[int, Group] = {
        OS_GROUP: OsGroup(sensor, Parameters(buf_size=buffer_bytes, buf_count=buffer_count)),
        IMAGE_GROUP: ImageGroup(sensor),
        GROUP: custom,
    }
    return Server(
        groups, framings=framings, buffer_bytes=buffer_bytes, line=line, told=sensor.log.write
    )


def _begins(burst: bytes, framing: Framing) -> bool:
    if framing is Framing.CONSOLE:
        return burst.lstrip(b"\r\n").startswith(_CONSOLE_BEGINS)
    return bool(burst)


_ENDS: Final = {
    Framing.CONSOLE: (b"\n",),
    Framing.COBS: (b"\x00",),
    Framing.RAW: tuple(bytes([byte]) for byte in range(256)),
}


def _nothing() -> None:
    return None
