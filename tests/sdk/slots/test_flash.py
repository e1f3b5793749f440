"""The simulated flash itself: as unforgiving as a real one."""

from __future__ import annotations

import pytest

from lineside.errors import StorageError
from lineside.slots import Area, FlashMisuseError, PowerCut, SimulatedFlash

PAGE = 512


@pytest.fixture
def flash() -> SimulatedFlash:
    return SimulatedFlash(page_bytes=PAGE, slot_bytes=4 * PAGE)


def test_new_flash_is_blank_and_has_room_for_a_record_whatever_its_pages(
    flash: SimulatedFlash,
) -> None:
    assert flash.read(Area.SLOT_A, 0, 4 * PAGE) == b"\xff" * 4 * PAGE
    assert flash.capacity_bytes(Area.SLOT_B) == 4 * PAGE
    assert flash.capacity_bytes(Area.RECORD_0) == 1024
    assert SimulatedFlash(page_bytes=4096).capacity_bytes(Area.RECORD_1) == 4096


def test_a_byte_is_written_once_between_erases(flash: SimulatedFlash) -> None:
    flash.write(Area.SLOT_A, 10, b"abc\xff")
    flash.write(Area.SLOT_A, 14, b"d")
    with pytest.raises(FlashMisuseError, match="written twice"):
        flash.write(Area.SLOT_A, 13, b"d")
    flash.erase(Area.SLOT_A, 0, PAGE)
    flash.write(Area.SLOT_A, 10, b"xyz")
    assert flash.read(Area.SLOT_A, 9, 5) == b"\xffxyz\xff"


def test_only_whole_pages_of_its_own_are_erased_and_their_wear_is_counted(
    flash: SimulatedFlash,
) -> None:
    flash.erase(Area.SLOT_A, PAGE, 2 * PAGE)
    flash.erase(Area.SLOT_A, PAGE, PAGE)
    assert flash.wear[Area.SLOT_A] == [0, 2, 1, 0]
    for offset, size in ((0, PAGE + 1), (1, PAGE), (3 * PAGE, 2 * PAGE)):
        with pytest.raises(FlashMisuseError):
            flash.erase(Area.SLOT_A, offset, size)
    with pytest.raises(FlashMisuseError):
        flash.write(Area.SLOT_A, 4 * PAGE - 1, b"ab")


@pytest.mark.parametrize("torn_bytes", range(6))
def test_a_cut_write_leaves_its_beginning_and_half_a_byte(
    flash: SimulatedFlash, torn_bytes: int
) -> None:
    flash.cut_at(flash.operations, torn_bytes)
    with pytest.raises(PowerCut):
        flash.write(Area.SLOT_A, 0, b"\x01\x02\x03\x04")
    flash.restart()
    left = flash.read(Area.SLOT_A, 0, 6)
    whole = min(4, torn_bytes - 1) if torn_bytes else 0
    assert left[:whole] == b"\x01\x02\x03\x04"[:whole]
    if 0 < torn_bytes < 5:
        # Bits only fall, and those of the byte that have fallen are among its own.
        assert left[whole] & (whole + 1) == whole + 1
        assert left[whole + 1 :] == b"\xff" * (5 - whole)
    else:
        assert left[whole:] == b"\xff" * (6 - whole)


@pytest.mark.parametrize("torn_bytes", [0, 1, 100, PAGE, PAGE + 1, 2 * PAGE, 2 * PAGE + 1])
def test_a_cut_erase_leaves_a_page_of_any_bits_that_takes_no_writes(
    flash: SimulatedFlash, torn_bytes: int
) -> None:
    flash.write(Area.SLOT_A, 0, bytes(4 * PAGE))
    flash.cut_at(flash.operations, torn_bytes)
    with pytest.raises(PowerCut):
        flash.erase(Area.SLOT_A, 0, 2 * PAGE)
    flash.restart()
    left = flash.read(Area.SLOT_A, 0, 4 * PAGE)
    done = min(max(torn_bytes - 1, 0), 2 * PAGE)
    assert left[:done] == b"\xff" * done
    assert left[2 * PAGE :] == bytes(2 * PAGE)
    if torn_bytes == 0:
        assert left == bytes(4 * PAGE)
    elif done < 2 * PAGE:
        torn_page = done // PAGE * PAGE
        assert any(left[done : torn_page + PAGE])
        assert left[torn_page + PAGE :] == bytes(3 * PAGE - torn_page)
        with pytest.raises(FlashMisuseError):
            flash.write(Area.SLOT_A, torn_page, b"x")


def test_nothing_goes_on_without_power(flash: SimulatedFlash) -> None:
    flash.cut_at(flash.operations + 1)
    flash.sync()
    with pytest.raises(PowerCut):
        flash.sync()
    for use in (
        lambda: flash.read(Area.SLOT_A, 0, 1),
        lambda: flash.write(Area.SLOT_A, 0, b"x"),
        lambda: flash.erase(Area.SLOT_A, 0, PAGE),
        flash.sync,
    ):
        with pytest.raises(PowerCut, match="the power is off"):
            use()
    flash.restart()
    flash.write(Area.SLOT_A, 0, b"x")


def test_an_operation_fails_once(flash: SimulatedFlash) -> None:
    flash.fail_at(flash.operations, 2)
    with pytest.raises(StorageError, match="simulated flash"):
        flash.write(Area.SLOT_A, 0, b"\0\0\0")
    assert flash.read(Area.SLOT_A, 0, 1) == b"\0"
    assert flash.read(Area.SLOT_A, 2, 1) == b"\xff"
    flash.erase(Area.SLOT_A, 0, PAGE)
    flash.write(Area.SLOT_A, 0, b"\0\0\0")


def test_a_clone_goes_its_own_way_with_the_same_chances(flash: SimulatedFlash) -> None:
    flash.write(Area.SLOT_A, 0, bytes(PAGE))
    clone = flash.clone()
    left = []
    for one in (flash, clone):
        one.cut_at(one.operations, 1)
        with pytest.raises(PowerCut):
            one.erase(Area.SLOT_A, 0, PAGE)
        one.restart()
        left.append(one.read(Area.SLOT_A, 0, PAGE))
    assert left[0] == left[1]
    clone.erase(Area.SLOT_A, 0, PAGE)
    assert flash.read(Area.SLOT_A, 0, PAGE) == left[0]
    assert (clone.wear[Area.SLOT_A][0], flash.wear[Area.SLOT_A][0]) == (2, 1)
