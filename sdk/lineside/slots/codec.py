"""The record as bytes: one fixed layout, so that firmware in C reads and writes the same.

```
  0   4  magic "LSR1"
  4   2  format, 1
  6   2  size of the record with its checksum, 384
  8   8  sequence; the valid copy with the higher one counts
 16  64  slot a
 80  64  slot b
144   4  starts of the program since the bundle is on trial
148   4  how many counters follow, 0 to 8
152 160  counters, 20 bytes each, by rising key id; those that are not used are zero
312  32  hash of the bundle that was left by the last revert; zero: there was none
344  24  why, ASCII, ends with zeros; empty: there was none
368  12  zero
380   4  CRC-32 (IEEE 802.3, as in zlib) of bytes 0..380
```

A slot:

```
  0   1  state: 0 empty, 1 pending, 2 trial, 3 confirmed, 4 revert
  1   1  what follows: 0 zeros, 1 the card of the bundle that lies there, 2 what is coming in
  2   2  zero
  4   4  security counter of the bundle; zero of what is coming in
  8   8  size of the file, bytes
 16  16  key id of the bundle; zero of what is coming in
 32  32  hash of the bundle; SHA-256 of the whole file of what is coming in
```

A counter:

```
  0  16  key id
 16   4  the lowest security counter that still counts; never zero
```

Little-endian. Whatever the format, the size stands at 6 and the checksum at the end of it, so that
a copy that a newer runtime wrote is told from a damaged one. Each record has exactly one encoding.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

from lineside.slots.record import Incoming, Record, Reverted, Slot, SlotCard, SlotState
from lineside.slots.storage import SlotName

MAGIC: Final = b"LSR1"
FORMAT: Final = 1
RECORD_BYTES: Final = 384
MAX_COUNTERS: Final = 8
MAX_REASON_BYTES: Final = 24
MAX_COUNTER: Final = 2**32 - 1
MAX_SEQUENCE: Final = 2**64 - 1
# What any format may grow to, and what a record's area holds at least.
MAX_RECORD_BYTES: Final = 1024

_HEAD: Final = struct.Struct("<4sHHQ")
_SLOT: Final = struct.Struct("<BBHIQ16s32s")
_COUNTS: Final = struct.Struct("<II")
_COUNTER: Final = struct.Struct("<16sI")
_REVERTED: Final = struct.Struct(f"<32s{MAX_REASON_BYTES}s12x")
_CHECKSUM: Final = struct.Struct("<I")
_SLOTS_AT: Final = _HEAD.size
_COUNTS_AT: Final = _SLOTS_AT + 2 * _SLOT.size
_COUNTERS_AT: Final = _COUNTS_AT + _COUNTS.size
_REVERTED_AT: Final = _COUNTERS_AT + MAX_COUNTERS * _COUNTER.size
_CHECKSUM_AT: Final = _REVERTED_AT + _REVERTED.size
assert (_SLOTS_AT, _COUNTS_AT, _COUNTERS_AT, _REVERTED_AT) == (16, 144, 152, 312)
assert _CHECKSUM_AT + _CHECKSUM.size == RECORD_BYTES

_STATES: Final = (
    SlotState.EMPTY,
    SlotState.PENDING,
    SlotState.TRIAL,
    SlotState.CONFIRMED,
    SlotState.REVERT,
)
_NOTHING, _CARD, _INCOMING = range(3)


class NewerFormatError(ValueError):
    """The bytes are sound and of a later format; ``form`` says which."""

    def __init__(self, form: int) -> None:
        super().__init__(f"format {form}; this runtime reads {FORMAT}")
        self.form = form


def encode_record(record: Record) -> bytes:
    """384 bytes.

    Raises:
        ValueError: something does not fit: a number, a name, a ninth counter.
    """
    if len(record.counters) > MAX_COUNTERS:
        raise ValueError(f"{len(record.counters)} counters, {MAX_COUNTERS} fit")
    try:
        body = b"".join(
            (
                _HEAD.pack(MAGIC, FORMAT, RECORD_BYTES, record.sequence),
                *(_encode_slot(record.slots[name]) for name in SlotName),
                _COUNTS.pack(record.starts, len(record.counters)),
                _encode_counters(record.counters),
                _encode_reverted(record.reverted),
            )
        )
    except struct.error as error:
        raise ValueError(f"does not fit into a record: {error}") from error
    return body + _CHECKSUM.pack(zlib.crc32(body))


def decode_record(data: bytes) -> Record:
    """The record that an area begins with.

    Args:
        data: what lies there; what follows the record is not looked at.

    Raises:
        NewerFormatError: sound, and of a later format.
        ValueError: blank, damaged, or not what `encode_record` makes of any record.
    """
    form, body = _check_frame(data)
    if form > FORMAT:
        raise NewerFormatError(form)
    record = _decode_body(body)
    # One encoding for each record: what is reserved, unused or out of order is caught here.
    if form != FORMAT or encode_record(record)[:_CHECKSUM_AT] != body:
        raise ValueError("has reserved or unused bytes that are not zero")
    return record


def is_blank(data: bytes) -> bool:
    """Whether nothing was written there since it was erased, or ever."""
    return data == b"\xff" * len(data)


def _check_frame(data: bytes) -> tuple[int, bytes]:
    """Format, and what the checksum covers."""
    if len(data) < _HEAD.size:
        raise ValueError(f"{len(data)} bytes, a record has {RECORD_BYTES}")
    magic, form, size, _ = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise ValueError(f"does not begin with {MAGIC.decode()}")
    if not _HEAD.size + _CHECKSUM.size <= size <= min(len(data), MAX_RECORD_BYTES):
        raise ValueError(f"says that it has {size} bytes")
    end = size - _CHECKSUM.size
    if _CHECKSUM.unpack_from(data, end)[0] != zlib.crc32(data[:end]):
        raise ValueError("its checksum does not hold")
    return form, data[:end]


def _decode_body(body: bytes) -> Record:
    if len(body) != _CHECKSUM_AT:
        raise ValueError(f"{len(body)} bytes before the checksum, format 1 has {_CHECKSUM_AT}")
    starts, count = _COUNTS.unpack_from(body, _COUNTS_AT)
    if count > MAX_COUNTERS:
        raise ValueError(f"says that it has {count} counters")
    places = (_COUNTERS_AT + index * _COUNTER.size for index in range(count))
    counters = dict(_COUNTER.unpack_from(body, place) for place in places)
    slots = {
        name: _decode_slot(body, _SLOTS_AT + index * _SLOT.size)
        for index, name in enumerate(SlotName)
    }
    return Record(
        sequence=_HEAD.unpack_from(body)[3],
        slots=slots,
        starts=starts,
        counters=counters,
        reverted=_decode_reverted(body),
    )


def _encode_slot(slot: Slot) -> bytes:
    state = _STATES.index(slot.state)
    if slot.card is not None:
        if slot.incoming is not None:
            raise ValueError("a slot holds a bundle, or is being filled")
        card = slot.card
        key_id, digest = _exactly(card.key_id, 16), _exactly(bytes.fromhex(card.hash), 32)
        return _SLOT.pack(state, _CARD, 0, card.security_counter, card.size_bytes, key_id, digest)
    if slot.incoming is not None:
        sha256 = _exactly(slot.incoming.sha256, 32)
        return _SLOT.pack(state, _INCOMING, 0, 0, slot.incoming.size_bytes, b"", sha256)
    return _SLOT.pack(state, _NOTHING, 0, 0, 0, b"", b"")


def _decode_slot(body: bytes, place: int) -> Slot:
    state_number, holds, _, counter, size_bytes, key_id, digest = _SLOT.unpack_from(body, place)
    if state_number >= len(_STATES) or holds > _INCOMING:
        raise ValueError(f"a slot of state {state_number} that holds {holds}")
    card = incoming = None
    if holds == _CARD:
        card = SlotCard(
            hash=digest.hex(), size_bytes=size_bytes, key_id=key_id, security_counter=counter
        )
    elif holds == _INCOMING:
        incoming = Incoming(sha256=digest, size_bytes=size_bytes)
    return Slot(state=_STATES[state_number], card=card, incoming=incoming)


def _encode_counters(counters: dict[bytes, int]) -> bytes:
    if 0 in counters.values():
        raise ValueError("a counter of zero forbids nothing and is not kept")
    packed = (_COUNTER.pack(_exactly(key_id, 16), counters[key_id]) for key_id in sorted(counters))
    return b"".join(packed).ljust(MAX_COUNTERS * _COUNTER.size, b"\0")


def _encode_reverted(reverted: Reverted | None) -> bytes:
    if reverted is None:
        return _REVERTED.pack(b"", b"")
    reason = reverted.reason.encode("ascii")
    if not 0 < len(reason) <= MAX_REASON_BYTES or b"\0" in reason:
        raise ValueError(f"reason {reason!r}: 1 to {MAX_REASON_BYTES} letters but zero fit")
    return _REVERTED.pack(_exactly(bytes.fromhex(reverted.hash), 32), reason)


def _decode_reverted(body: bytes) -> Reverted | None:
    digest, reason = _REVERTED.unpack_from(body, _REVERTED_AT)
    reason = reason.rstrip(b"\0")
    return Reverted(hash=digest.hex(), reason=reason.decode("ascii")) if reason else None


def _exactly(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise ValueError(f"{len(data)} bytes in the place of {size}")
    return data
