"""SMP messages of both sides: a request, its answer, and how an answer says no."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from lineside_bridge.body import Body, decode_body, encode_body
from lineside_bridge.errors import MalformedError
from lineside_bridge.header import (
    HEADER_BYTES,
    Header,
    Operation,
    Version,
    pack_header,
    unpack_header,
)

_ERROR_KEY: Final = "err"
_CODE_KEY: Final = "rc"
_REASON_KEY: Final = "rsn"
_REASON_LETTERS: Final = 200


class SmpMessage(Protocol):
    """What every request class of the `smp` library is."""

    header: Any

    def __bytes__(self) -> bytes: ...


@dataclass(frozen=True, kw_only=True)
class Message:
    """As it came.

    Attributes:
        body: decoded; keys that nobody knows are in it too.
    """

    header: Header
    body: Body


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be asked, without the sequence number that it gets when it is sent.

    Attributes:
        payload: the body's CBOR.
    """

    operation: Operation
    group: int
    command: int
    payload: bytes

    @classmethod
    def of(cls, message: SmpMessage) -> Request:
        """A request of the `smp` library."""
        found = unpack_header(bytes(message))
        return cls(
            operation=found.operation,
            group=found.group,
            command=found.command,
            payload=bytes(message)[HEADER_BYTES:],
        )

    @classmethod
    def make(
        cls, operation: Operation, group: int, command: int, body: Mapping[str, object]
    ) -> Request:
        """A request that the library does not know."""
        return cls(operation=operation, group=group, command=command, payload=encode_body(body))

    @property
    def size_bytes(self) -> int:
        """Of the message."""
        return HEADER_BYTES + len(self.payload)

    def message(self, sequence: int, version: Version = Version.V2) -> bytes:
        """Its bytes."""
        header = Header(
            operation=self.operation,
            version=version,
            length=len(self.payload),
            group=self.group,
            sequence=sequence,
            command=self.command,
        )
        return pack_header(header) + self.payload


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An answer that says no.

    Attributes:
        group: whose numbers `code` is of; ``None``: those of the protocol itself (`MGMT_ERR`).
        code: never 0.
        words: the server's own; few say any.
    """

    group: int | None
    code: int
    words: str = ""


def decode_message(data: bytes) -> Message:
    """What a decoder handed out.

    Raises:
        MalformedError: no header, another length than it says, or a body that is no map.
    """
    header = unpack_header(data)
    if HEADER_BYTES + header.length != len(data):
        raise MalformedError(
            f"a message of {len(data)} bytes whose header says {HEADER_BYTES + header.length}"
        )
    return Message(header=header, body=decode_body(data[HEADER_BYTES:]))


def encode_answer(asked: Header, body: Mapping[str, object]) -> bytes:
    """A server's yes: the request's header with the answer's operation, and a map."""
    payload = encode_body(body)
    return (
        pack_header(replace(asked, operation=asked.operation.reply, length=len(payload))) + payload
    )


def encode_refusal(asked: Header, failure: Failure) -> bytes:
    """A server's no, as the request's version has it.

    The words go with ``rc`` only: stock clients refuse unknown keys beside ``err``.
    """
    if asked.version is Version.V1 or failure.group is None:
        words = {_REASON_KEY: failure.words} if failure.words else {}
        return encode_answer(asked, {_CODE_KEY: failure.code, **words})
    return encode_answer(asked, {_ERROR_KEY: {"group": failure.group, _CODE_KEY: failure.code}})


def find_failure(body: Body) -> Failure | None:
    """Whether an answer says no, in either form; ``rc`` 0 is a yes of old servers."""
    error = body.get(_ERROR_KEY)
    if isinstance(error, dict):
        group, code = error.get("group"), error.get(_CODE_KEY)
        if _is_number(code) and code:
            return Failure(
                group=group if _is_number(group) else None, code=code, words=_words(body)
            )
    code = body.get(_CODE_KEY)
    if _is_number(code) and code:
        return Failure(group=None, code=code, words=_words(body))
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _words(body: Body) -> str:
    words = body.get(_REASON_KEY, "")
    return words[:_REASON_LETTERS] if isinstance(words, str) else ""
