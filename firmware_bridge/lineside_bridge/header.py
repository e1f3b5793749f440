"""The eight bytes before each SMP message.

```
 0  1  bits 0..2 operation, bits 3..4 version, bits 5..7 zero
 1  1  flags, zero
 2  2  length of the body
 4  2  group
 6  1  sequence
 7  1  command
```

Big-endian. Read here by ourselves: `smp.header.Header.loads` refuses commands that it does not
know, of which slot info is one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from lineside_bridge.errors import MalformedError

HEADER_BYTES: Final = 8
MAX_BODY_BYTES: Final = 0xFFFF

_HEADER: Final = struct.Struct(">BBHHBB")
_OPERATION_MASK: Final = 0b111
_VERSION_SHIFT: Final = 3
_VERSION_MASK: Final = 0b11
_RESERVED_SHIFT: Final = 5

assert _HEADER.size == HEADER_BYTES


class Operation(IntEnum):
    """What is asked, and what is answered: an answer's number is its request's plus one."""

    READ = 0
    READ_REPLY = 1
    WRITE = 2
    WRITE_REPLY = 3

    @property
    def is_reply(self) -> bool:
        """Whether it comes from a server."""
        return self in (Operation.READ_REPLY, Operation.WRITE_REPLY)

    @property
    def reply(self) -> Operation:
        """Of a request: what its answer carries."""
        return Operation(self | 1)


class Version(IntEnum):
    """Of the protocol, as on the wire; with `V2` came errors that name their group."""

    V1 = 0
    V2 = 1


@dataclass(frozen=True, kw_only=True)
class Header:
    """One message's.

    Attributes:
        length: of the body, bytes, 0 to 65,535.
        group: 0 to 65,535.
        sequence, command: 0 to 255.
    """

    operation: Operation
    group: int
    command: int
    sequence: int
    length: int = 0
    version: Version = Version.V2

    @property
    def answers(self) -> tuple[int, int, int]:
        """What request and answer have in common: group, command, sequence."""
        return self.group, self.command, self.sequence


def pack_header(header: Header) -> bytes:
    """Its eight bytes."""
    return _HEADER.pack(
        header.operation | header.version << _VERSION_SHIFT,
        0,
        header.length,
        header.group,
        header.sequence,
        header.command,
    )


def unpack_header(data: bytes | bytearray | memoryview) -> Header:
    """Read the first eight bytes.

    Raises:
        MalformedError: too few of them, or not as a header may be.
    """
    if len(data) < HEADER_BYTES:
        raise MalformedError(f"{len(data)} bytes; a header alone has {HEADER_BYTES}")
    first, flags, length, group, sequence, command = _HEADER.unpack_from(data)
    operation, version = first & _OPERATION_MASK, first >> _VERSION_SHIFT & _VERSION_MASK
    if first >> _RESERVED_SHIFT or flags or operation > 3 or version > 1:
        raise MalformedError(f"no header: it begins with {first:#04x} {flags:#04x}")
    return Header(
        operation=Operation(operation),
        version=Version(version),
        length=length,
        group=group,
        sequence=sequence,
        command=command,
    )


def is_whole(message: bytes) -> bool:
    """Whether the header says just so many bytes.

    A CRC that begins with zero holds of two sound messages one after the other, too: that is what
    a lost delimiter makes of them.
    """
    try:
        return HEADER_BYTES + unpack_header(message).length == len(message)
    except MalformedError:
        return False
