"""Group 76: what a sensor tells and does beyond the published groups. docs/smp.md describes it.

Both sides use these structures: `encode` makes a body of one, `decode` reads one and passes over
keys that it does not know. A reply that would not fit the sensor's buffer is split by the request:
one slot, a stretch of page hashes, a stretch of the log.
"""

from __future__ import annotations

import zlib
from enum import IntEnum
from typing import Annotated, Any, Final, TypeVar

import msgspec

from lineside_bridge.body import Body
from lineside_bridge.errors import MalformedError
from lineside_bridge.header import Operation
from lineside_bridge.message import Request

GROUP: Final = 76
PAGE_BYTES: Final = 4096
PAGE_HASH_BYTES: Final = 16

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Small = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
SlotNumber = Annotated[int, msgspec.Meta(ge=0, le=1)]
Sha256 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
StructKind = TypeVar("StructKind", bound=msgspec.Struct)


class Command(IntEnum):
    """The group's commands."""

    DEVICE = 0
    SLOT = 1
    DIGEST = 2
    PAGES = 3
    WRITE = 4
    COPY = 5
    SELF_TEST = 6
    HEALTH = 7
    LINK = 8
    LOG = 9
    REVERT = 10


class Code(IntEnum):
    """The group's error numbers: why a sensor says no. An upload may be refused by them too."""

    UNKNOWN = 1
    INVALID = 2
    NO_SLOT = 3
    FULL = 4
    STORAGE = 5
    CHECKSUM = 6
    STATE = 7
    DAMAGED = 8
    SIGNATURE = 9
    STRANGER = 10
    REVOKED = 11
    TARGET = 12
    RUNTIME = 13
    DOWNGRADE = 14
    ENGINE = 15
    SELF_TEST = 16
    BAUD = 17


CODE_WORDS: Final[dict[Code, str]] = {
    Code.UNKNOWN: "a fault of its own; look into its log",
    Code.INVALID: "a field of the request is missing or impossible",
    Code.NO_SLOT: "nothing lies in that slot",
    Code.FULL: "larger than its slot, or its flash is full",
    Code.STORAGE: "its flash or disk failed",
    Code.CHECKSUM: "the bytes came damaged, or are not those that were named",
    Code.STATE: "not in this state: nothing on trial, a trial or a pending bundle under way, or "
    "its self-test still runs",
    Code.DAMAGED: "not a bundle, or damaged",
    Code.SIGNATURE: "the seal does not hold",
    Code.STRANGER: "sealed by a key that it does not trust",
    Code.REVOKED: "sealed by a key that was revoked there",
    Code.TARGET: "made for other hardware",
    Code.RUNTIME: "needs a newer runtime",
    Code.DOWNGRADE: "its security counter is below what was confirmed there",
    Code.ENGINE: "no engine there can run it",
    Code.SELF_TEST: "the golden samples do not come out as sealed",
    Code.BAUD: "the port cannot be run at that rate",
}


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to DEVICE (read, empty request): who it is and what it takes.

    Attributes:
        serial: the maker's serial number.
        hardware: what a bundle's ``target`` must be, where that is not ``any``: words with spaces
            between them.
        engine: who judges there, ``onnxruntime`` or ``openvino``; ``""``: a bundle's parts for
            all engines are wanted.
        runtime: of `lineside`, or of the firmware that stands for it.
        capacity: of one slot, bytes.
        keys: ids of the keys whose seal counts there, 16 bytes each; none: it does not say.
        counters: lowest security counter that still counts, by key id in hex.
        starts: of its program since the bundle is on trial.
        reverted: reason of the last revert, ``""`` where there was none.
        reverted_hash: of the bundle that was left, 32 bytes, or none.
    """

    serial: str
    hardware: str
    engine: str = ""
    runtime: str = ""
    capacity: Count
    keys: tuple[bytes, ...] = ()
    counters: dict[str, Small] = {}
    starts: Count = 0
    reverted: str = ""
    reverted_hash: bytes = b""


class SlotQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Request of SLOT and of DIGEST (read): 0 is slot a, 1 is slot b."""

    slot: SlotNumber


class SlotReport(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to SLOT.

    Attributes:
        state: in the words of `lineside.slots.SlotState`.
        hash: the bundle's, 32 bytes; none of an empty slot, as all below.
        size: of the file, bytes.
        key: id of the key that sealed it, 16 bytes.
        counter: security counter.
        incoming: bytes of an unfinished upload that are surely there.
        incoming_size: of the whole that is being uploaded; 0: nothing is.
    """

    slot: SlotNumber
    state: str
    hash: bytes = b""
    size: Count = 0
    product: str = ""
    version: str = ""
    key: bytes = b""
    counter: Small = 0
    incoming: Count = 0
    incoming_size: Count = 0


class Digest(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to DIGEST: read anew from the flash, over the whole file as it was sent."""

    size: Count
    sha256: Sha256


class PageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Request of PAGES (read): hashes of up to ``count`` pages from ``first`` on."""

    slot: SlotNumber
    first: Count
    count: Count


class PageHashes(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to PAGES: as many as fit the buffer.

    Attributes:
        total: pages of the file in that slot; the last may be short.
        hashes: the first 16 bytes of each page's SHA-256, one after the other.
    """

    first: Count
    total: Count
    hashes: bytes


class PageWrite(msgspec.Struct, frozen=True, kw_only=True):
    """Request of WRITE (write): the next bytes of the upload that image upload has begun.

    Attributes:
        off: of the first byte.
        crc: `checksum` of both.
    """

    off: Count
    data: bytes
    crc: Small


class PageCopy(msgspec.Struct, frozen=True, kw_only=True, rename={"source": "from"}):
    """Request of COPY (write): the next bytes of the upload lie in a slot already.

    Attributes:
        slot: where they lie; never the one that is being written.
        source: from which byte on; ``from`` on the wire.
        len: how many.
        crc: `checksum` of ``off`` and these bytes; another is refused by `Code.CHECKSUM`.
    """

    off: Count
    slot: SlotNumber
    source: Count
    len: Count
    crc: Small


class Offset(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to WRITE and COPY, as to image upload: where to go on. Only the server's counts."""

    off: Count


class SelfTestReport(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to SELF_TEST: write with `SlotQuery` begins one, read (empty) asks how it goes.

    Attributes:
        state: ``none``, ``running``, ``passed`` or ``failed``.
        hash: of the bundle it is about, 32 bytes, or none.
        words: what failed.
    """

    state: str
    hash: bytes = b""
    words: str = ""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to HEALTH (read, empty request).

    Attributes:
        ok: nothing is wrong.
        words: what is.
        uptime_s: since its program started.
        wear: most erases of one page; ``None``: unknown.
        temperature_c: of the sensor; ``None``: unknown.
    """

    ok: bool
    words: str = ""
    uptime_s: float = 0.0
    wear: Count | None = None
    temperature_c: float | None = None


class LinkOffer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to LINK (read, empty request).

    Attributes:
        framings: words of `Framing` that it understands.
        bauds: rates that its port may do; none: the line has no rate (USB, pseudo-terminal).
        baud: the rate of now; 0: none.
    """

    framings: tuple[str, ...]
    bauds: tuple[Small, ...] = ()
    baud: Small = 0


class LinkChange(msgspec.Struct, frozen=True, kw_only=True):
    """Request of LINK (write). It is answered as before (`Done`), and counts from then on.

    Attributes:
        baud: one of those offered; 0: as it is.
        framing: one of those offered; ``""``: as it is.
        hold_ms: no whole message for so long, and it is as it was before any change.
    """

    baud: Small = 0
    framing: str = ""
    hold_ms: Small = 3000


class LogQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Request of LOG (read): lines from this number on, or the oldest that is kept."""

    first: Count = 0


class LogLines(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to LOG: as many as fit the buffer; none: there are no more.

    Attributes:
        first: number of the first line.
    """

    first: Count
    lines: tuple[str, ...]


class Revert(msgspec.Struct, frozen=True, kw_only=True):
    """Request of REVERT (write): back to the bundle before; a pending one is cancelled.

    Attributes:
        reason: at most 24 ASCII letters, as `lineside.slots.Reverted` has it.
    """

    reason: Annotated[str, msgspec.Meta(max_length=24)] = "command"


class Reverted(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to REVERT: the slot that is in use now, -1 where none is."""

    slot: Annotated[int, msgspec.Meta(ge=-1, le=1)]


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """An empty answer."""


def encode(struct: msgspec.Struct) -> Body:
    """A body of a structure; what has its default is left out."""
    plain: Body = msgspec.to_builtins(struct, builtin_types=(bytes,))
    defaults = _defaults(type(struct))
    return {
        key: value for key, value in plain.items() if key not in defaults or defaults[key] != value
    }


def decode(body: Body, kind: type[StructKind]) -> StructKind:
    """Read a structure.

    Raises:
        MalformedError: a field is missing or impossible.
    """
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise MalformedError(f"{kind.__name__}: {error}") from error


def ask(operation: Operation, command: Command, struct: msgspec.Struct | None = None) -> Request:
    """A request of this group."""
    return Request.make(operation, GROUP, command, encode(struct or Done()))


def checksum(off: int, data: bytes | memoryview) -> int:
    """CRC-32 over the offset (8 bytes, little-endian) and the bytes: a framing may have none."""
    return zlib.crc32(data, zlib.crc32(off.to_bytes(8, "little")))


def _defaults(kind: type[msgspec.Struct]) -> dict[str, Any]:
    found = {}
    for field in msgspec.structs.fields(kind):
        if field.default is not msgspec.NODEFAULT:
            found[field.encode_name] = field.default
        elif field.default_factory is not msgspec.NODEFAULT:
            found[field.encode_name] = field.default_factory()
    return found
