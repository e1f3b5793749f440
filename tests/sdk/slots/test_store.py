"""The store over flash, without cuts: filling a slot, and what is said no to."""

from __future__ import annotations

import hashlib
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from guarded_flash import GuardedFlash
from hypothesis import given, settings
from hypothesis import strategies as st
from slot_files import active_data, install, install_confirmed, send, slot_file

from lineside.errors import DowngradeError, RefusedError, StorageError
from lineside.slots import Area, Incoming, SimulatedFlash, SlotName, SlotState, Storage, Store
from lineside.slots.codec import encode_record

PAGE = 512
A, B = SlotName.A, SlotName.B
FIRST, SECOND, THIRD = (slot_file(number, size_bytes=1300) for number in range(3))


def make_flash(seed: int = 0) -> GuardedFlash:
    return GuardedFlash(page_bytes=PAGE, slot_bytes=4 * PAGE, seed=seed)


@pytest.fixture
def flash() -> GuardedFlash:
    return make_flash()


@pytest.fixture
def store(flash: GuardedFlash) -> Store:
    return Store(flash)


def test_an_empty_store_has_nothing_and_is_not_written_by_looking(
    store: Store, flash: GuardedFlash
) -> None:
    assert store.record.active is None
    assert store.free() is A
    assert store.damage == ""
    with pytest.raises(RefusedError, match="holds no bundle"):
        store.read(A, 0, 1)
    assert flash.operations == 0
    assert store.storage is flash


def test_the_whole_road(store: Store) -> None:
    assert install(store, FIRST) is A
    assert active_data(store) == FIRST.data
    assert install(store, SECOND) is B
    assert active_data(store) == FIRST.data
    assert store.start_trial() is B
    assert active_data(store) == SECOND.data
    assert [store.count_start(), store.count_start()] == [1, 2]
    assert store.confirm() is B
    assert store.revert("command") is A
    assert active_data(store) == FIRST.data
    assert install(store, THIRD) is B
    store.start_trial()
    assert store.revert("disagreement") is A
    assert install(store, SECOND) is B
    assert store.revert("command") is A
    assert store.record.slots[B].state is SlotState.EMPTY


def test_what_is_coming_in_can_be_read_and_no_further_than_it_goes(store: Store) -> None:
    with pytest.raises(RefusedError, match="begin first"):
        store.read_incoming(0, 1)
    send(store, FIRST)
    assert store.read_incoming(1290, 500) == FIRST.data[1290:]
    assert store.read_incoming(1300, 5) == b""
    store.finish(FIRST.card)
    assert store.read(A, 1290, 500) == FIRST.data[1290:]


@pytest.mark.parametrize("chunk_bytes", [1, 256, 511, 512, 513, 1300])
def test_chunks_of_any_size_make_the_same_file(store: Store, chunk_bytes: int) -> None:
    send(store, FIRST, chunk_bytes=chunk_bytes)
    store.finish(FIRST.card)
    assert active_data(store) == FIRST.data


def test_writing_is_in_order_or_again(store: Store) -> None:
    with pytest.raises(RefusedError, match="begin first"):
        store.write(0, b"x")
    assert store.begin(FIRST.incoming) == 0
    store.write(0, FIRST.data[:700])
    assert store.written == 700
    store.write(0, FIRST.data[:700])
    store.write(300, FIRST.data[300:800])
    assert store.written == 800
    with pytest.raises(RefusedError, match="bytes 801 to 802 before 800: go on there"):
        store.write(801, b"x")
    with pytest.raises(StorageError, match="send the file that was announced"):
        store.write(800, bytes(501))
    assert store.written == 800
    with pytest.raises(RefusedError, match="are others: begin again"):
        store.write(799, bytes([FIRST.data[799] ^ 1]))
    with pytest.raises(RefusedError, match="begin first"):
        store.write(800, b"x")
    assert store.begin(FIRST.incoming) == PAGE
    store.write(store.written, FIRST.data[store.written :])
    assert store.finish(FIRST.card) is A


def test_the_same_object_goes_on_at_the_byte(store: Store) -> None:
    send(store, FIRST, chunk_bytes=100, end=700)
    assert store.begin(FIRST.incoming) == 700


@settings(max_examples=60)
@given(cut_bytes=st.integers(0, 1300), again=st.integers(0, 3))
def test_another_goes_on_at_a_page_that_is_surely_there(cut_bytes: int, again: int) -> None:
    flash = make_flash()
    send(Store(flash), FIRST, chunk_bytes=1, end=cut_bytes)
    for _ in range(again):
        Store(flash).begin(FIRST.incoming)
    store = Store(flash)
    offset = store.begin(FIRST.incoming)
    assert offset % PAGE == 0
    assert offset <= cut_bytes
    assert offset >= cut_bytes - (2 + again) * PAGE
    assert store.read_incoming(0, offset) == FIRST.data[:offset]
    send(store, FIRST)
    assert store.finish(FIRST.card) is A
    assert active_data(store) == FIRST.data


@given(pages=st.lists(st.sampled_from([b"\xff", b"\x00", b"\xff\xfe"]), min_size=1, max_size=4))
def test_files_with_blank_pages_of_their_own_go_on_as_well(pages: list[bytes]) -> None:
    data = b"".join((page * PAGE)[:PAGE] for page in pages)
    file = slot_file(0, size_bytes=len(data))
    file = replace(
        file, data=data, incoming=replace(file.incoming, sha256=hashlib.sha256(data).digest())
    )
    flash = make_flash()
    send(Store(flash), file, chunk_bytes=300)
    store = Store(flash)
    send(store, file)
    store.finish(file.card)
    assert active_data(store) == data


def test_another_file_takes_the_place_of_what_was_coming_in(store: Store) -> None:
    send(store, FIRST, end=600)
    assert store.begin(SECOND.incoming) == 0
    send(store, SECOND)
    store.finish(SECOND.card)
    assert active_data(store) == SECOND.data


def test_what_is_discarded_is_forgotten(store: Store, flash: GuardedFlash) -> None:
    store.discard()
    assert flash.operations == 0
    send(store, FIRST)
    store.discard()
    with pytest.raises(RefusedError):
        store.finish(FIRST.card)
    with pytest.raises(RefusedError):
        store.write(0, b"x")
    assert store.begin(FIRST.incoming) == 0


def test_a_file_that_is_not_the_announced_one_is_forgotten(store: Store) -> None:
    install(store, FIRST)
    announced = Incoming(sha256=SECOND.incoming.sha256, size_bytes=THIRD.incoming.size_bytes)
    store.begin(announced)
    store.write(0, THIRD.data)
    with pytest.raises(StorageError, match="send it again"):
        store.finish(SECOND.card)
    with pytest.raises(RefusedError, match="nothing is coming in"):
        store.finish(SECOND.card)
    assert active_data(store) == FIRST.data


def test_a_file_that_is_cut_short_is_forgotten(store: Store) -> None:
    send(store, FIRST, end=1280)
    with pytest.raises(StorageError, match="cut short"):
        store.finish(FIRST.card)
    assert store.record.active is None


def test_a_card_of_another_size_is_of_another_file(store: Store) -> None:
    send(store, FIRST)
    with pytest.raises(StorageError, match="send it again"):
        store.finish(replace(FIRST.card, size_bytes=1299))
    assert store.record.active is None


def test_a_file_that_does_not_fit_is_refused_before_anything_is_given_up(store: Store) -> None:
    install_confirmed(store, FIRST)
    install_confirmed(store, SECOND)
    for size_bytes in (0, -1, 4 * PAGE + 1):
        with pytest.raises(StorageError, match="there is room for 2,048"):
            store.begin(Incoming(sha256=bytes(32), size_bytes=size_bytes))
    assert store.revert("command") is A


def test_a_downgrade_is_refused_and_what_came_in_can_be_discarded(store: Store) -> None:
    install(store, slot_file(1, counter=4))
    old = slot_file(2, counter=3)
    with pytest.raises(DowngradeError):
        store.check_counter(old.card)
    send(store, old)
    with pytest.raises(DowngradeError):
        store.finish(old.card)
    store.discard()
    install_confirmed(store, slot_file(3, counter=4))


def test_a_trial_or_a_pending_bundle_leaves_no_slot_free(store: Store) -> None:
    install(store, FIRST)
    install(store, SECOND)
    for remedy in ("let the station try it, or cancel it by revert", "confirm or revert it first"):
        with pytest.raises(RefusedError, match=remedy):
            store.free()
        with pytest.raises(RefusedError, match=remedy):
            store.begin(THIRD.incoming)
        if store.record.active is A:
            store.start_trial()
    assert active_data(store) == SECOND.data


def test_another_store_over_the_same_is_seen_at_once(store: Store, flash: GuardedFlash) -> None:
    other = Store(flash)
    install(other, FIRST)
    assert store.record.active is A
    send(store, SECOND, end=600)
    other.discard()
    with pytest.raises(RefusedError, match="begin first"):
        store.write(600, b"x")


def test_a_worn_record_takes_its_turns(store: Store, flash: GuardedFlash) -> None:
    install(store, FIRST)
    install(store, SECOND)
    store.start_trial()
    before = [flash.wear[area][0] for area in (Area.RECORD_0, Area.RECORD_1)]
    for _ in range(5):
        store.count_start()
    after = [flash.wear[area][0] for area in (Area.RECORD_0, Area.RECORD_1)]
    assert [new - old for new, old in zip(after, before, strict=True)] == [5, 5]


# What lies in a record's area, damaged in one way or another.
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "blank": lambda data: b"\xff" * len(data),
    "zeros": lambda data: bytes(len(data)),
    "torn": lambda data: data[:200] + b"\xff" * (len(data) - 200),
    "a bit": lambda data: data[:100] + bytes([data[100] ^ 4]) + data[101:],
    "text": lambda data: b"hello".ljust(len(data)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("area", [Area.RECORD_0, Area.RECORD_1])
def test_a_copy_that_rots_is_told_and_healed(
    area: Area, damage: Callable[[bytes], bytes], flash: GuardedFlash, store: Store
) -> None:
    install_confirmed(store, FIRST)
    install_confirmed(store, SECOND)
    record = store.record
    whole = flash.read(area, 0, 1024)
    flash.damage(area, 0, damage(whole))
    assert store.record == record
    assert area.value in store.damage
    again = Store(flash)
    assert again.record == record
    assert (again.damage, store.damage) == ("", "")
    assert flash.read(area, 0, 1024)[:384] == whole[:384]


@pytest.mark.parametrize("area", [Area.RECORD_0, Area.RECORD_1])
def test_a_copy_that_rots_while_the_store_is_open_is_written_with_the_next_change(
    area: Area, flash: GuardedFlash, store: Store
) -> None:
    install(store, FIRST)
    install(store, SECOND)
    flash.damage(area, 50, b"rot")
    store.start_trial()
    assert store.damage == ""
    assert Store(flash).record.active is B


@pytest.mark.parametrize("first", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("second", DAMAGES.values(), ids=DAMAGES)
def test_two_damaged_copies_are_never_taken_for_an_empty_store(
    first: Callable[[bytes], bytes], second: Callable[[bytes], bytes], flash: GuardedFlash
) -> None:
    install(Store(flash), FIRST)
    for area, damage in ((Area.RECORD_0, first), (Area.RECORD_1, second)):
        flash.damage(area, 0, damage(flash.read(area, 0, 1024)))
    before = flash.operations
    with pytest.raises(StorageError, match=r"record.0 .* and record.1 .*: put both back"):
        Store(flash)
    assert flash.operations == before


def test_a_store_that_goes_blank_while_it_is_open_is_not_an_empty_one(
    flash: GuardedFlash, store: Store
) -> None:
    install(store, FIRST)
    assert store.record.active is A
    for area in Area:
        flash.damage(area, 0, b"\xff" * flash.capacity_bytes(area))
    with pytest.raises(StorageError, match="put both back"):
        _ = store.record
    with pytest.raises(StorageError, match="put both back"):
        store.begin(SECOND.incoming)


@pytest.mark.parametrize("area", [Area.RECORD_0, Area.RECORD_1])
def test_a_store_of_a_newer_version_is_left_alone(
    area: Area, flash: GuardedFlash, store: Store
) -> None:
    install(store, FIRST)
    newer = bytearray(encode_record(store.record)[:-4])
    newer[4] = 2
    flash.damage(area, 0, bytes(newer) + struct.pack("<I", zlib.crc32(newer)))
    before = flash.operations
    with pytest.raises(StorageError, match=f"{area.value}: format 2; .*: update this one"):
        Store(flash)
    with pytest.raises(StorageError, match="newer"):
        store.begin(SECOND.incoming)
    assert flash.operations == before


def test_a_record_that_no_way_leads_to_is_a_damaged_one(flash: GuardedFlash, store: Store) -> None:
    install(store, FIRST)
    sound = store.record
    both = replace(sound, slots={A: sound.slots[A], B: sound.slots[A]})
    flash.damage(Area.RECORD_1, 0, encode_record(replace(both, sequence=9)))
    assert store.record == sound
    assert "both slots are confirmed" in store.damage
    assert Store(flash).record == sound


def test_the_sequence_ends_rather_than_wraps(flash: GuardedFlash, store: Store) -> None:
    install(store, FIRST)
    last = encode_record(replace(store.record, sequence=2**64 - 1))
    for area in (Area.RECORD_0, Area.RECORD_1):
        flash.damage(area, 0, last)
    with pytest.raises(StorageError, match="begin a new store"):
        Store(flash).begin(SECOND.incoming)
    assert Store(flash).record.active is A


def run_until_failure(operation: int, torn_bytes: int) -> None:
    """A road through all states, of which one operation of the storage fails."""
    flash = make_flash(seed=operation)
    store = Store(flash)
    install(store, FIRST)
    flash.fail_at(flash.operations + operation, torn_bytes)
    for step in (
        lambda: install(store, SECOND),
        store.start_trial,
        store.count_start,
        store.confirm,
        lambda: store.revert("command"),
    ):
        before = store.record
        try:
            step()
        except StorageError:
            # It has not happened, or, where several changes are one step, not all of it.
            assert store.record.active is before.active
            step()
    assert active_data(store) == FIRST.data
    assert active_data(Store(flash)) == FIRST.data


@pytest.mark.parametrize("torn_bytes", [0, 1, 200, 385, 600])
def test_a_failing_operation_is_told_and_what_was_asked_can_be_asked_again(
    torn_bytes: int,
) -> None:
    for operation in range(50):
        run_until_failure(operation, torn_bytes)


class SlowToRead(SimulatedFlash):
    """Waits in a slot until it is told to go on."""

    def __init__(self) -> None:
        super().__init__(page_bytes=PAGE, slot_bytes=4 * PAGE)
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def read(self, area: Area, offset: int, size: int) -> bytes:
        if area is Area.SLOT_B:
            self.reached.set()
            assert self.go_on.wait(60)
        return super().read(area, offset, size)


def test_who_looks_does_not_wait_for_who_installs() -> None:
    flash = SlowToRead()
    store = Store(flash)
    install(store, FIRST)
    send(store, SECOND)
    flash.reached.clear()
    flash.go_on.clear()
    installing = threading.Thread(target=store.finish, args=(SECOND.card,))
    installing.start()
    try:
        assert flash.reached.wait(60)
        assert store.record.active is A
        assert store.read(A, 0, 5) == FIRST.data[:5]
    finally:
        flash.go_on.set()
        installing.join()
    assert store.record.find(SlotState.PENDING) is B


def test_many_threads_count_each_start_once() -> None:
    store = Store(make_flash())
    install(store, FIRST)
    install(store, SECOND)
    store.start_trial()
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.extend(store.count_start() for _ in range(5)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 21))


class Unreadable(SimulatedFlash):
    """Areas that answer nothing."""

    def __init__(self) -> None:
        super().__init__(page_bytes=PAGE, slot_bytes=4 * PAGE)
        self.broken: set[Area] = set()

    def read(self, area: Area, offset: int, size: int) -> bytes:
        if area in self.broken:
            raise StorageError(f"{area.value}: gone")
        return super().read(area, offset, size)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        yield


def test_a_copy_that_cannot_be_read_is_a_damaged_one() -> None:
    flash = Unreadable()
    store = Store(flash)
    install(store, FIRST)
    for area in (Area.RECORD_0, Area.RECORD_1):
        flash.broken = {area}
        assert Store(flash).record.active is A
        assert f"{area.value} is damaged" in store.damage
    flash.broken = {Area.RECORD_0, Area.RECORD_1}
    with pytest.raises(StorageError, match="gone"):
        Store(flash)
    with pytest.raises(StorageError, match="gone"):
        _ = store.record


def test_every_storage_is_one(flash: GuardedFlash) -> None:
    storage: Storage = flash
    with storage.exclusive(), storage.exclusive():
        storage.sync()
