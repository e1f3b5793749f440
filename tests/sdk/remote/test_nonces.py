"""The memory of nonces: durable, torn or not, bounded, and no clock leads around it."""

from __future__ import annotations

import os
import resource
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from lineside.errors import StorageError
from lineside.remote.nonces import RECORD_BYTES, NonceFile

NOW_MS = 1_763_740_800_000
LATER_MS = NOW_MS + 60_000


def nonce(number: int) -> bytes:
    return number.to_bytes(16, "big")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.sqlite.nonces"


def filled(path: Path, count: int) -> bytes:
    memory = NonceFile(path)
    for number in range(count):
        assert memory.remember(nonce(number), LATER_MS, NOW_MS) == "new"
    memory.close()
    return path.read_bytes()


def known(path: Path, count: int) -> list[bool]:
    memory = NonceFile(path)
    found = [memory.remember(nonce(one), LATER_MS, NOW_MS) == "known" for one in range(count)]
    memory.close()
    return found


def test_what_was_heard_is_known_also_after_a_restart(path: Path) -> None:
    memory = NonceFile(path)
    assert memory.remember(nonce(1), LATER_MS, NOW_MS) == "new"
    assert memory.remember(nonce(1), LATER_MS, NOW_MS) == "known"
    # No close: the process is killed.
    again = NonceFile(path)
    assert again.remember(nonce(1), LATER_MS, NOW_MS) == "known"
    assert again.remember(nonce(2), LATER_MS, NOW_MS) == "new"


def test_a_record_has_32_bytes_behind_a_first_one(path: Path) -> None:
    data = filled(path, 3)
    assert len(data) == 4 * RECORD_BYTES
    assert data[:4] == b"LSH1"
    assert data[RECORD_BYTES : RECORD_BYTES + 20] == b"LSN1" + nonce(0)


@pytest.mark.parametrize("rest", ["cut", "zeros", "garbage"])
def test_a_tail_torn_at_any_byte_loses_only_what_was_never_done(path: Path, rest: str) -> None:
    data = filled(path, 3)
    for kept in range(RECORD_BYTES):
        lost = RECORD_BYTES - kept
        tail = {"cut": b"", "zeros": bytes(lost), "garbage": b"\xa5" * lost}[rest]
        path.write_bytes(data[: len(data) - lost] + tail)
        assert known(path, 4) == [True, True, False, False], kept
        # What was written behind it is whole.
        assert known(path, 4) == [True] * 4, kept


def test_a_first_record_torn_at_any_byte_is_an_empty_memory(path: Path) -> None:
    data = filled(path, 0)
    for kept in range(RECORD_BYTES):
        path.write_bytes(data[:kept])
        assert known(path, 1) == [False]
        assert known(path, 1) == [True]


def test_damage_before_the_end_is_told_with_its_remedy(path: Path) -> None:
    data = bytearray(filled(path, 4))
    data[RECORD_BYTES + 7] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageError, match=r"nonces: damaged at byte 32: .*Delete the file once"):
        NonceFile(path)
    assert path.read_bytes() == bytes(data)


def test_it_is_bounded_and_full_of_what_has_not_expired_it_says_so(path: Path) -> None:
    memory = NonceFile(path, capacity=8)
    answers = [memory.remember(nonce(number), LATER_MS, NOW_MS) for number in range(9)]
    assert answers == ["new"] * 8 + ["full"]
    # Expired, they make room, and are not taken for new ones.
    after_ms = LATER_MS + 1
    for number in range(100, 200):
        at_ms = after_ms + number
        assert memory.remember(nonce(number), at_ms + 5, at_ms) == "new"
        assert path.stat().st_size <= 16 * RECORD_BYTES
    memory.close()
    assert NonceFile(path, capacity=8).remember(nonce(199), after_ms + 204, 0) == "known"


def test_a_clock_that_goes_back_lets_nothing_repeat(path: Path) -> None:
    memory = NonceFile(path, capacity=4)
    for number in range(4):
        memory.remember(nonce(number), LATER_MS, NOW_MS)
    # All of them have expired, and are dropped; then the clock goes back.
    assert memory.remember(nonce(4), LATER_MS + 60_000, LATER_MS) == "new"
    for used in (memory, NonceFile(path, capacity=4)):
        assert used.remember(nonce(0), LATER_MS, NOW_MS) in ("forgotten", "known")
    assert memory.remember(nonce(5), LATER_MS, NOW_MS) == "forgotten"
    assert memory.remember(nonce(5), LATER_MS + 1, NOW_MS) == "new"


def test_a_file_that_was_deleted_is_made_again_with_all_that_is_known(path: Path) -> None:
    memory = NonceFile(path)
    memory.remember(nonce(0), LATER_MS, NOW_MS)
    path.unlink()
    memory.remember(nonce(1), LATER_MS, NOW_MS)
    assert known(path, 3) == [True, True, False]


def test_a_full_disk_remembers_nothing_and_recovers(path: Path) -> None:
    memory = NonceFile(path)
    memory.remember(nonce(0), LATER_MS, NOW_MS)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Half a record fits: what a disk does that runs full in the middle of one.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * RECORD_BYTES + 16, before[1]))
    try:
        with pytest.raises(StorageError, match=r"nonces: cannot be written"):
            memory.remember(nonce(1), LATER_MS, NOW_MS)
        with pytest.raises(StorageError):
            memory.remember(nonce(2), LATER_MS, NOW_MS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert memory.remember(nonce(1), LATER_MS, NOW_MS) == "new"
    assert known(path, 3) == [True, True, False]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        NonceFile(tmp_path / "nowhere" / "x.nonces")
    (tmp_path / "folder.nonces").mkdir()
    with pytest.raises(StorageError, match=r"folder\.nonces"):
        NonceFile(tmp_path / "folder.nonces")


class Remembering(RuleBasedStateMachine):
    """Whatever clock and restarts do, no command is done twice."""

    @initialize(folder=st.uuids())
    def begin(self, folder: object) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name) / "x.nonces"
        self._memory = NonceFile(self._path, capacity=4)
        self._done: set[int] = set()

    @rule(number=st.integers(0, 30), now=st.integers(0, 40))
    def hear(self, number: int, now: int) -> None:
        """A command that expires at its own number."""
        if number > now and self._memory.remember(nonce(number), number, now) == "new":
            assert number not in self._done
            self._done.add(number)

    @rule(torn=st.integers(0, RECORD_BYTES - 1))
    def restart(self, torn: int) -> None:
        self._memory.close()
        with self._path.open("ab") as file:
            file.write(os.urandom(torn))
        self._memory = NonceFile(self._path, capacity=4)

    def teardown(self) -> None:
        self._memory.close()
        self._folder.cleanup()


TestRemembering = Remembering.TestCase
TestRemembering.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)


@given(st.binary(max_size=200))
@settings(max_examples=30, deadline=None)
def test_any_bytes_are_read_or_named(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.nonces"
        path.write_bytes(data)
        try:
            NonceFile(path).close()
        except StorageError as error:
            assert "damaged" in str(error)
            assert len(data) > RECORD_BYTES
