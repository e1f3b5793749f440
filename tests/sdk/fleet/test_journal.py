"""The state file of a rollout: durable, bound to bundle and stations, one process's at a time."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.errors import ConfigurationError, InputDataError, RefusedError, StorageError
from lineside.fleet import (
    Journal,
    Phase,
    Progress,
    RolloutState,
    Undo,
    fresh,
    state_path,
)

STATIONS = ("a/b/c", "a/b/d")
HASH = "ab" * 32

PROGRESS = st.builds(
    Progress,
    phase=st.sampled_from(Phase),
    reason=st.text(max_size=20),
    is_ours=st.booleans(),
    is_unsure=st.booleans(),
    was_marked=st.booleans(),
    placed_ms=st.integers(0, 2**53),
    undo=st.sampled_from(Undo),
    undo_reason=st.text(max_size=20),
)


def open_journal(
    path: Path, *, bundle_hash: str = HASH, stations: tuple[str, ...] = STATIONS
) -> Journal:
    return Journal(
        path, bundle_hash=bundle_hash, product="joint", version="1.2.0", stations=stations
    )


@settings(max_examples=25)  # each is flushed to the disk
@given(st.dictionaries(st.sampled_from(STATIONS), PROGRESS, min_size=2), st.text(), st.booleans())
def test_what_was_written_is_read_whole(
    tmp_path_factory: pytest.TempPathFactory,
    stations: dict[str, Progress],
    stopped: str,
    is_undoing: bool,
) -> None:
    path = tmp_path_factory.mktemp("rollout") / "joint.rollout.json"
    state = RolloutState(stations=stations, stopped=stopped, is_undoing=is_undoing)
    with open_journal(path) as journal:
        journal.write(state)
    with open_journal(path) as journal:
        assert journal.read() == state


def test_without_a_file_it_begins(tmp_path: Path) -> None:
    with open_journal(tmp_path / "joint.rollout.json") as journal:
        assert journal.read() is None


def test_the_order_of_the_stations_may_change(tmp_path: Path) -> None:
    path = tmp_path / "joint.rollout.json"
    with open_journal(path) as journal:
        journal.write(fresh(STATIONS))
    with open_journal(path, stations=STATIONS[::-1]) as journal:
        assert journal.read() == fresh(STATIONS)


def test_nothing_is_written_where_nothing_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "joint.rollout.json"
    with open_journal(path) as journal:
        journal.write(fresh(STATIONS))
        before = path.stat().st_ino
        journal.write(fresh(STATIONS))
        assert path.stat().st_ino == before


def test_another_bundle_is_refused_and_the_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "joint.rollout.json"
    with open_journal(path) as journal:
        journal.write(fresh(STATIONS))
    before = path.read_bytes()

    with (
        open_journal(path, bundle_hash="cd" * 32) as journal,
        pytest.raises(
            RefusedError, match=r"rollout of joint 1\.2\.0 \(abababababababab\).*--state"
        ),
    ):
        journal.read()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("stations", "words"),
    [(STATIONS[:1], "a/b/d is only there"), ((*STATIONS, "a/b/e"), "a/b/e is not there")],
)
def test_other_stations_are_refused(tmp_path: Path, stations: tuple[str, ...], words: str) -> None:
    path = tmp_path / "joint.rollout.json"
    with open_journal(path) as journal:
        journal.write(fresh(STATIONS))

    with open_journal(path, stations=stations) as journal, pytest.raises(RefusedError, match=words):
        journal.read()


def test_a_second_rollout_over_one_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "joint.rollout.json"
    with open_journal(path), pytest.raises(RefusedError, match="is running"):
        open_journal(path)
    open_journal(path).close()


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"[]", b"\xff", b'{"v": 1}', b"[" * 100_000),
        b'{"v": 1, "bundle": "", "product": "", "version": "", "state": {"stations": {}}, "x": 1}',
    ],
)
def test_what_is_no_state_is_refused_with_the_remedy(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "joint.rollout.json"
    path.write_bytes(data)

    with open_journal(path) as journal, pytest.raises(InputDataError, match="move it away"):
        journal.read()


def test_a_newer_version_is_said(tmp_path: Path) -> None:
    path = tmp_path / "joint.rollout.json"
    path.write_bytes(msgspec.json.encode({"v": 2, "news": True}))

    with open_journal(path) as journal, pytest.raises(InputDataError, match="a newer Lineside"):
        journal.read()


def test_a_disk_that_takes_nothing_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "joint.rollout.json"
    with open_journal(path) as journal:
        journal.write(fresh(STATIONS))
        before = path.read_bytes()

        def full(_descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="No space left"):
            journal.write(RolloutState(stations=fresh(STATIONS).stations, stopped="x"))
        assert path.read_bytes() == before
        assert {file.name for file in tmp_path.iterdir()} == {path.name, f"{path.name}.lock"}


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="--state"):
        open_journal(tmp_path / "none" / "joint.rollout.json")


def test_it_lies_beside_the_bundle_unless_somebody_says_where(tmp_path: Path) -> None:
    bundle = tmp_path / "joint.lsb"

    assert state_path(bundle, None) == tmp_path / "joint.rollout.json"
    assert state_path(bundle, tmp_path / "x") == tmp_path / "x"
    with pytest.raises(ConfigurationError, match="is the bundle"):
        state_path(bundle, bundle)
