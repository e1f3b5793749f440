"""A station over a store: what it starts with, what it takes into use, what it leaves."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from toy_slots import Bench, ToyStore

from lineside.errors import (
    BundleError,
    ConfigurationError,
    DowngradeError,
    EngineError,
    LinesideError,
    RefusedError,
    SelfTestError,
    StorageError,
)
from lineside.slots import Area, FolderStorage, SlotName, SlotState, open_store
from lineside.station import ModelCard, Product, Products
from lineside.station.arriving import Arrivals
from lineside.station.slotstart import Occupant
from lineside.station.slotting import Slotting
from lineside.station.slotwords import Surroundings
from lineside.station.trial import TrialProgress
from lineside.station.trialfile import TRIAL_FILE, TrialFile
from lineside.verdict import Evaluation, Reason

HIGH = {"limit": 200.0}
"""Of a bundle that judges parts of level 150 otherwise than the first one."""


@pytest.fixture
def toy(tmp_path: Path) -> ToyStore:
    """A store with a confirmed bundle 1, which judges 128 and more as not OK."""
    made = ToyStore(tmp_path / "slots")
    made.install("1")
    return made


def bench(toy: ToyStore, **trial: object) -> Bench:
    return Bench(toy, toy.keeper(**trial))


def look_until(made: Bench, condition: Callable[[], bool]) -> None:
    """As the station's thread does, without its second between two looks."""
    deadline_s = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < deadline_s, "did not come true in time"
        made.keeper.look(0.0)
        time.sleep(0.002)


def switched(toy: ToyStore, **trial: object) -> Bench:
    """A running station that has just taken bundle 2 on trial."""
    made = bench(toy, **trial)
    toy.install("2", **HIGH)
    look_until(made, lambda: made.version() == "2")
    return made


# At the start.


def test_an_empty_store_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="no bundle is installed there: lineside slots install"):
        ToyStore(tmp_path / "slots").keeper()


def test_the_confirmed_bundle_judges(toy: ToyStore) -> None:
    made = bench(toy)
    assert (made.version(), toy.states) == ("1", ("confirmed", "empty"))
    assert made.inspect(level=150).evaluation is Evaluation.NOT_OK
    words = made.keeper.words
    assert (words.slot, words.state, words.next, words.reverted) == ("a", "confirmed", "", "")
    with pytest.raises(RefusedError, match="no bundle is on trial"):
        made.slotting.confirm()


def test_a_pending_bundle_is_on_trial_before_it_is_opened(toy: ToyStore) -> None:
    toy.install("2", **HIGH)
    states: list[tuple[str, tuple[str, str]]] = []
    toy.before_load = lambda version: states.append((version, toy.states))
    made = bench(toy)
    assert states == [("2", ("confirmed", "trial")), ("1", ("confirmed", "trial"))]
    assert toy.store.record.starts == 0  # it counts what comes after
    assert made.inspect(level=150).evaluation is Evaluation.OK
    assert (made.keeper.words.slot, made.keeper.words.state) == ("b", "trial")


def test_a_start_is_counted_before_the_model_is_opened_and_too_many_take_it_back(
    toy: ToyStore,
) -> None:
    toy.tried("2")
    starts: list[int] = []

    def die(version: str) -> None:
        if version == "2":
            starts.append(toy.store.record.starts)
            raise SystemExit  # as an engine that ends the process

    toy.before_load = die
    for _ in range(3):
        with pytest.raises(SystemExit):
            bench(toy, restarts=3)
    assert starts == [1, 2, 3]
    made = bench(toy, restarts=3)
    assert starts == [1, 2, 3]  # not touched once more
    assert (made.version(), toy.states, toy.reverted) == (
        "1",
        ("confirmed", "empty"),
        "restarts",
    )
    notes: list[dict[str, str]] = []
    made.keeper.start(Surroundings(note=lambda note: notes.append(msgspec.json.decode(note.body))))
    assert [(note["event"], note["reason"]) for note in notes] == [("reverted", "restarts")]
    assert "more than 3 starts without confirm" in notes[0]["words"]


@pytest.mark.parametrize("fault", ["self_test", "damaged", "settings"])
def test_a_bundle_on_trial_that_does_not_open_is_left_for_the_confirmed_one(
    toy: ToyStore, fault: str
) -> None:
    toy.tried("2", fault=fault)
    made = bench(toy)
    assert (made.version(), toy.states, toy.reverted) == ("1", ("confirmed", "empty"), fault)
    assert made.keeper.words.reverted == fault
    assert len(made.keeper.words.reverted_bundle) == 16


def test_where_nothing_opens_the_machine_is_at_fault_and_the_trial_stays(tmp_path: Path) -> None:
    toy = ToyStore(tmp_path / "slots")
    toy.install("1", fault="self_test")
    toy.tried("2", fault="self_test")
    with pytest.raises(EngineError, match="1: self_test"):
        toy.keeper()
    assert (toy.states, toy.reverted) == (("confirmed", "trial"), "")


def test_a_fault_of_the_machine_takes_nothing_back(toy: ToyStore) -> None:
    toy.tried("2", fault="other")
    with pytest.raises(LinesideError, match="2: other"):
        toy.keeper()
    assert toy.states == ("confirmed", "trial")


def test_a_confirmed_bundle_that_rotted_is_left_for_the_one_before(toy: ToyStore) -> None:
    toy.tried("2", fault="damaged")
    toy.store.confirm()
    made = bench(toy)
    assert (made.version(), toy.states, toy.reverted) == ("1", ("confirmed", "empty"), "damaged")


@pytest.mark.parametrize("why", ["counter", "damaged", "nothing"])
def test_where_no_other_is_left_the_error_is_the_confirmed_bundle_s(
    tmp_path: Path, why: str
) -> None:
    toy = ToyStore(tmp_path / "slots")
    toy.install("1", fault="damaged" if why in ("damaged", "nothing") else "")
    if why != "nothing":
        toy.tried("2", fault="damaged", counter=1 if why == "counter" else 0)
        toy.store.confirm()
    before = toy.store.record
    with pytest.raises(BundleError, match="1: damaged" if why == "nothing" else "2: damaged"):
        toy.keeper()
    assert toy.store.record == before


def test_a_file_that_was_exchanged_is_not_what_was_installed(toy: ToyStore) -> None:
    toy.tried("2")
    path = toy.opener().folder / "slot.b"
    path.write_bytes(path.read_bytes().replace(b'"2"', b'"0"'))
    made = bench(toy)
    assert (made.version(), toy.reverted) == ("1", "damaged")


# While it runs.


def test_a_pending_bundle_is_proved_beside_and_taken_into_use(toy: ToyStore) -> None:
    made = switched(toy)
    assert toy.states == ("confirmed", "trial")
    # Proved with low priority, then opened with that of the inspection, which its threads keep.
    nice = toy.opened[0][1]
    assert toy.opened == [("1", nice), ("2", 10), ("2", nice)]
    assert made.inspect(level=150).evaluation is Evaluation.OK
    assert (made.keeper.words.slot, made.keeper.words.state) == ("b", "trial")


def test_a_part_that_has_its_turn_is_judged_by_what_its_turn_holds(toy: ToyStore) -> None:
    made = bench(toy)
    waiting = made.turn(level=150)
    toy.install("2", **HIGH)
    look_until(made, lambda: made.version() == "2")
    assert made.give(waiting).evaluation is Evaluation.NOT_OK
    assert made.inspect(level=150).evaluation is Evaluation.OK


@pytest.mark.parametrize("fault", ["self_test", "damaged", "settings"])
def test_a_pending_bundle_that_does_not_open_is_cancelled(toy: ToyStore, fault: str) -> None:
    made = bench(toy)
    toy.install("2", fault=fault)
    assert made.keeper.words.next == ""
    look_until(made, lambda: bool(toy.reverted))
    assert (made.version(), toy.states, toy.reverted) == ("1", ("confirmed", "empty"), fault)


def test_a_machine_s_fault_is_said_and_the_bundle_waits(toy: ToyStore) -> None:
    made = bench(toy)
    toy.install("2", fault="other")
    look_until(made, lambda: "2: other" in made.slotting.trouble)
    for _ in range(3):
        made.keeper.look(0.0)
    assert "2: other" in made.slotting.trouble
    assert (toy.states, len(toy.opened)) == (("confirmed", "pending"), 2)  # not tried all the time
    made.slotting.revert()
    made.keeper.look(0.0)
    assert made.slotting.trouble == ""


def test_what_is_cancelled_while_it_is_proved_never_judges(toy: ToyStore) -> None:
    made = bench(toy)
    toy.install("2")
    made.keeper.look(0.0)
    made.slotting.revert(reason="command")
    assert (toy.states, toy.reverted) == (("confirmed", "empty"), "command")
    for _ in range(20):
        made.keeper.look(0.0)
        time.sleep(0.002)
    assert made.version() == "1"
    assert toy.states == ("confirmed", "empty")


def test_it_is_confirmed_after_so_many_parts_and_the_one_before_is_freed_after_the_last(
    toy: ToyStore,
) -> None:
    made = bench(toy, parts=3)
    waiting = made.turn("W")  # judged by bundle 1, whenever its turn comes
    toy.install("2", counter=5)
    look_until(made, lambda: made.version() == "2")
    for number in range(3):
        assert toy.states == ("confirmed", "trial")
        made.inspect(f"P{number}")
        made.keeper.look(0.0)
    look_until(made, lambda: toy.states == ("revert", "confirmed"))  # two of them are compared
    assert toy.store.record.counters[bytes(16)] == 5
    assert (made.keeper.words.state, made.products.active.on_trial) == ("confirmed", None)
    made.keeper.look(0.0)
    assert not toy.models["1"].closed
    assert made.give(waiting).model == toy.models["1"].bundle[:16]
    del waiting
    look_until(made, lambda: toy.models["1"].closed)
    assert not toy.models["2"].closed


def test_an_engine_that_fails_hands_the_same_part_to_the_confirmed_one(toy: ToyStore) -> None:
    made = switched(toy)
    first, second = made.turn("P1", level=150), made.turn("P2", level=150)
    toy.models["2"].fails.add("P1")
    verdict = made.give(first)
    assert (verdict.evaluation, verdict.model) == (Evaluation.NOT_OK, toy.models["1"].bundle[:16])
    # At once, for parts that had their turn too, and before anything was written.
    assert toy.states == ("confirmed", "trial")
    assert made.give(second).model == toy.models["1"].bundle[:16]
    assert toy.models["2"].seen == ["P1"]
    assert (made.keeper.words.slot, made.keeper.words.state) == ("a", "confirmed")
    made.keeper.look(0.0)
    assert (toy.states, toy.reverted) == (("confirmed", "empty"), "engine")
    assert made.version() == "1"
    del first, second
    look_until(made, lambda: toy.models["2"].closed)


def test_an_engine_that_fails_without_a_trial_is_a_fault_of_its_part(toy: ToyStore) -> None:
    made = bench(toy)
    toy.models["1"].fails.add("*")
    assert made.inspect().reason is Reason.ENGINE
    made.keeper.look(0.0)
    assert (toy.states, toy.reverted) == (("confirmed", "empty"), "")


def test_commands_are_durable_when_they_return(toy: ToyStore) -> None:
    made = switched(toy)
    bundle = toy.models["2"].bundle[:16]
    assert made.slotting.store_of("level") is toy.store
    assert made.slotting.confirm("level") == f"slot b, bundle {bundle}"
    assert open_store(toy.folder).record.active is SlotName.B
    assert toy.states == ("revert", "confirmed")
    made.slotting.revert("level", "tired")  # without a trial: to the one before
    assert (toy.states, toy.reverted, made.version()) == (("confirmed", "empty"), "tired", "1")
    with pytest.raises(RefusedError, match="nothing to go back to"):
        made.slotting.revert()


def test_a_trial_is_taken_back_by_command(toy: ToyStore) -> None:
    made = switched(toy)
    waiting = made.turn(level=150)
    made.slotting.revert()
    assert (toy.states, toy.reverted, made.version()) == (("confirmed", "empty"), "command", "1")
    assert made.give(waiting).evaluation is Evaluation.NOT_OK


def test_a_command_that_names_a_bundle_changes_no_other(toy: ToyStore) -> None:
    made = bench(toy)
    toy.install("2", fault="other")  # it waits
    one, two = toy.models["1"].bundle, made.keeper.store.record.slots[SlotName.B].card
    assert two is not None

    def refuse(what: Callable[..., str], words: str, bundle: str) -> None:
        before = toy.store.record
        with pytest.raises(RefusedError, match=words):
            what(bundle=bundle)
        assert toy.store.record == before

    slotting = made.slotting
    refuse(slotting.revert, f"bundle: {two.hash[:16]} is pending, not {one[:16]}", one)
    slotting.revert(bundle=two.hash[:16])
    # Done; said once more it does not leave what has judged all the while.
    refuse(slotting.revert, f"bundle: {one[:16]} is confirmed, not {two.hash[:16]}", two.hash)
    toy.install("3", **HIGH)
    look_until(made, lambda: made.version() == "3")
    three = toy.models["3"].bundle
    for change in (slotting.confirm, slotting.revert):
        refuse(change, f"bundle: {three[:16]} is on trial, not {two.hash[:16]}", two.hash)
    slotting.confirm(bundle=three)
    refuse(slotting.revert, f"bundle: {three[:16]} is confirmed, not {one[:16]}", one)
    slotting.revert(bundle=three[:16])
    assert (toy.states, made.version()) == (("confirmed", "empty"), "1")


def test_what_cannot_be_gone_back_to_changes_nothing(toy: ToyStore) -> None:
    made = switched(toy)
    made.slotting.confirm()
    before = toy.store.record
    path = toy.opener().folder / "slot.a"
    path.write_bytes(b'{"version": "1", "fault": "damaged"}')
    with pytest.raises(BundleError):
        made.slotting.revert()
    assert (toy.store.record, made.version()) == (before, "2")


def test_nobody_goes_below_the_counter(toy: ToyStore) -> None:
    made = bench(toy)
    toy.install("2", counter=1)
    look_until(made, lambda: made.version() == "2")
    made.slotting.confirm()
    with pytest.raises(DowngradeError):
        made.slotting.revert()
    assert made.version() == "2"


def test_what_another_process_does_is_followed(toy: ToyStore) -> None:
    made = switched(toy)
    other = open_store(toy.folder)
    other.confirm()
    made.keeper.look(0.0)
    assert (made.keeper.words.state, made.products.active.on_trial) == ("confirmed", None)
    other.revert("command")  # to the one before, which the station has let go
    look_until(made, lambda: made.version() == "1")
    assert made.inspect(level=150).evaluation is Evaluation.NOT_OK
    toy.install("3", **HIGH)
    look_until(made, lambda: made.version() == "3")
    other.revert("mistake")
    made.keeper.look(0.0)
    assert (made.version(), toy.states, toy.reverted) == ("1", ("confirmed", "empty"), "mistake")
    assert not toy.models["1"].closed


def test_another_product_takes_the_place_in_use(toy: ToyStore) -> None:
    made = bench(toy)
    toy.install("2", product="wide")
    look_until(made, lambda: made.version() == "2")
    assert made.products.names == ("wide",)
    assert made.products.active.name == made.keeper.name == "wide"
    made.slotting.revert("wide")
    assert made.products.names == ("level",)
    with pytest.raises(RefusedError, match="lies in no store"):
        made.slotting.revert("wide")


def test_two_bundles_for_one_product_are_refused(toy: ToyStore) -> None:
    keeper = toy.keeper()
    made = Bench(toy, keeper)
    card = ModelCard(product="wide", bundle="f" * 64, version="9", engine="toy/fp64")
    beside = dataclasses.replace(keeper.product, card=card)
    made.slotting = Slotting(Products([keeper.product, beside]), [keeper])
    toy.install("2", product="wide")
    look_until(made, lambda: toy.reverted == "settings")
    assert made.version() == "1"


# Proofs that hang.


def arrived(arrivals: Arrivals, toy: ToyStore) -> Occupant | LinesideError:
    found: list[Occupant | LinesideError] = []
    deadline_s = time.monotonic() + 20.0
    while not found:
        assert time.monotonic() < deadline_s, "nothing came of it in time"
        found += [one for one in [arrivals.look(toy.store.record, "")] if one is not None]
        time.sleep(0.002)
    return found[0]


def test_a_bundle_whose_proof_hangs_is_not_proved_beside_it_once_more(toy: ToyStore) -> None:
    free = threading.Event()
    toy.before_load = lambda _: free.wait(60) and None
    arrivals = Arrivals(toy.opener(), lambda: None, limit_s=0.05, again_s=0.0)
    assert "was not proved within" in str(arrived(arrivals, toy))
    threads = threading.active_count()
    for _ in range(5):
        found = arrived(arrivals, toy)
        assert isinstance(found, SelfTestError)
        assert "hangs in its engine still" in str(found)
        arrivals.drop()  # it may be installed again, or taken back
    assert threading.active_count() <= threads
    free.set()
    patient = Arrivals(toy.opener(), lambda: None)
    assert isinstance(arrived(patient, toy), Occupant)


def test_what_hangs_is_bounded_over_all_bundles(toy: ToyStore) -> None:
    free = threading.Event()
    toy.before_load = lambda _: free.wait(60) and None
    arrivals = Arrivals(toy.opener(), lambda: None, limit_s=0.5, again_s=0.0)
    for version in ("1", "2", "3"):
        if version != "1":
            toy.tried(version)
        assert "was not proved within" in str(arrived(arrivals, toy))
        if version != "1":
            toy.store.revert("self_test")
    toy.tried("4")
    found = arrived(arrivals, toy)
    assert not isinstance(found, SelfTestError), "the fourth is not to blame"
    assert "3 proofs of bundles before it have not ended" in str(found)
    free.set()
    toy.before_load = lambda _: None
    while not isinstance(found, Occupant):
        found = arrived(arrivals, toy)


# Memory.


def test_without_room_for_both_nothing_is_compared_and_a_fault_opens_the_confirmed_one(
    toy: ToyStore,
) -> None:
    has_room = True
    made = Bench(toy, toy.keeper(room=lambda _: has_room, parts=2))
    has_room = False
    toy.install("2", **HIGH)
    look_until(made, lambda: made.version() == "2")
    assert "memory_budget_mib" in made.slotting.trouble
    look_until(made, lambda: toy.models["1"].closed)
    toy.models["2"].fails.add("bad")
    before = toy.models["1"]
    assert made.inspect("bad", level=150).evaluation is Evaluation.NOT_OK
    assert toy.models["1"] is not before
    made.keeper.look(0.0)
    assert (toy.states, toy.reverted, made.slotting.trouble) == (
        ("confirmed", "empty"),
        "engine",
        "",
    )


def test_where_the_confirmed_one_does_not_open_any_more_each_fault_is_a_verdict(
    toy: ToyStore,
) -> None:
    has_room = True
    made = Bench(toy, toy.keeper(room=lambda _: has_room))
    has_room = False
    toy.install("2", **HIGH)
    look_until(made, lambda: made.version() == "2")
    path = toy.opener().folder / "slot.a"
    path.write_bytes(b'{"version": "1", "fault": "damaged"}')
    toy.models["2"].fails.add("*")
    opened = len(toy.opened)
    for _ in range(3):
        assert made.inspect().reason is Reason.ENGINE
    assert len(toy.opened) == opened + 1  # no part waits for it a second time
    look_until(made, lambda: "1: damaged" in made.slotting.trouble)
    assert (toy.states, toy.reverted) == (("confirmed", "empty"), "engine")


def test_after_a_restart_without_room_the_trial_goes_on_alone_and_is_confirmed_by_parts(
    toy: ToyStore,
) -> None:
    toy.tried("2")
    asked: list[float] = []
    made = Bench(toy, toy.keeper(room=lambda mib: bool(asked.append(mib)), parts=2))
    assert [version for version, _ in toy.opened] == ["2"]
    assert asked == [10.0]  # as much as the other one took
    made.inspect()
    made.inspect()
    made.keeper.look(0.0)
    assert toy.states == ("revert", "confirmed")


# A disk that takes nothing.


class Full(FolderStorage):
    """A disk that is full when told so."""

    is_full = False

    def write(self, area: Area, offset: int, data: bytes) -> None:
        if self.is_full:
            raise StorageError(f"{self.path}: No space left on device")
        super().write(area, offset, data)

    def erase(self, area: Area, offset: int, size: int) -> None:
        if self.is_full:
            raise StorageError(f"{self.path}: No space left on device")
        super().erase(area, offset, size)


def test_a_disk_that_takes_no_revert_does_not_let_the_failed_model_judge(tmp_path: Path) -> None:
    disk = Full(tmp_path / "slots", make=True)
    toy = ToyStore(tmp_path / "slots", storage=disk)
    toy.install("1")
    made = switched(toy)
    disk.is_full = True
    toy.models["2"].fails.add("*")
    assert made.inspect("P1").model == toy.models["1"].bundle[:16]
    for _ in range(3):
        made.keeper.look(0.0)
        assert "No space left" in made.slotting.trouble
        assert made.inspect("P2").model == toy.models["1"].bundle[:16]
    disk.is_full = False
    made.keeper.look(0.0)
    assert (toy.reverted, made.slotting.trouble) == ("engine", "")


def test_a_full_disk_lets_a_bundle_wait_and_the_confirmed_one_judge(tmp_path: Path) -> None:
    disk = Full(tmp_path / "slots", make=True)
    toy = ToyStore(tmp_path / "slots", storage=disk)
    toy.install("1")
    toy.install("2")
    disk.is_full = True
    made = bench(toy)
    assert (made.version(), toy.states) == ("1", ("confirmed", "pending"))
    look_until(made, lambda: "No space left" in made.slotting.trouble)
    assert [version for version, _ in toy.opened] == ["1", "2", "2"]
    for _ in range(5):
        made.keeper.look(0.0)
    assert len(toy.opened) == 3  # not proved again and again
    assert toy.models["2"].closed


def test_a_disk_that_takes_no_confirm_leaves_the_trial_on(tmp_path: Path) -> None:
    disk = Full(tmp_path / "slots", make=True)
    toy = ToyStore(tmp_path / "slots", storage=disk)
    toy.install("1")
    made = switched(toy)
    disk.is_full = True
    with pytest.raises(StorageError):
        made.slotting.confirm()
    assert made.products.active.on_trial is not None
    disk.is_full = False
    made.slotting.confirm()
    assert toy.states == ("revert", "confirmed")


# Products.


def make_product(name: str, version: str = "1") -> Product:
    card = ModelCard(product=name, bundle=version * 64, version=version, engine="toy/fp64")
    return Product(card=card, inspector=None)  # type: ignore[arg-type] - nobody inspects here


def test_a_product_is_replaced_for_the_next_part_whenever_it_was_taken() -> None:
    products = Products([make_product("led"), make_product("diode")])
    before_ns = time.monotonic_ns()
    products.activate("diode")
    products.replace("led", make_product("led", "2"))
    products.replace("diode", make_product("diode", "2"))
    assert [one.card.version for one in products] == ["2", "2"]
    assert products.names == ("led", "diode")
    at_ns = products.find("", at_ns=before_ns)
    assert at_ns is not None
    assert (at_ns.name, at_ns.card.version) == ("led", "2")
    assert (products.active.name, products.active.card.version) == ("diode", "2")
    with pytest.raises(ConfigurationError, match="no bundle for 'x'; there are led, diode"):
        products.replace("x", make_product("x"))
    with pytest.raises(ConfigurationError, match="two bundles judge 'diode'"):
        products.replace("led", make_product("diode"))


def test_a_station_without_a_store_refuses_and_changes_its_products() -> None:
    products = Products([make_product("led")])
    slotting = Slotting(products)
    assert not slotting.has_stores
    slotting.start(Surroundings())
    for command in (slotting.confirm, slotting.revert):
        with pytest.raises(RefusedError, match="'led': its bundle lies in no store"):
            command("")
    assert (slotting.words_of("led").slot, slotting.trouble, slotting.figures) == ("", "", {})
    slotting.stop()


def test_limits_that_a_command_set_hold_for_the_bundle_behind_too(toy: ToyStore) -> None:
    made = switched(toy)

    def dress(product: Product) -> Product:
        card = msgspec.structs.replace(product.card, unit="mm")
        return dataclasses.replace(product, card=card)

    made.products.dress = dress
    made.products.redress("level")
    trial = made.products.active.on_trial
    assert trial is not None
    assert trial.behind is not None
    assert trial.behind.card.unit == "mm"
    waiting = made.turn()
    made.slotting.revert()
    assert waiting.product is not None
    for product in (made.products.active, waiting.product.standing):
        assert (product.card.version, product.card.unit) == ("1", "mm")


# What outlives a restart.


def test_how_far_a_trial_is_outlives_a_restart(toy: ToyStore) -> None:
    made = switched(toy, parts=3)
    for so_many in (1, 2):
        made.inspect()
        look_until(made, lambda so_many=so_many: made.slotting.figures["compared"] == so_many)
    made.keeper.look(90.0)
    made.slotting.stop()
    made.keeper.close()
    assert toy.models["1"].closed
    assert toy.models["2"].closed
    again = bench(toy, parts=3)
    progress = again.keeper.progress
    assert progress is not None
    assert (progress.parts, progress.ran_s) == (2, 90.0)
    again.keeper.start(Surroundings())
    again.inspect()
    look_until(again, lambda: toy.states == ("revert", "confirmed"))


def test_a_second_trial_of_the_same_bundle_begins_anew(toy: ToyStore) -> None:
    made = switched(toy, parts=3)
    made.inspect()
    made.slotting.revert()
    toy.install("2", **HIGH)
    look_until(made, lambda: made.version() == "2")
    progress = made.keeper.progress
    assert progress is not None
    assert progress.parts == 0


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff", b'{"bundle": "x", "parts": 9}', b'{"bundle": "%s", "disagreements": 9}'],
)
def test_a_damaged_file_of_progress_only_makes_the_trial_longer(
    tmp_path: Path, data: bytes
) -> None:
    bundle = "ab" * 32
    with contextlib.suppress(TypeError):
        data = data % bundle.encode()
    (tmp_path / TRIAL_FILE).write_bytes(data)
    found = TrialFile(tmp_path).load(bundle)
    assert (found.bundle, found.parts, found.compared) == (bundle, 0, 0)
    TrialFile(tmp_path).save(msgspec.structs.replace(found, parts=5))
    assert TrialFile(tmp_path).load(bundle).parts == 5


def test_what_was_taken_back_and_judges_on_for_want_of_another_is_not_told_as_confirmed(
    toy: ToyStore,
) -> None:
    toy.tried("2")
    made = bench(toy, room=lambda _: False)
    (toy.opener().folder / "slot.a").write_bytes(b'{"version": "1", "fault": "damaged"}')
    toy.models["2"].fails.add("*")
    assert made.inspect().reason is Reason.ENGINE
    assert (made.keeper.words.slot, made.keeper.words.state) == ("b", "trial")
    made.keeper.look(0.0)
    assert (toy.states, made.version()) == (("confirmed", "empty"), "2")
    assert (made.keeper.words.slot, made.keeper.words.state) == ("b", "trial")
    assert made.keeper.words.reverted == "engine"


def test_a_model_that_hangs_is_noticed_also_when_it_is_taken_back_meanwhile(
    toy: ToyStore,
) -> None:
    toy.tried("2")
    made = bench(toy, hang_s=3.0)
    left: list[str] = []
    made.keeper.start(Surroundings(leave=lambda _turn, words: left.append(words)))
    model = toy.models["2"]
    model.free.clear()
    inspecting = threading.Thread(target=made.inspect, daemon=True)
    inspecting.start()
    assert model.computes.wait(10.0)
    made.keeper.look(1.0)
    made.slotting.revert(reason="command")
    for _ in range(4):
        made.keeper.look(1.0)
    assert (len(left), toy.states, toy.reverted) == (1, ("confirmed", "empty"), "command")
    model.free.set()
    inspecting.join(10.0)
    made.keeper.look(9.0)
    made.keeper.look(9.0)
    assert len(left) == 1
    made.keeper.stop()


def test_disagreements_over_parts_without_a_score_outlast_a_restart(tmp_path: Path) -> None:
    progress = TrialProgress(bundle="ab" * 32, parts=3, compared=12, disagreements=9)
    TrialFile(tmp_path).save(progress)
    assert TrialFile(tmp_path).load(progress.bundle) == progress


def test_a_failed_trial_is_left_at_the_end_at_the_latest(toy: ToyStore) -> None:
    made = switched(toy)
    toy.models["2"].fails.add("*")
    made.inspect()
    made.slotting.stop()
    assert toy.reverted == "engine"
    assert toy.hash_of(SlotState.CONFIRMED) == toy.models["1"].bundle
