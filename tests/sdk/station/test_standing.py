"""What stands over a restart: one small file, whole or named; and the pause that it keeps."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from lineside.errors import StorageError
from lineside.station.pausing import Pause
from lineside.station.standing import LimitOrder, StandingFile, StandingOrders


def order(number: int, product: str = "led", ok: float | None = 0.1) -> LimitOrder:
    return LimitOrder(product=product, bundle=f"{number:064x}", ok=ok, not_ok=None)


def test_what_is_kept_stands_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite.orders"
    file = StandingFile(path)
    assert file.orders == StandingOrders()
    assert not path.exists(), "without an order there is no file"
    told = StandingOrders(paused=True, product="led", limits=(order(1),))
    file.keep(told)
    assert file.orders == told
    assert StandingFile(path).orders == told
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_one_that_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite.orders"
    file = StandingFile(path)
    file.keep(StandingOrders(paused=True))
    before = path.stat().st_ino
    file.keep(StandingOrders(paused=True))
    assert path.stat().st_ino == before


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b'{"v":2}',
        b'{"paused":1}',
        b'{"paused":true,"more":1}',
        b'{"limits":[{"product":"led","bundle":"ab","ok":null,"not_ok":null}]}',
    ],
)
def test_a_damaged_file_is_named_with_its_remedy_and_left(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "outbox.sqlite.orders"
    path.write_bytes(data)
    with pytest.raises(StorageError, match=r"orders: damaged.*; delete it to begin without"):
        StandingFile(path)
    assert path.read_bytes() == data


def test_a_file_torn_at_any_byte_is_never_taken_for_another(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite.orders"
    told = StandingOrders(paused=True, product="led", limits=(order(1), order(2, "diode")))
    StandingFile(path).keep(told)
    data = path.read_bytes()
    for kept in range(len(data) - 1):
        path.write_bytes(data[:kept])
        with pytest.raises(StorageError):
            StandingFile(path)


def test_a_disk_that_takes_nothing_leaves_what_stood(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    file = StandingFile(folder / "x.orders")
    folder.rmdir()
    with pytest.raises(StorageError, match=r"x\.orders"):
        file.keep(StandingOrders(paused=True))
    assert not file.orders.paused


def test_limits_are_of_one_bundle_each_and_bounded() -> None:
    orders = StandingOrders()
    for number in range(20):
        orders = orders.with_limits(order(number)).with_limits(order(number, "diode"))
    assert len(orders.limits) == 8
    assert orders.limits_for("led", f"{19:064x}") == order(19)
    assert orders.limits_for("led", f"{0:064x}") is None
    newer = orders.with_limits(order(19, ok=0.2))
    assert newer.limits_for("led", f"{19:064x}") == order(19, ok=0.2)
    assert len(newer.limits) == 8
    assert {one.product for one in newer.without_limits("led").limits} == {"diode"}
    assert msgspec.json.decode(msgspec.json.encode(newer), type=StandingOrders) == newer


def test_a_pause_holds_what_comes_in_it_also_after_its_end() -> None:
    pause = Pause()
    before_ns = time.monotonic_ns()
    assert not pause.is_on
    assert not pause.holds(before_ns)
    pause.begin()
    within_ns = time.monotonic_ns()
    assert pause.is_on
    assert pause.holds(before_ns), "what has not been judged is not judged any more"
    assert pause.holds(within_ns)
    pause.begin()
    pause.end()
    assert not pause.is_on
    assert pause.holds(within_ns), "its picture was taken while somebody worked there"
    assert not pause.holds(before_ns)
    assert not pause.holds(time.monotonic_ns())
    pause.end()
    assert pause.holds(within_ns)


def test_a_pause_from_the_start_holds_everything_until_its_end() -> None:
    pause = Pause(paused=True)
    assert pause.is_on
    taken_ns = time.monotonic_ns()
    pause.end()
    assert pause.holds(taken_ns)
    assert not pause.holds(time.monotonic_ns())
