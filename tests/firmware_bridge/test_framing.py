"""Framings: any cutting gives the same messages, no flipped bit a wrong one, no noise stalls."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import smp.packet
from hypothesis import given
from hypothesis import strategies as st
from smp.os_management import EchoWriteRequest

from lineside_bridge.framing import (
    Decoder,
    DetectingDecoder,
    Framing,
    encode_frame,
    message_room_bytes,
    new_decoder,
    resync_bytes,
)
from lineside_bridge.framing.cobs import stuff, unstuff
from lineside_bridge.header import HEADER_BYTES, Operation
from lineside_bridge.message import Request

GUARDED = (Framing.CONSOLE, Framing.COBS)
ALL = tuple(Framing)
BODIES = st.one_of(
    st.dictionaries(
        st.text(max_size=6), st.binary(max_size=700) | st.integers(0, 2**40), max_size=4
    ),
    # What each framing has to hide: its own marks, and long stretches without a zero.
    st.sampled_from([b"\0" * 300, b"\xff" * 900, b"\x06\x09AAAA\n\x04\x14", b"\0\x01" * 300]).map(
        lambda data: {"data": data}
    ),
)


def message_of(body: dict[str, object], sequence: int = 7) -> bytes:
    return Request.make(Operation.WRITE, 1, 1, body).message(sequence)


MESSAGES = st.builds(message_of, BODIES, st.integers(0, 255))


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    for start, stop in itertools.pairwise(places):
        yield data[start:stop]


def feed(decoder: Decoder, data: bytes, cuts: list[int]) -> list[bytes]:
    return [message for piece in pieces(data, cuts) for message in decoder.feed(piece)]


@pytest.mark.parametrize("framing", ALL)
@given(
    messages=st.lists(MESSAGES, min_size=1, max_size=4), cuts=st.lists(st.integers(0), max_size=9)
)
def test_any_cutting_gives_the_same_messages(
    framing: Framing, messages: list[bytes], cuts: list[int]
) -> None:
    line = b"".join(encode_frame(framing, message) for message in messages)

    decoder = new_decoder(framing)
    assert feed(decoder, line, cuts) == messages
    assert decoder.dropped == 0


@given(message=MESSAGES)
def test_console_lines_are_those_of_the_library(message: bytes) -> None:
    ours = encode_frame(Framing.CONSOLE, message)

    assert ours == b"".join(smp.packet.encode(message))
    assert max(map(len, ours.splitlines(keepends=True))) <= 127


@given(data=st.binary(max_size=1200))
def test_stuffing_takes_every_zero_out_and_is_undone(data: bytes) -> None:
    assert 0 not in stuff(data)
    assert unstuff(stuff(data)) == data


@pytest.mark.parametrize("zeros", [1, 2, 253, 254, 255, 60_000])
def test_runs_of_zeros_are_stuffed_and_undone(zeros: int) -> None:
    assert stuff(bytes(zeros)) == b"\x01" * (zeros + 1)
    for block in (b"", b"\x01", b"\x07" * 254):
        data = block + bytes(zeros) + block
        assert unstuff(stuff(data)) == data


def test_stuffing_is_that_of_the_paper() -> None:
    """Vectors of the widely known description of COBS."""
    vectors = {
        "00": "0101",
        "0000": "010101",
        "00110000": "0102110101",
        "11223300": "0411223301",
        "1122334455": "061122334455",
    }
    assert {data: stuff(bytes.fromhex(data)).hex() for data in vectors} == vectors
    assert stuff(bytes(range(1, 255))) == b"\xff" + bytes(range(1, 255)) + b"\x01"


@pytest.mark.parametrize("framing", GUARDED)
def test_no_flipped_bit_gives_a_wrong_message(framing: Framing) -> None:
    """Every single bit of a frame of several lines and blocks, and the next frame is unharmed."""
    message = message_of({"off": 4096, "data": bytes(range(256)) + b"\0\0\n\x06\x09"})
    line, after = encode_frame(framing, message), encode_frame(framing, message_of({"a": 1}))
    for bit in range(8 * len(line)):
        noisy = bytearray(line)
        noisy[bit // 8] ^= 1 << bit % 8
        found = new_decoder(framing).feed(bytes(noisy) + resync_bytes(framing) + after)
        assert found[-1] == message_of({"a": 1})
        # A flip that changes nothing of the message (an unused bit of base64) may pass it on.
        assert found[:-1] in ([], [message])


@pytest.mark.parametrize("framing", ALL)
@given(garbage=st.binary(max_size=400), message=MESSAGES, cuts=st.lists(st.integers(0), max_size=5))
def test_in_step_again_after_garbage_and_a_pause(
    framing: Framing, garbage: bytes, message: bytes, cuts: list[int]
) -> None:
    decoder = new_decoder(framing)
    feed(decoder, garbage, cuts)
    decoder.quiet()
    line = resync_bytes(framing) + encode_frame(framing, message)

    assert feed(decoder, line, cuts)[-1:] == [message]


@pytest.mark.parametrize("framing", GUARDED)
@given(first=MESSAGES, message=MESSAGES, cut=st.integers(0), more=st.booleans())
def test_a_cut_frame_costs_itself_alone(
    framing: Framing, first: bytes, message: bytes, cut: int, more: bool
) -> None:
    line = encode_frame(framing, first)
    kept = line[: cut % len(line)] if more else line[cut % len(line) :]
    found = new_decoder(framing).feed(kept + encode_frame(framing, message) * 2)

    assert found[-2:] == [message, message]
    assert set(found) <= {first, message}


@pytest.mark.parametrize("framing", GUARDED)
@given(first=MESSAGES, second=MESSAGES)
def test_two_frames_without_what_parts_them_are_not_one_long_message(
    framing: Framing, first: bytes, second: bytes
) -> None:
    """CRC-16/XMODEM begins with zero: it holds of both together, once the delimiter is lost."""
    line = encode_frame(framing, first)[:-1]
    line += encode_frame(framing, second).lstrip(b"\0")
    found = new_decoder(framing).feed(line)

    assert set(found) <= {first, second}


@pytest.mark.parametrize("framing", ALL)
@given(message=MESSAGES)
def test_a_doubled_frame_is_two_messages(framing: Framing, message: bytes) -> None:
    assert new_decoder(framing).feed(encode_frame(framing, message) * 2) == [message, message]


@pytest.mark.parametrize("framing", ALL)
@given(noise=st.lists(st.binary(min_size=1, max_size=300), max_size=30))
def test_noise_for_ever_takes_no_memory_and_no_message(
    framing: Framing, noise: list[bytes]
) -> None:
    decoder = new_decoder(framing, max_message_bytes=64)
    for piece in noise:
        found = decoder.feed(piece)
        if framing in GUARDED:
            assert not found
    held = vars(decoder).values()
    # The console's line may be long, whatever a frame may be.
    assert sum(len(part) for part in held if isinstance(part, bytearray)) <= 4096 + 300


def test_a_log_between_a_frame_s_lines_is_passed_over() -> None:
    message = message_of({"data": bytes(300)})
    first, *others = encode_frame(Framing.CONSOLE, message).splitlines(keepends=True)
    line = b"*** Booting ***\r\nuart:~$ " + first + b"[00:01] <inf> warm\r\n" + b"".join(others)

    assert new_decoder(Framing.CONSOLE).feed(line.replace(b"\n", b"\r\n")) == [message]


@pytest.mark.parametrize("lost", [HEADER_BYTES - 1, HEADER_BYTES, 40])
def test_raw_gives_a_cut_message_up_when_the_line_falls_silent(lost: int) -> None:
    message = message_of({"data": bytes(100)})
    decoder = new_decoder(Framing.RAW)
    assert decoder.feed(message[:-lost]) == []
    assert decoder.quiet() == []
    assert decoder.dropped == len(message) - lost

    assert decoder.feed(message) == [message]


def test_raw_finds_a_message_that_a_false_header_had_swallowed() -> None:
    message = message_of({"a": 1})
    false_header = Request.make(Operation.READ, 0, 0, {"d": bytes(200)}).message(1)[:HEADER_BYTES]
    decoder = new_decoder(Framing.RAW)

    assert decoder.feed(false_header + b"\xa1" + message) == []
    assert decoder.quiet() == [message]


@given(body=BODIES, flip=st.integers(0))
def test_raw_tells_that_the_body_does_not_fill_the_message(
    body: dict[str, object], flip: int
) -> None:
    message = message_of(body)
    assert new_decoder(Framing.RAW).feed(message + b"\0") == [message]
    longer = message[:3] + bytes([(message[3] + 1) % 256]) + message[4:]
    assert new_decoder(Framing.RAW).feed(longer + b"\0") == []


@pytest.mark.parametrize("framing", ALL)
@given(
    messages=st.lists(MESSAGES, min_size=1, max_size=3), cuts=st.lists(st.integers(0), max_size=6)
)
def test_a_server_finds_out_which_framing_it_hears(
    framing: Framing, messages: list[bytes], cuts: list[int]
) -> None:
    decoder = DetectingDecoder()
    hello = message_of({"d": "x"}, sequence=1)
    assert feed(decoder, encode_frame(framing, hello), cuts) == [hello]
    assert decoder.framing is framing

    line = b"".join(encode_frame(framing, message) for message in messages)
    assert feed(decoder, line, cuts) == messages
    decoder.release()
    assert decoder.framing is None


def test_what_lies_in_a_message_is_not_obeyed() -> None:
    """A bundle that holds a recorded session: raw, its console frames are data."""
    inner = encode_frame(Framing.CONSOLE, message_of({"a": 1}))
    decoder = DetectingDecoder()
    decoder.feed(message_of({}))
    message = message_of({"data": inner + stuff(b"x") + b"\0"})

    assert decoder.feed(message) == [message]


def test_the_console_carries_what_was_promised_of_the_wire() -> None:
    """72.1 % at a buffer of 2,048 bytes, raw 98.8 %."""
    shares = {}
    for framing in ALL:
        room = message_room_bytes(framing, 2048)
        data = bytes(room - 24)
        line = encode_frame(
            framing, Request.make(Operation.WRITE, 1, 1, {"off": 2**15, "data": data}).message(0)
        )
        shares[framing] = round(100 * len(data) / len(line), 1)

    assert shares[Framing.CONSOLE] >= 72.1
    assert shares[Framing.RAW] >= 98.8
    assert shares[Framing.COBS] >= 98.0


def test_a_message_of_the_library_goes_through() -> None:
    message = bytes(EchoWriteRequest(d="hello", sequence=3))
    for framing in ALL:
        assert new_decoder(framing).feed(encode_frame(framing, message)) == [message]
