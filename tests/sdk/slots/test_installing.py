"""From a file, or from bytes received, to a pending slot; what is refused changes nothing."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bundle_vectors import VECTORS
from slot_bundles import SlotBundles, put, receive, states
from tiny_bundle import TinyBundle, shift_expected

from lineside.errors import (
    BundleError,
    BundleFormatError,
    DowngradeError,
    EngineError,
    IncompatibleBundleError,
    LinesideError,
    RefusedError,
    SelfTestError,
    StorageError,
    StoreBusyError,
    TargetError,
    UntrustedBundleError,
)
from lineside.installing import InstallTerms, check_bundle_file, finish_install, install_file
from lineside.installing.arrival import describe_file
from lineside.installing.room import check_room
from lineside.installing.turn import install_turn
from lineside.slots import FolderStorage, Incoming, SlotName, SlotState, Store, open_store

EMPTY, PENDING, TRIAL, CONFIRMED, REVERT = SlotState


@pytest.fixture
def bundles(tiny_bundle: TinyBundle, tmp_path: Path) -> SlotBundles:
    folder = tmp_path / "bundles"
    folder.mkdir()
    return SlotBundles(tiny=tiny_bundle, folder=folder)


@pytest.fixture
def store(bundles: SlotBundles, tmp_path: Path) -> Store:
    """With a confirmed bundle in slot a."""
    first = bundles.seal("1.0.0", security_counter=3)
    return put(tmp_path / "store", first, bundles.trust)


def file_of(store: Store, slot: SlotName) -> Path:
    assert isinstance(store.storage, FolderStorage)
    return store.storage.path_of(slot)


def content(store: Store) -> dict[str, bytes]:
    """All that a start of the station reads."""
    folder = file_of(store, SlotName.A).parent
    return {name: (folder / name).read_bytes() for name in ("record.0", "record.1", "slot.a")}


@contextmanager
def nothing_of_the_active_changes(store: Store) -> Iterator[None]:
    active, counters, kept = store.record.active, store.record.counters, content(store)["slot.a"]
    yield
    again = open_store(file_of(store, SlotName.A).parent)
    assert (again.record.active, again.record.counters) == (active, counters)
    assert content(store)["slot.a"] == kept


# --- what goes well -----------------------------------------------------------------------------


def test_the_first_is_confirmed_and_the_second_pending_beside_it(
    bundles: SlotBundles, tmp_path: Path
) -> None:
    store = open_store(tmp_path / "store", make=True)
    first = bundles.seal("1.0.0", security_counter=3)
    done = install_file(store, first, trust=bundles.trust)
    assert (done.slot, done.state, done.already) == (SlotName.A, CONFIRMED, False)
    assert (done.product, done.version) == ("tiny", "1.0.0")
    assert done.proof is not None
    assert (done.proof.bundle_hash, done.proof.selftest.passed) == (done.card.hash, True)
    assert store.record.counters == {bundles.tiny.key().public.key_id: 3}

    with nothing_of_the_active_changes(store):
        second = bundles.seal("1.1.0", security_counter=4)
        done = install_file(store, second, trust=bundles.trust, engine="onnxruntime")
    assert (done.slot, done.state) == (SlotName.B, PENDING)
    assert done.proof is not None
    assert done.proof.engine == "onnxruntime/fp32"
    assert file_of(store, SlotName.B).read_bytes() == second.read_bytes()
    assert store.record.slots[SlotName.B].card == done.card


def test_what_is_there_already_is_left_at_once_also_as_a_thin_copy(
    bundles: SlotBundles, store: Store
) -> None:
    second = bundles.seal("1.1.0", security_counter=3)
    put(file_of(store, SlotName.A).parent, second, bundles.trust)
    before = store.record
    first = bundles.folder / "1.0.0.lsb"
    offered = {
        first: (SlotName.A, CONFIRMED),
        bundles.thin(first, "openvino"): (SlotName.A, CONFIRMED),
        second: (SlotName.B, PENDING),
    }
    for path, where in offered.items():
        done = install_file(store, path, trust=bundles.trust)
        assert (done.slot, done.state, done.already, done.proof) == (*where, True, None)
    store.start_trial()
    assert install_file(store, second, trust=bundles.trust).state is TRIAL
    assert store.record.sequence == before.sequence + 1


def test_a_thin_copy_that_lacks_the_engine_asked_for_is_not_there_already(
    bundles: SlotBundles, tmp_path: Path
) -> None:
    whole = bundles.seal("1.0.0")
    store = put(tmp_path / "store", bundles.thin(whole, "onnxruntime"), bundles.trust)
    receive(store, whole)
    done = finish_install(store, trust=bundles.trust, engine="openvino")
    assert (done.already, states(store)) == (False, (CONFIRMED, PENDING))


def test_a_confirmed_bundle_that_the_disk_has_lost_is_replaced_by_itself(
    bundles: SlotBundles, store: Store
) -> None:
    with file_of(store, SlotName.A).open("r+b") as file:
        file.truncate(5000)
    done = install_file(store, bundles.folder / "1.0.0.lsb", trust=bundles.trust)
    assert (done.already, states(store)) == (False, (CONFIRMED, PENDING))


def test_what_was_cut_off_goes_on_where_it_was(bundles: SlotBundles, store: Store) -> None:
    large = bundles.seal("1.1.0", security_counter=3, padding_bytes=3_000_000)
    receive(store, large, until=2_500_000)
    told: list[tuple[int, int]] = []
    again = open_store(file_of(store, SlotName.A).parent)
    done = install_file(
        again, large, trust=bundles.trust, on_progress=lambda *bytes_: told.append(bytes_)
    )
    size_bytes = large.stat().st_size
    assert done.state is PENDING
    assert told == [(2 * 2**20, size_bytes), (size_bytes, size_bytes)]


def test_a_bundle_may_be_taken_from_the_slot_that_is_erased_for_it(
    bundles: SlotBundles, store: Store
) -> None:
    put(file_of(store, SlotName.A).parent, bundles.seal("1.1.0", security_counter=3), bundles.trust)
    store.start_trial()
    store.confirm()
    done = install_file(store, file_of(store, SlotName.A), trust=bundles.trust)
    assert (done.version, states(store)) == ("1.0.0", (PENDING, CONFIRMED))


# --- what is refused before a byte is written ----------------------------------------------------


def refused(kind: type[LinesideError], store: Store, path: Path, trust: object) -> str:
    """Nothing at all is changed; the words."""
    before = content(store)
    with pytest.raises(kind) as refusal:
        install_file(store, path, trust=trust, terms=InstallTerms(targets=("cpu",)))  # type: ignore[arg-type]
    assert type(refusal.value) is kind
    assert content(store) == before
    assert not file_of(store, SlotName.B).exists()
    return str(refusal.value)


def test_a_bundle_for_other_hardware(bundles: SlotBundles, store: Store) -> None:
    path = bundles.seal("1.1.0", security_counter=3, target="jetson")
    assert "/etc/lineside/target" in refused(TargetError, store, path, bundles.trust)


def test_a_bundle_for_a_newer_runtime(store: Store) -> None:
    path = VECTORS / "signed-newer-runtime.bin"
    words = refused(IncompatibleBundleError, store, path, VECTORS / "factory.pub")
    assert "update the device's runtime" in words


def test_a_file_that_was_cut_short(bundles: SlotBundles, store: Store) -> None:
    path = bundles.seal("1.1.0", security_counter=3)
    path.write_bytes(path.read_bytes()[:-100])
    assert "cut short" in refused(BundleFormatError, store, path, bundles.trust)


def test_a_stranger_s_bundle(bundles: SlotBundles, store: Store) -> None:
    stranger = bundles.tiny.reseal(bundles.folder / "a.lsb")
    words = refused(UntrustedBundleError, store, stranger, VECTORS / "stranger.pub")
    assert "not trusted here" in words


def test_a_bundle_below_what_was_confirmed(bundles: SlotBundles, store: Store) -> None:
    path = bundles.seal("0.9.0", security_counter=2)
    assert "3 or more" in refused(DowngradeError, store, path, bundles.trust)


def test_a_bundle_of_another_product_unless_it_is_meant(bundles: SlotBundles, store: Store) -> None:
    path = bundles.seal("1.1.0", security_counter=3, product="huge")
    assert "--other-product" in refused(RefusedError, store, path, bundles.trust)
    terms = InstallTerms(other_product=True, timeout_s=0.01)
    with pytest.raises(SelfTestError):  # that far it comes then
        install_file(store, path, trust=bundles.trust, terms=terms)


def test_a_thin_copy_of_which_nothing_runs_here(
    bundles: SlotBundles, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bundles.thin(bundles.seal("1.1.0", security_counter=3), "openvino")
    with pytest.raises(EngineError, match="onnxruntime/fp32: not in this thin copy"):
        install_file(store, path, trust=bundles.trust, engine="onnxruntime")
    # As where its module is not installed.
    monkeypatch.setattr("sys.path", [])
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    words = refused(EngineError, store, path, bundles.trust)
    assert "pip install 'lineside[openvino]'" in words


@pytest.mark.parametrize("state", [PENDING, TRIAL])
def test_another_while_one_is_pending_or_on_trial(
    bundles: SlotBundles, store: Store, state: SlotState
) -> None:
    second = bundles.seal("1.1.0", security_counter=3)
    put(file_of(store, SlotName.A).parent, second, bundles.trust)
    if state is TRIAL:
        store.start_trial()
    before = store.record
    remedy = "cancel it by revert" if state is PENDING else "confirm or revert it first"
    with pytest.raises(RefusedError, match=remedy):
        install_file(store, bundles.seal("1.2.0", security_counter=3), trust=bundles.trust)
    assert store.record == before


def test_a_second_install_at_the_same_time(bundles: SlotBundles, store: Store) -> None:
    path = bundles.seal("1.1.0", security_counter=3)
    with install_turn(file_of(store, SlotName.A).parent):
        words = refused(StoreBusyError, store, path, bundles.trust)
        with pytest.raises(StoreBusyError):
            finish_install(store, trust=bundles.trust)
    assert "wait until that is done" in words


def test_what_is_larger_than_the_disk_names_the_megabytes(store: Store) -> None:
    with pytest.raises(StorageError, match=r"\d{9} MB are lacking: .* make room"):
        check_room(store, 10**15)
    check_room(store, 10_000)


def test_a_file_that_goes_away(bundles: SlotBundles, store: Store) -> None:
    assert "nowhere.lsb" in refused(
        BundleError, store, bundles.folder / "nowhere.lsb", bundles.trust
    )
    with pytest.raises(BundleError, match=r"nowhere\.lsb: cannot be read"):
        describe_file(bundles.folder / "nowhere.lsb")


def test_a_machine_is_asked_for_its_words(
    bundles: SlotBundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bundles.seal("1.1.0", target="jetson")
    with pytest.raises(TargetError):
        check_bundle_file(path, trust=bundles.trust)
    monkeypatch.setenv("LINESIDE_TARGET", "jetson")
    checked = check_bundle_file(path, trust=bundles.trust)
    assert (checked.product, checked.version) == ("tiny", "1.1.0")
    assert checked.card.size_bytes == path.stat().st_size


# --- what is refused afterwards, and forgotten ---------------------------------------------------


def nothing_comes_in(store: Store) -> bool:
    return all(slot.incoming is None for slot in store.record.slots.values())


def test_what_does_not_pass_its_self_test_here(
    bundles: SlotBundles, store: Store, tmp_path: Path
) -> None:
    path = bundles.tiny.reseal_golden(
        tmp_path / "shifted.lsb", lambda sealed: shift_expected(sealed, 0.2)
    )
    # Of security counter 0, and so in a store of its own.
    with pytest.raises(SelfTestError, match=r"drifts 0\.2"):
        install_file(open_store(tmp_path / "new", make=True), path, trust=bundles.trust)
    new = open_store(tmp_path / "new")
    assert nothing_comes_in(new)
    assert new.record.active is None


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """The kernel refuses larger files, as a disk that is full refuses more bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_in_the_middle(bundles: SlotBundles, store: Store) -> None:
    large = bundles.seal("1.1.0", security_counter=3, padding_bytes=2_500_000)
    with (
        nothing_of_the_active_changes(store),
        file_size_limit(2_000_000),
        pytest.raises(StorageError, match=r"slot\.b"),
    ):
        install_file(store, large, trust=bundles.trust)
    assert nothing_comes_in(store)
    receive(store, bundles.seal("1.2.0", security_counter=3))  # and the next one is taken


# --- bytes that came by another way -------------------------------------------------------------


def test_bytes_that_were_received_are_proved_and_pending(
    bundles: SlotBundles, store: Store
) -> None:
    path = bundles.seal("1.1.0", security_counter=3)
    receive(store, path)
    with nothing_of_the_active_changes(store):
        done = finish_install(store, trust=bundles.trust)
    assert (done.slot, done.state, done.version) == (SlotName.B, PENDING, "1.1.0")
    with pytest.raises(RefusedError, match="nothing is being installed"):
        finish_install(store, trust=bundles.trust)


def test_the_rest_may_still_come(bundles: SlotBundles, store: Store) -> None:
    path = bundles.seal("1.1.0", security_counter=3)
    receive(store, path, until=5000)
    with pytest.raises(RefusedError, match=r"5,000 of .* send the rest"):
        finish_install(store, trust=bundles.trust)
    store.write(5000, path.read_bytes()[5000:])
    assert store.read_incoming(0, 2**20) == path.read_bytes()


def test_what_is_not_what_was_announced_is_forgotten(bundles: SlotBundles, store: Store) -> None:
    data = bundles.seal("1.1.0", security_counter=3).read_bytes()
    store.begin(Incoming(sha256=bytes(32), size_bytes=len(data)))
    store.write(0, data)
    with (
        nothing_of_the_active_changes(store),
        pytest.raises(StorageError, match="send it again"),
    ):
        finish_install(store, trust=bundles.trust)
    assert nothing_comes_in(store)


@pytest.mark.parametrize(
    ("kind", "identity", "until"),
    [
        (BundleFormatError, {"security_counter": 3}, -100),
        (DowngradeError, {"security_counter": 2}, None),
        (TargetError, {"security_counter": 3, "target": "npu"}, None),
        (RefusedError, {"security_counter": 3, "product": "huge"}, None),
    ],
)
def test_what_was_sent_is_held_against_the_same_rules_and_forgotten(
    bundles: SlotBundles,
    store: Store,
    kind: type[LinesideError],
    identity: dict[str, object],
    until: int | None,
) -> None:
    path = bundles.seal("1.1.0", **identity)
    path.write_bytes(path.read_bytes()[:until])
    receive(store, path)
    with nothing_of_the_active_changes(store), pytest.raises(kind):
        finish_install(store, trust=bundles.trust, terms=InstallTerms(targets=("cpu",)))
    assert nothing_comes_in(store)


def test_what_was_sent_and_was_there_already_is_forgotten(
    bundles: SlotBundles, store: Store
) -> None:
    receive(store, bundles.folder / "1.0.0.lsb")
    done = finish_install(store, trust=bundles.trust)
    assert (done.slot, done.state, done.already) == (SlotName.A, CONFIRMED, True)
    assert nothing_comes_in(store)


def test_another_that_is_begun_meanwhile_is_not_taken_for_it(
    bundles: SlotBundles, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Begun within the golden self-test, by what stands there for an engine.
    folder = file_of(store, SlotName.A).parent
    package = tmp_path / "engines" / "onnxruntime"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import os, sys\nfrom lineside.slots import Incoming, open_store\n"
        f"open_store({str(folder)!r}).begin(Incoming(sha256=bytes(32), size_bytes=7))\n"
        f"sys.path.remove({str(package.parent)!r})\ndel sys.modules['onnxruntime']\n"
        "import onnxruntime\n",
        "utf-8",
    )
    monkeypatch.syspath_prepend(str(package.parent))
    path = bundles.seal("1.1.0", security_counter=3)
    with (
        nothing_of_the_active_changes(store),
        pytest.raises(RefusedError, match="another bundle was begun"),
    ):
        install_file(store, path, trust=bundles.trust, engine="onnxruntime")
    (incoming,) = [slot.incoming for slot in store.record.slots.values() if slot.incoming]
    assert incoming.size_bytes == 7
