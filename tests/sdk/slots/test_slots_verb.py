"""`lineside slots`: what an engineer types, reads, and gets as an exit code."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from slot_bundles import SlotBundles, put, receive, states
from tiny_bundle import TinyBundle

from lineside.bundle import load_trust, revoke_key
from lineside.cli.slots import slots
from lineside.doctor import Check, State
from lineside.doctor.slots import active_file, check_store
from lineside.doctor.target import check_bundle_target, check_machine_targets
from lineside.errors import LinesideError
from lineside.slots import SlotState, Store, open_store

EMPTY, PENDING, TRIAL, CONFIRMED, REVERT = SlotState


@pytest.fixture
def bundles(tiny_bundle: TinyBundle, tmp_path: Path) -> SlotBundles:
    folder = tmp_path / "bundles"
    folder.mkdir()
    return SlotBundles(tiny=tiny_bundle, folder=folder)


@pytest.fixture
def folder(bundles: SlotBundles, tmp_path: Path) -> Path:
    """Of a store whose slot a is confirmed."""
    put(tmp_path / "store", bundles.seal("1.0.0", security_counter=3), bundles.trust)
    return tmp_path / "store"


@pytest.fixture
def two(bundles: SlotBundles, folder: Path) -> Store:
    """The same, and slot b is pending."""
    return put(folder, bundles.seal("1.1.0", security_counter=4), bundles.trust)


def call(*words: object) -> Result:
    return CliRunner().invoke(slots, [str(word) for word in words])


def succeed(*words: object) -> str:
    done = call(*words)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def refuse(code: int, *words: object) -> str:
    """Refused with this exit code; the words."""
    error = call(*words).exception
    assert isinstance(error, LinesideError)
    assert error.exit_code == code
    return str(error)


# --- install ------------------------------------------------------------------------------------


def test_install_says_where_it_went_and_what_proved_it(
    bundles: SlotBundles, tmp_path: Path
) -> None:
    store = ("--store", tmp_path / "store", "--trust", bundles.trust)
    first = bundles.seal("1.0.0", security_counter=3)
    words = refuse(7, "install", first, *store)
    assert "no such folder" in words
    assert "--make" in words
    told = succeed("install", first, *store, "--make")
    assert "tiny 1.0.0 is confirmed in slot a: the first of this store" in told
    assert "proved by onnxruntime/fp32: 4 golden frames" in told
    again = json.loads(succeed("install", first, *store, "--json"))
    assert (again["slot"], again["state"], again["already"]) == ("a", "confirmed", True)
    assert (again["security_counter"], again["proof"]) == (3, None)
    assert "nothing was done" in succeed("install", first, *store)


def test_on_a_terminal_it_is_seen_that_the_self_test_goes_on(
    bundles: SlotBundles, folder: Path
) -> None:
    file = bundles.seal("1.1.0", security_counter=3)
    typed = ["slots", "install", str(file), "--store", str(folder), "--trust", str(bundles.trust)]
    ours, theirs = pty.openpty()
    told = b""
    with closing_descriptor(ours):
        with closing_descriptor(theirs):
            done = subprocess.Popen(
                [sys.executable, "-c", "from lineside.cli.main import main; main()", *typed],
                stderr=theirs,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        with contextlib.suppress(OSError):  # as a terminal says that nobody writes any more
            while piece := os.read(ours, 4096):
                told += piece
    assert b"is pending in slot b" in done.communicate(timeout=60)[0]
    assert re.search(rb"\rcopied 0.0 of 0.0 MB, proving it: 0 s.*\n$", told, re.DOTALL), told


@contextlib.contextmanager
def closing_descriptor(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)


def test_a_refusal_has_its_own_exit_code(
    bundles: SlotBundles, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINESIDE_TARGET", "cpu")
    store = ("--store", folder, "--trust", bundles.trust)
    sealed = {
        5: bundles.seal("1.1.0", security_counter=3, target="jetson"),
        9: bundles.seal("1.2.0", security_counter=3, product="huge"),
        7: bundles.folder / "1.0.0.lsb",
    }
    assert "LINESIDE_TARGET" in refuse(5, "install", sealed[5], *store)
    assert "--other-product" in refuse(9, "install", sealed[9], *store)
    with (folder / ".install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "somebody else installs" in refuse(7, "install", sealed[7], *store)
    assert states(open_store(folder)) == (CONFIRMED, EMPTY)


def test_a_store_of_a_newer_version_is_left_alone(bundles: SlotBundles, folder: Path) -> None:
    for name in ("record.0", "record.1"):
        data = bytearray((folder / name).read_bytes())
        struct.pack_into("<H", data, 4, 2)
        struct.pack_into("<I", data, 380, zlib.crc32(data[:380]))
        (folder / name).write_bytes(data)
    kept = {file.name: file.read_bytes() for file in folder.iterdir()}
    first = bundles.folder / "1.0.0.lsb"
    for words in (
        ("install", first, "--trust", bundles.trust),
        ("list",),
        ("confirm",),
        ("revert",),
    ):
        assert "newer Lineside: update" in refuse(7, *words, "--store", folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == kept
    (check,) = check_store(folder, load_trust(bundles.trust))
    assert check.state is State.MISSING
    assert active_file(folder) is None


# --- list ---------------------------------------------------------------------------------------


def test_list_shows_both_slots_and_what_the_record_holds(
    bundles: SlotBundles, folder: Path, two: Store
) -> None:
    two.start_trial()
    two.count_start()
    told = succeed("list", "--store", folder, "--trust", bundles.trust)
    key_id = bundles.tiny.key().public.key_id.hex()
    first, second = (slot.card for slot in two.record.slots.values())
    assert first is not None
    assert second is not None
    for row in (
        rf"a     confirmed  tiny     1.0.0    {first.hash[:16]}  {key_id[:16]}        3",
        rf"b     trial      tiny     1.1.0    {second.hash[:16]}  {key_id[:16]}        4",
        "slot b is in use, on trial, the station started 1 time(s) since",
        f"counter 3 or more is taken of key {key_id[:16]}",
    ):
        assert row in told
    two.revert("engine")
    told = succeed("list", "--store", folder, "--trust", bundles.trust)
    assert f"last revert: from {second.hash[:16]}, engine\n" in f"{told}\n"
    assert "slot a is in use\n" in told
    put(folder, bundles.folder / "1.1.0.lsb", bundles.trust).start_trial()
    two.confirm()
    told = succeed("list", "--store", folder, "--trust", bundles.trust)
    again = "; since then confirmed in slot b again"
    assert f"last revert: from {second.hash[:16]}, engine{again}" in told


def test_list_gives_all_of_it_to_programs(bundles: SlotBundles, folder: Path) -> None:
    receive(open_store(folder), bundles.seal("1.1.0"), until=5000)
    found = json.loads(succeed("list", "--store", folder, "--trust", bundles.trust, "--json"))
    size_bytes = (bundles.folder / "1.0.0.lsb").stat().st_size
    a, b = found["slots"]
    assert (a["whole"], a["active"], a["size_bytes"]) == ("yes", True, size_bytes)
    assert (a["product"], a["version"], a["key"]) == ("tiny", "1.0.0", bundles.trust.stem)
    assert (b["state"], b["bundle"], b["whole"]) == ("empty", "", "")
    assert b["size_bytes"] == (bundles.folder / "1.1.0.lsb").stat().st_size
    assert found["counters"] == {a["key_id"]: 3}
    assert (found["active"], found["reverted"], found["trial_starts"]) == ("a", None, None)
    assert "empty, filling" in succeed("list", "--store", folder, "--trust", bundles.trust)


def test_list_names_what_is_not_whole(bundles: SlotBundles, folder: Path, two: Store) -> None:
    (folder / "slot.a").write_bytes((folder / "slot.b").read_bytes())
    with (folder / "slot.b").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    told = succeed("list", "--store", folder, "--trust", bundles.trust)
    assert "slot a: " in told
    assert "which the record does not know" in told
    assert "is not the sealed one" in told
    checks = check_store(folder, load_trust(bundles.trust))
    assert [check.state for check in checks[:2]] == [State.MISSING, State.WARNING]
    assert all(check.remedy for check in checks[:2])


def test_list_works_without_keys_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("LINESIDE_TRUST", raising=False)
    monkeypatch.setattr("lineside.cli.options.TRUST_FOLDERS", (str(tmp_path / "none"),))
    told = succeed("list", "--store", folder)
    assert "unknown" in told
    assert "no key is trusted here" in told


def test_a_bundle_of_a_key_that_was_revoked_is_not_whole(
    bundles: SlotBundles, folder: Path, tmp_path: Path
) -> None:
    trust = tmp_path / "trust"
    trust.mkdir()
    shutil.copy(bundles.trust, trust / "factory.pub")
    revoke_key(trust, bundles.tiny.key().public)
    # Beside it a key that counts, since a folder without one is refused as a whole.
    other = tmp_path / "other.pub"
    shutil.copy(Path(__file__).parents[1] / "bundle_vectors" / "stranger.pub", trust / other.name)
    assert "was revoked" in succeed("list", "--store", folder, "--trust", trust)


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.png").touch()
    assert "is no store" in refuse(7, "list", "--store", tmp_path)


# --- confirm and revert -------------------------------------------------------------------------


def test_confirm_and_back_again(bundles: SlotBundles, folder: Path, two: Store) -> None:
    assert "no bundle is on trial" in refuse(9, "confirm", "--store", folder)
    first, second = (slot.card.hash[:16] for slot in two.record.slots.values() if slot.card)
    two.start_trial()
    told = succeed("confirm", "--store", folder)
    assert told == (
        f"slot b (bundle {second}) is confirmed; slot a (bundle {first}) can be taken back "
        "(lineside slots revert)\n"
    )
    assert "4 or more" in refuse(5, "revert", "--store", folder)  # a downgrade, from 4 to 3
    assert states(two) == (REVERT, CONFIRMED)


def test_revert_leaves_the_trial_with_a_reason(folder: Path, two: Store) -> None:
    first, second = (slot.card.hash for slot in two.record.slots.values() if slot.card)
    two.start_trial()
    told = succeed("revert", "--store", folder, "--reason", "too-many-rejects", "--json")
    assert json.loads(told) == {
        "active": "a",
        "slots": {
            "a": {"state": "confirmed", "bundle": first},
            "b": {"state": "empty", "bundle": None},
        },
        "reverted": {"bundle": second, "reason": "too-many-rejects"},
    }
    assert "nothing to go back to" in refuse(9, "revert", "--store", folder)


def test_revert_cancels_what_is_pending(folder: Path, two: Store) -> None:
    first, second = (slot.card.hash[:16] for slot in two.record.slots.values() if slot.card)
    told = succeed("revert", "--store", folder)
    assert told == f"bundle {second} was left; slot a (bundle {first}) is in use\n"


def test_revert_leaves_the_confirmed_one_only_for_one_that_judges_here(
    bundles: SlotBundles, folder: Path
) -> None:
    store = put(folder, bundles.seal("1.1.0", security_counter=3), bundles.trust)
    store.start_trial()
    store.confirm()
    stranger = Path(__file__).parents[1] / "bundle_vectors" / "stranger.pub"
    refuse(5, "revert", "--store", folder, "--trust", stranger)
    file = folder / "slot.a"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refuse(5, "revert", "--store", folder, "--trust", bundles.trust)
    file.write_bytes(bundles.seal("0.9.0", security_counter=3).read_bytes())
    assert "exchanged" in refuse(5, "revert", "--store", folder, "--trust", bundles.trust)
    assert states(store) == (REVERT, CONFIRMED)
    file.write_bytes(whole)
    assert "slot a" in succeed("revert", "--store", folder, "--trust", bundles.trust)
    assert states(store) == (CONFIRMED, EMPTY)


@pytest.mark.parametrize("reason", ["", "a" * 25, "zu spät", "two\nlines", "two words"])
def test_a_reason_is_a_short_word(folder: Path, reason: str) -> None:
    done = call("revert", "--store", folder, "--reason", reason)
    assert done.exit_code == 2
    assert "at most 24 ASCII letters" in done.output


# --- doctor -------------------------------------------------------------------------------------


def test_doctor_looks_at_the_store(bundles: SlotBundles, folder: Path, two: Store) -> None:
    two.start_trial()
    trusted = load_trust(bundles.trust)
    checks = check_store(folder, trusted)
    assert [check.state for check in checks] == [State.OK, State.OK]
    assert checks[0].found == "slot b: tiny 1.1.0, trial; slot a: confirmed"
    assert active_file(folder) == folder / "slot.b"


def test_doctor_misses_an_empty_store(bundles: SlotBundles, tmp_path: Path) -> None:
    open_store(tmp_path / "store", make=True)
    trusted = load_trust(bundles.trust)
    for folder in (tmp_path / "store", tmp_path / "nowhere"):
        check = check_store(folder, trusted)[0]
        assert (check.topic, check.state) == ("slots", State.MISSING)
        assert "lineside slots install" in check.remedy


def test_doctor_warns_of_a_record_that_cannot_be_healed(bundles: SlotBundles, folder: Path) -> None:
    (folder / "record.1").unlink()
    (folder / "record.1").mkdir()
    checks = check_store(folder, load_trust(bundles.trust))
    assert (checks[0].state, checks[1].state) == (State.OK, State.WARNING)
    assert "record.1" in checks[1].found


def test_doctor_says_what_this_machine_is_and_warns_of_what_was_made_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LINESIDE_TARGET", "jetson, cpu")
    assert check_machine_targets() == Check(topic="target", state=State.OK, found="jetson, cpu")
    assert check_bundle_target("cpu", "a.lsb") == []
    (check,) = check_bundle_target("npu", "a.lsb")
    assert (check.state, "was made for npu" in check.found) == (State.WARNING, True)
    monkeypatch.setenv("LINESIDE_TARGET", "Jetson!")
    assert check_machine_targets().state is State.WARNING
    assert check_bundle_target("npu", "a.lsb") == []
