"""The record as bytes: one encoding each, and no damage goes unseen."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from slot_records import records

from lineside.slots import Incoming, Record, Reverted, Slot, SlotCard, SlotName, SlotState
from lineside.slots.codec import (
    RECORD_BYTES,
    NewerFormatError,
    decode_record,
    encode_record,
    is_blank,
)

FULL = Record(
    sequence=0x0102030405060708,
    slots={
        SlotName.A: Slot(
            state=SlotState.TRIAL,
            card=SlotCard(
                hash="ab" * 32,
                size_bytes=0x1122334455,
                key_id=bytes(range(16)),
                security_counter=0xFFFFFFFF,
            ),
        ),
        SlotName.B: Slot(
            state=SlotState.CONFIRMED,
            card=SlotCard(
                hash="cd" * 32, size_bytes=5, key_id=bytes(range(16, 32)), security_counter=0
            ),
        ),
    },
    starts=7,
    counters={bytes([number] * 16): number for number in range(8, 0, -1)},
    reverted=Reverted(hash="ef" * 32, reason="disagreement-of-24-chars"),
)


def sealed(body: bytes | bytearray) -> bytes:
    """With a checksum that holds."""
    return bytes(body) + struct.pack("<I", zlib.crc32(body))


def changed(place: int, data: bytes) -> bytes:
    body = bytearray(encode_record(FULL)[:-4])
    body[place : place + len(data)] = data
    return sealed(body)


@settings(max_examples=50)
@given(record=records())
def test_a_record_comes_back_as_it_was_and_has_one_encoding(record: Record) -> None:
    encoded = encode_record(record)
    assert len(encoded) == RECORD_BYTES
    assert decode_record(encoded + b"\xff" * 640) == record
    again = replace(record, counters=dict(reversed(record.counters.items())))
    assert encode_record(again) == encoded


@settings(max_examples=5)
@given(record=records())
def test_every_flipped_bit_is_seen(record: Record) -> None:
    encoded = bytearray(encode_record(record))
    for place in range(len(encoded)):
        for bit in range(8):
            encoded[place] ^= 1 << bit
            with pytest.raises(ValueError):
                decode_record(bytes(encoded))
            encoded[place] ^= 1 << bit


def test_every_other_byte_in_every_place_is_seen() -> None:
    encoded = bytearray(encode_record(FULL))
    for place, byte in enumerate(bytes(encoded)):
        for other in {0x00, 0xFF, 0x7F, byte ^ 0x55, (byte + 1) % 256} - {byte}:
            encoded[place] = other
            with pytest.raises(ValueError):
                decode_record(bytes(encoded))
        encoded[place] = byte


def test_every_shorter_record_is_refused() -> None:
    encoded = encode_record(FULL)
    for end in range(RECORD_BYTES):
        with pytest.raises(ValueError):
            decode_record(encoded[:end])
        with pytest.raises(ValueError):
            decode_record(encoded[:end].ljust(1024, b"\xff"))


def test_the_layout_is_as_the_module_says() -> None:
    data = encode_record(FULL)
    assert data[:8] == b"LSR1" + bytes([1, 0, 0x80, 1])
    assert data[8:16] == bytes([8, 7, 6, 5, 4, 3, 2, 1])
    slot_a, slot_b = data[16:80], data[80:144]
    assert slot_a[:8] == bytes([2, 1, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF])
    assert slot_a[8:16] == bytes([0x55, 0x44, 0x33, 0x22, 0x11, 0, 0, 0])
    assert slot_a[16:] == bytes(range(16)) + b"\xab" * 32
    assert slot_b[:2] == bytes([3, 1])
    assert data[144:152] == bytes([7, 0, 0, 0, 8, 0, 0, 0])
    assert data[152:172] == b"\1" * 16 + bytes([1, 0, 0, 0])
    assert data[292:312] == b"\x08" * 16 + bytes([8, 0, 0, 0])
    assert data[312:344] == b"\xef" * 32
    assert data[344:368] == b"disagreement-of-24-chars"
    assert data[368:380] == bytes(12)
    assert data[380:] == struct.pack("<I", zlib.crc32(data[:380]))
    assert len(data) == 384


def test_what_is_coming_in_lies_where_the_module_says() -> None:
    coming = Slot(incoming=Incoming(sha256=b"\x5a" * 32, size_bytes=9))
    data = encode_record(Record(slots={SlotName.A: Slot(), SlotName.B: coming}))
    assert data[16:80] == bytes(64)
    assert data[80:144] == bytes([0, 2]) + bytes(6) + bytes([9]) + bytes(23) + b"\x5a" * 32
    assert data[144:380] == bytes(236)


def test_a_later_format_is_told_from_damage_whatever_its_length() -> None:
    later = struct.pack("<4sHHQ", b"LSR1", 2, 604, 3) + bytes(584)
    with pytest.raises(NewerFormatError, match="format 2; this runtime reads 1"):
        decode_record(sealed(later).ljust(1024, b"\xff"))
    torn = bytearray(sealed(later))
    torn[300] ^= 1
    with pytest.raises(ValueError, match="checksum") as caught:
        decode_record(bytes(torn))
    assert not isinstance(caught.value, NewerFormatError)


@pytest.mark.parametrize(
    ("place", "data", "words"),
    [
        (0, b"LSR2", "does not begin"),
        (4, b"\0\0", "not zero"),
        (6, b"\x84\1", "says that it has 388"),
        (6, b"\0\0", "says that it has 0"),
        (6, b"\xff\xff", "says that it has 65535"),
        (16, b"\5", "state 5"),
        (17, b"\3", "holds 3"),
        (17, b"\0", "not zero"),
        (18, b"\1", "not zero"),
        (148, b"\x09", "9 counters"),
        (148, b"\x07", "not zero"),
        (168, b"\0", "of zero"),
        (172, b"\1" * 16, "not zero"),
        (152, b"\x09" * 16, "not zero"),
        (344, b"\0", "letters"),
        (350, b"\0", "letters"),
        (350, b"\xff", "ascii"),
        (368, b"\1", "not zero"),
    ],
)
def test_what_no_record_has_is_refused_though_its_checksum_holds(
    place: int, data: bytes, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        decode_record(changed(place, data))


@pytest.mark.parametrize(
    "record",
    [
        replace(FULL, sequence=2**64),
        replace(FULL, starts=2**32),
        replace(FULL, counters={bytes([number] * 16): 1 for number in range(9)}),
        replace(FULL, counters={b"k" * 16: 0}),
        replace(FULL, counters={b"k" * 15: 1}),
        replace(FULL, counters={b"k" * 16: 2**32}),
        replace(FULL, reverted=Reverted(hash="ef" * 32, reason="")),
        replace(FULL, reverted=Reverted(hash="ef" * 32, reason="r" * 25)),
        replace(FULL, reverted=Reverted(hash="ef" * 32, reason="\0")),
        replace(FULL, reverted=Reverted(hash="ef", reason="r")),
        replace(FULL, reverted=Reverted(hash="no hex", reason="r")),
        replace(FULL, reverted=Reverted(hash="ef" * 32, reason="é")),
        Record(
            slots={
                SlotName.A: Slot(incoming=Incoming(sha256=b"", size_bytes=1)),
                SlotName.B: Slot(),
            }
        ),
    ],
)
def test_what_does_not_fit_is_not_written(record: Record) -> None:
    with pytest.raises(ValueError):
        encode_record(record)


def test_blank_is_what_nothing_was_written_to() -> None:
    assert is_blank(b"")
    assert is_blank(b"\xff" * 1024)
    assert not is_blank(b"\xff" * 1023 + b"\xfe")
