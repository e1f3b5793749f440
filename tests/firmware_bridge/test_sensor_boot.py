"""How a sensor with flash boots: MCUboot's rules, the golden self-test, and rot."""

from __future__ import annotations

import threading

import pytest
from sensor_bundles import Family
from sensor_rig import FACTS, Host, Rig
from tiny_bundle import TinyBundle

from lineside.slots import Area, SlotName, SlotState
from lineside_bridge import custom
from lineside_bridge.custom import Code, Command, Health, SlotQuery
from lineside_bridge.errors import SensorRefusedError
from lineside_bridge.framing import Framing
from lineside_bridge.header import Operation
from lineside_bridge.sensor import FlashSensor


def refused(host: Host, code: Code) -> object:
    return pytest.raises(SensorRefusedError, match=custom.CODE_WORDS[code][:20])


def running(rig: Rig) -> bytes:
    assert rig.sensor.running is not None
    return bytes.fromhex(rig.sensor.running.checked.hash)


def states(rig: Rig) -> tuple[SlotState, SlotState]:
    slots = rig.sensor.store.record.slots
    return slots[SlotName.A].state, slots[SlotName.B].state


def test_an_upload_counts_only_once_it_is_tested_and_judges_from_the_reset_on(
    family: Family,
) -> None:
    rig = family.rig()
    host = rig.host()
    assert host.upload(family.new.data).matches is True
    state = host.find(family.new.hash)
    assert state is not None
    assert (state.slot, state.version, state.bootable, state.pending) == (1, "2.0.0", True, False)
    host.reset()
    assert running(rig) == family.old.hash
    assert host.find(family.new.hash) == state
    host.test(family.new.hash)
    state = host.find(family.new.hash)
    assert state is not None
    assert (state.pending, state.active) == (True, False)
    assert running(rig) == family.old.hash
    host.reset()
    state = host.find(family.new.hash)
    assert state is not None
    assert (state.pending, state.active, state.confirmed) == (False, True, False)
    assert running(rig) == family.new.hash
    host.confirm()
    assert states(rig) == (SlotState.REVERT, SlotState.CONFIRMED)
    host.reset()
    assert running(rig) == family.new.hash
    assert host.device().counters == {family.trusted.valid[0].key_id.hex(): 1}


@pytest.mark.parametrize("framing", list(Framing))
def test_all_of_the_way_in_each_framing(family: Family, framing: Framing) -> None:
    rig = family.rig()
    host = rig.host(framing)
    for bundle in (family.new, family.later):
        host.flash(bundle)
        assert running(rig) == bundle.hash


def test_what_is_not_confirmed_is_left_at_the_next_start(family: Family) -> None:
    rig = family.rig()
    host = rig.host()
    host.upload(family.new.data)
    host.test(family.new.hash)
    host.reset()
    host.reset()
    assert running(rig) == family.old.hash
    device = host.device()
    assert (device.reverted, device.reverted_hash) == ("restarts", family.new.hash)
    assert states(rig) == (SlotState.CONFIRMED, SlotState.EMPTY)


def test_a_revert_leaves_a_trial_cancels_what_is_pending_and_undoes_a_confirmation(
    family: Family,
) -> None:
    rig = family.rig()
    host = rig.host()
    for resets in (0, 1):
        host.upload(family.beside.data)
        host.test(family.beside.hash)
        for _ in range(resets):
            host.reset()
        host.revert()
        assert running(rig) == family.old.hash
        assert states(rig) == (SlotState.CONFIRMED, SlotState.EMPTY)
    host.flash(family.beside)
    host.revert()
    assert running(rig) == family.old.hash
    with pytest.raises(SensorRefusedError, match="not in this state"):
        host.revert()


def test_going_back_below_a_confirmed_counter_is_refused(family: Family) -> None:
    rig = family.rig()
    host = rig.host()
    host.flash(family.new)
    with pytest.raises(SensorRefusedError, match="security counter"):
        host.revert()
    assert running(rig) == family.new.hash


def test_what_fails_its_golden_self_test_is_left_at_once_and_says_so(family: Family) -> None:
    rig = family.rig()
    host = rig.host()
    host.upload(family.failing.data)
    host.test(family.failing.hash)
    host.reset()
    assert running(rig) == family.old.hash
    assert host.device().reverted == "self_test"
    report = host.selftest()
    assert (report.state, report.hash) == ("failed", family.failing.hash)
    assert "golden" in report.words or "self-test" in report.words
    with pytest.raises(SensorRefusedError):
        host.confirm(family.failing.hash)


def test_no_trial_is_confirmed_while_its_self_test_runs(family: Family) -> None:
    rig = family.rig()
    host = rig.host()
    host.upload(family.new.data)
    host.test(family.new.hash)
    going_on = threading.Event()

    def judge(_contents: object, _name: str) -> str:
        going_on.wait(30)
        return ""

    sensor = FlashSensor(rig.flash, trusted=family.trusted, facts=FACTS, judge=judge)
    assert sensor.selftest.state == "running"
    with pytest.raises(Exception, match="still runs"):
        sensor.confirm()
    going_on.set()
    sensor.confirm()
    assert sensor.store.record.find(SlotState.CONFIRMED) is SlotName.B
    assert sensor.selftest.state == "passed"


def test_a_self_test_of_a_start_before_says_nothing_of_this_one(family: Family) -> None:
    rig = family.rig()
    host = rig.host()
    host.upload(family.new.data)
    host.test(family.new.hash)
    going_on, over = threading.Event(), threading.Event()
    calls: list[str] = []

    def judge(_contents: object, name: str) -> str:
        calls.append(name)
        if len(calls) > 1:
            return ""
        going_on.wait(30)
        over.set()
        return "too late"

    sensor = FlashSensor(rig.flash, trusted=family.trusted, facts=FACTS, judge=judge)
    sensor.reset()
    going_on.set()
    assert over.wait(30)
    assert sensor._prover.wait(30).state == "passed"
    assert sensor.running is not None
    assert bytes.fromhex(sensor.running.checked.hash) == family.old.hash


def test_the_first_bundle_is_confirmed_and_judges_at_once(family: Family) -> None:
    rig = family.rig(delivered=False)
    host = rig.host()
    assert host.states() == {}
    health = custom.decode(host.client.call(custom.ask(Operation.READ, Command.HEALTH)), Health)
    assert not health.ok
    assert "upload one" in health.words
    host.flash(family.new)
    assert states(rig) == (SlotState.CONFIRMED, SlotState.EMPTY)
    assert running(rig) == family.new.hash


def test_a_rotten_trial_is_left_for_the_confirmed_one_and_a_rotten_confirmed_one_for_that_before(
    family: Family,
) -> None:
    rig = family.rig()
    host = rig.host()
    host.upload(family.beside.data)
    host.test(family.beside.hash)
    rig.flash.damage(Area.SLOT_B, 9000, b"rot")
    host.reset()
    assert running(rig) == family.old.hash
    assert host.device().reverted == "damaged"

    host.flash(family.beside)
    assert states(rig) == (SlotState.REVERT, SlotState.CONFIRMED)
    rig.flash.damage(Area.SLOT_B, 9000, b"rot")
    host.reset()
    assert running(rig) == family.old.hash
    assert states(rig) == (SlotState.CONFIRMED, SlotState.EMPTY)


def test_all_rotten_is_said_and_the_next_upload_heals_it(family: Family) -> None:
    rig = family.rig()
    host = rig.host()
    rig.flash.damage(Area.SLOT_A, 200, b"rot")
    host.reset()
    assert rig.sensor.running is None
    state = host.states()[0]
    assert (state.bootable, state.confirmed) == (False, True)
    assert "no sound bundle" in rig.sensor.health.words
    host.flash(family.new)
    assert running(rig) == family.new.hash
    assert rig.sensor.health.ok


def test_another_bundle_than_the_record_says_is_not_taken_for_it(family: Family) -> None:
    rig = family.rig()
    host = rig.host()
    rig.flash.damage(Area.SLOT_A, 0, family.beside.data)
    host.reset()
    assert rig.sensor.running is None


def test_a_self_test_is_run_when_told_to_and_only_of_a_bundle(family: Family) -> None:
    rig = family.rig()
    host = rig.host()
    ask = custom.ask(Operation.WRITE, Command.SELF_TEST, SlotQuery(slot=0))
    host.client.call(ask)
    assert host.selftest().state == "passed"
    with pytest.raises(SensorRefusedError, match="not in this state"):
        host.client.call(custom.ask(Operation.WRITE, Command.SELF_TEST, SlotQuery(slot=1)))


def test_health_counts_the_wear_of_the_flash(family: Family) -> None:
    rig = family.rig()
    host = rig.host()
    before = rig.sensor.health.wear
    host.flash(family.new)
    after = rig.sensor.health.wear
    assert before is not None and after is not None
    assert after > before


def test_whole_bundles_are_told_from_thin_ones_for_another_engine(
    family: Family, tiny_bundle: TinyBundle
) -> None:
    rig = family.rig()
    assert FACTS.engine == "onnxruntime"
    host = rig.host()
    assert len(tiny_bundle.path.read_bytes()) > rig.flash.capacity_bytes(Area.SLOT_A)
    with pytest.raises(SensorRefusedError, match="larger than its slot"):
        host.upload(tiny_bundle.path.read_bytes())
