"""A line's faults come by seed, and its bytes take their time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside_bridge.sensor import Noise, NoiseSettings
from lineside_bridge.sensor.noise import PIECE_BYTES, PowerLoss
from lineside_bridge.sensor.wire import Wire

DATA = bytes(range(256)) * 16


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, start = [], 0
    for size in [*sizes, len(data)]:
        pieces.append(data[start : start + size])
        start += size
    return pieces


@given(
    sizes=st.lists(st.integers(1, 3000), max_size=12),
    seed=st.integers(0, 99),
    share=st.sampled_from([0.0, 0.1]),
)
def test_the_same_seed_gives_the_same_faults_however_the_bytes_are_cut(
    sizes: list[int], seed: int, share: float
) -> None:
    settings = NoiseSettings(bit_error_rate=1e-3, drop=share, duplicate=share, seed=seed)
    whole = Noise(settings, "in").pass_on(DATA)
    noise = Noise(settings, "in")
    assert b"".join(noise.pass_on(piece) for piece in cut(DATA, sizes)) == whole
    assert Noise(settings, "out").pass_on(DATA) != whole


def test_a_good_line_changes_nothing() -> None:
    assert Noise(NoiseSettings()).pass_on(DATA) == DATA


@pytest.mark.parametrize(
    ("rate", "size_bytes"), [(1e-4, 200_000), (1e-3, 200_000), (1e-2, 200_000), (0.5, 10_000)]
)
def test_as_many_bits_are_turned_over_as_was_said(rate: float, size_bytes: int) -> None:
    noise = Noise(NoiseSettings(bit_error_rate=rate, seed=1))
    data = bytes(size_bytes)
    flipped = sum(byte.bit_count() for byte in noise.pass_on(data))
    assert flipped == noise.flipped_bits
    expected = rate * len(data) * 8
    # Five standard deviations of a binomial.
    assert abs(flipped - expected) <= 5 * (expected * (1 - rate)) ** 0.5 + 1


def test_pieces_are_lost_and_doubled_whole() -> None:
    pieces = [bytes([number]) * PIECE_BYTES for number in range(256)]
    noise = Noise(NoiseSettings(drop=0.2, duplicate=0.2, seed=3))
    passed = noise.pass_on(b"".join(pieces))
    counts = [passed.count(number) // PIECE_BYTES for number in range(256)]
    assert noise.dropped_pieces == counts.count(0)
    assert noise.doubled_pieces == counts.count(2)
    assert len(passed) == sum(counts) * PIECE_BYTES
    assert min(noise.dropped_pieces, noise.doubled_pieces) > 20


def test_delays_and_losses_of_power_keep_within_what_was_said() -> None:
    settings = NoiseSettings(delay_ms=50, power_loss_every=10, seed=2)
    noise, losses = Noise(settings), PowerLoss(settings)
    delays_s = [noise.delay_s() for _ in range(100)]
    assert 0 <= min(delays_s) < max(delays_s) <= 0.05
    drawn = [losses.draw() for _ in range(100)]
    operations = [found[0] for found in drawn if found is not None]
    assert len(operations) == 100
    assert 0 <= min(operations) < max(operations) < 20
    assert PowerLoss(NoiseSettings()).draw() is None


@pytest.mark.parametrize(
    "wrong", [{"bit_error_rate": 0.6}, {"drop": 1.1}, {"duplicate": -0.1}, {"drop": float("nan")}]
)
def test_impossible_lines_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="from 0 to"):
        NoiseSettings(**wrong)  # type: ignore[arg-type]


def arrivals(wire: Wire, until_s: float) -> bytes:
    return b"".join(arrival.data for arrival in wire.take(until_s))


def test_a_byte_takes_ten_bits() -> None:
    wire = Wire(115_200)
    wire.put(DATA[:1152], 10.0)
    assert arrivals(wire, 10.0) == b""
    assert len(arrivals(wire, 10.05)) == pytest.approx(576, abs=wire.slice_bytes)
    assert len(arrivals(wire, 10.1001)) == pytest.approx(576, abs=wire.slice_bytes)
    assert wire.due_s is None


def test_what_follows_right_behind_loses_no_time_to_a_late_look() -> None:
    wire = Wire(115_200)
    wire.put(bytes(115), 10.0)
    due_s = wire.due_s
    assert due_s is not None
    while wire.due_s is not None:
        wire.take(wire.due_s)
    late_s = 10.0 + 115 / 11_520 + 0.003
    wire.put(bytes(115), late_s, follows=True)
    assert len(arrivals(wire, 10.0 + 230 / 11_520 + 1e-9)) == 115
    wire.put(bytes(115), 20.0, follows=True)
    assert arrivals(wire, 20.0) == b""


def test_what_is_to_be_done_is_done_behind_the_last_byte() -> None:
    done: list[str] = []
    wire = Wire(9600)
    wire.put(bytes(96), 1.0, delay_s=0.5, then=lambda: done.append("now"))
    for arrival in wire.take(1.599):
        arrival.then()
    assert done == []
    for arrival in wire.take(1.6001):
        arrival.then()
    assert done == ["now"]


def test_a_line_without_rate_carries_at_once() -> None:
    wire = Wire()
    wire.put(DATA, 1.0)
    assert arrivals(wire, 1.0) == DATA
    wire.put(DATA, 1.0, delay_s=1.0)
    wire.clear()
    assert arrivals(wire, 9.0) == b""
