"""What a station is told over MQTT, and what it answers: `cmd/…` and `ack`.

The station does whatever such a command says: who may give one is the broker's to decide, by its
access list on ``…/cmd/+``. Signed ones, which do not trust the broker, are `lineside.remote`'s.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from lineside.errors import InputDataError
from lineside.mqtt.payload import wire_plain
from lineside.mqtt.topics import COMMANDS

COMMAND_LIMIT_BYTES = 4096
ACK_LIMIT_BYTES = 256
ID_LIMIT_CHARS = 36
WORD_LIMIT_CHARS = 16
DETAIL_LIMIT_CHARS = 120
_TEXT_LIMIT_CHARS = 128
_NOTE_LIMIT_CHARS = 1024


class TriggerCommand(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="trigger",
):
    """``cmd/trigger``: a part stands before the camera.

    Attributes:
        id: of the command, by the sender, at most 36 printable ASCII characters; the answer has
            the same, a repeated one is dropped.
        part: the physical part, ``""`` where unknown.
        product: which bundle judges it; ``""``: the one that is in use.
    """

    id: str = ""
    part: str = ""
    product: str = ""


class ChangeoverCommand(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="changeover",
):
    """``cmd/changeover``: from now on parts are of another product."""

    id: str = ""
    product: str

    def __post_init__(self) -> None:
        if not self.product:
            raise ValueError("product is empty; name the one that follows")


class DispositionCommand(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="disposition",
):
    """``cmd/disposition``: a human has looked at a part.

    Attributes:
        verdict: the `id` of the verdict it is about; or ``part``, one of both.
        evaluation: 1 OK or 2 NOT_OK, what the human says.
        defect: which kind, in the trainer's words; ``""`` where there is none or it is unknown.
        by: who looked.
        note: in words, at most 1,024 characters.
    """

    id: str = ""
    verdict: str = ""
    part: str = ""
    evaluation: int
    defect: str = ""
    by: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if bool(self.verdict) == bool(self.part):
            raise ValueError("give verdict (its id) or part, one of both")
        if self.evaluation not in (1, 2):
            raise ValueError("evaluation is 1 (OK) or 2 (NOT_OK), as the human says")


class MendedCommand(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="mended",
):
    """``cmd/mended``: what made parts drift was mended; the alarms of drift are taken back.

    Attributes:
        product: whose; ``""``: of all.
        by: who mended it.
        note: in words, at most 1,024 characters.
    """

    id: str = ""
    product: str = ""
    by: str = ""
    note: str = ""


Command = TriggerCommand | ChangeoverCommand | DispositionCommand | MendedCommand
_KINDS: dict[str, type[TriggerCommand | ChangeoverCommand | DispositionCommand | MendedCommand]] = {
    "trigger": TriggerCommand,
    "changeover": ChangeoverCommand,
    "disposition": DispositionCommand,
    "mended": MendedCommand,
}


def _nothing() -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the station says to a command.

    Attributes:
        ok: it was or will be done.
        detail: why not, in words.
        then: called once the answer is on its way to the broker, or cannot be; in the publisher's
            thread; must be quick and not raise.
    """

    ok: bool
    detail: str = ""
    then: Callable[[], None] = field(default=_nothing)


CommandHandler = Callable[[Command], Answer | None]
"""Called in the publisher's thread; must be quick and not raise. ``None``: it is under way, and the
answer comes by `Publisher.answer`."""


class AckMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of ``ack``, in the wire's order.

    Attributes:
        v: version of this layout.
        id: of the command; ``""`` where it had none, or where the station speaks by itself.
        cmd: which one.
        ok: it was or will be done.
        detail: why not, in words, at most 120 printable ASCII characters.
        t: when this was written, milliseconds since 1970 UTC.
    """

    v: int = 1
    id: str = ""
    cmd: str
    ok: bool
    detail: str = ""
    t: int


def decode_command(name: str, payload: bytes) -> Command:
    """Read the payload of ``cmd/<name>``.

    Raises:
        InputDataError: no such command, too long, not JSON, a key unknown, missing or impossible,
            a control character.
    """
    if name not in _KINDS:
        raise InputDataError(f"unknown command {name[:32]}; there are {', '.join(COMMANDS)}")
    if len(payload) > COMMAND_LIMIT_BYTES:
        raise InputDataError(f"{len(payload)} bytes; at most {COMMAND_LIMIT_BYTES} are read")
    try:
        command = msgspec.json.decode(payload, type=_KINDS[name])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputDataError(_words_of(error, _KINDS[name], payload)) from error
    _check_texts(command)
    return command


def find_id(payload: bytes) -> str:
    """The id of a command that is wrong otherwise, so that its sender knows which; or ``""``.

    That of a signed command stands in its body; nothing says that it is the sender's.
    """
    if len(payload) > COMMAND_LIMIT_BYTES:
        return ""
    try:
        found = msgspec.json.decode(payload, type=_OnlyId)
        if found.body and not found.id:
            found = msgspec.json.decode(found.body, type=_OnlyId)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""
    return found.id if not _fault_of_id(found.id) else ""


def encode_ack(*, cmd: str, command_id: str, ok: bool, detail: str) -> bytes:
    """At most 256 bytes, whatever the words."""
    message = AckMessage(
        id=_fit(command_id, ID_LIMIT_CHARS),
        cmd=_fit(cmd, WORD_LIMIT_CHARS),
        ok=ok,
        detail=_fit(detail, DETAIL_LIMIT_CHARS),
        t=time.time_ns() // 1_000_000,
    )
    return msgspec.json.encode(message)


def decode_ack(data: bytes, *, source: str) -> AckMessage:
    """Read a payload of an ack topic.

    Raises:
        InputDataError: not JSON, a key missing, a value of the wrong kind.
    """
    try:
        return msgspec.json.decode(data, type=AckMessage)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputDataError(f"{source}: no answer of Lineside: {error}") from error


def _words_of(error: Exception, kind: type[msgspec.Struct], payload: bytes) -> str:
    """What is wrong with a command, its key first, for whoever reads the answer."""
    if not payload:
        return "the message is empty; a command is a JSON object, {} at least"
    words = str(error)
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", words):
        return f"unknown key {unknown[1][:32]}; there are {', '.join(kind.__struct_fields__)}"
    if missing := re.fullmatch(r"Object missing required field `(.*)`", words):
        return f"{missing[1]} is missing"
    if misfit := re.fullmatch(r"(.*) - at `\$\.(\w+)`", words):
        words = f"{misfit[2]}: {misfit[1]}"
    return words.replace("`", "'")


class _OnlyId(msgspec.Struct):
    id: str = ""
    body: str = ""


def _check_texts(command: Command) -> None:
    if fault := _fault_of_id(command.id):
        raise InputDataError(f"id: {fault}")
    for name in command.__struct_fields__:
        value = getattr(command, name)
        if not isinstance(value, str):
            continue
        limit = _NOTE_LIMIT_CHARS if name == "note" else _TEXT_LIMIT_CHARS
        if len(value) > limit:
            raise InputDataError(f"{name}: {len(value)} characters; at most {limit}")
        if not value.isprintable():
            raise InputDataError(f"{name}: holds control characters")


def _fault_of_id(command_id: str) -> str:
    if len(command_id) > ID_LIMIT_CHARS:
        return f"{len(command_id)} characters; at most {ID_LIMIT_CHARS}"
    if command_id != wire_plain(command_id):
        return "only printable ASCII without quotes and backslash; no control characters"
    return ""


def _fit(text: str, limit_chars: int) -> str:
    plain = wire_plain(text.replace('"', "'"))
    return plain if len(plain) <= limit_chars else f"{plain[: limit_chars - 1]}~"
