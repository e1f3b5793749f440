"""After the last byte: test, reset, wait for the golden self-test, confirm; or take it all back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from lineside.slots import SlotState
from lineside_bridge.errors import (
    BridgeError,
    PortError,
    SensorGarbledError,
    SensorRefusedError,
    SensorSilentError,
    UnprovenError,
)
from lineside_bridge.payload import Payload
from lineside_bridge.session import Session

SELF_TEST: Final = "self_test"
ANSWERS: Final = "answers"

_POLL_S: Final = 0.25
# One that is about to restart needs that long before it does.
_RESET_AGAIN_S: Final = 5.0
# From the revert that follows a failed self-test until its result is told.
_RESULT_S: Final = 2.0
# A cable that was pulled just then.
_PLUGGED_AGAIN_S: Final = 30.0
_AWAY: Final = (PortError, SensorSilentError, SensorGarbledError)


class Standing(Enum):
    """What a sensor makes of a bundle."""

    ABSENT = "absent"
    PENDING = "pending"
    TRIAL = "trial"
    CONFIRMED = "confirmed"


@dataclass(frozen=True, kw_only=True)
class Waits:
    """How long a sensor may take.

    Attributes:
        restart_s: from the reset until it judges by the new bundle.
        selftest_s: from then on until its self-test has passed.
    """

    restart_s: float = 60.0
    selftest_s: float = 180.0


USUAL_WAITS: Final = Waits()


def look(session: Session, payload: Payload) -> Standing:
    """What the sensor makes of that bundle now."""
    if session.is_ours:
        states = {report.hash: report.state for report in session.read_slots()}
        known = {
            SlotState.PENDING.value: Standing.PENDING,
            SlotState.TRIAL.value: Standing.TRIAL,
            SlotState.CONFIRMED.value: Standing.CONFIRMED,
        }
        return known.get(states.get(payload.hash, ""), Standing.ABSENT)
    state = session.read_states().find(payload.names)
    if state is None:
        return Standing.ABSENT
    if state.active:
        return Standing.CONFIRMED if state.confirmed else Standing.TRIAL
    return Standing.PENDING if state.pending else Standing.ABSENT


def try_out(
    session: Session, payload: Payload, waits: Waits, on_step: Callable[[str], None]
) -> str:
    """Have the sensor judge by the new bundle, and prove it.

    Returns:
        `SELF_TEST`, or `ANSWERS` of a sensor that has no self-test.

    Raises:
        UnprovenError: it did not come up with it, or its self-test failed.
        SensorRefusedError: it will not try it.
    """
    standing = look(session, payload)
    if standing is Standing.ABSENT:
        on_step("asking for a trial")
        _ask_for_trial(session, payload)
    if standing in (Standing.ABSENT, Standing.PENDING):
        on_step("restarting")
        _restart(session, payload, waits)
    if not session.is_ours:
        return ANSWERS
    on_step("golden self-test")
    _wait_for_selftest(session, payload, waits.selftest_s)
    return SELF_TEST


def _ask_for_trial(session: Session, payload: Payload) -> None:
    state = session.read_states().find(payload.names)
    try:
        session.test(payload.hash if state is None else state.hash)
    except SensorRefusedError:
        # Its yes may have been lost: MCUboot refuses what is pending already.
        if look(session, payload) is not Standing.PENDING:
            raise


def keep(session: Session, payload: Payload) -> None:
    """Confirm it, and see that it is.

    Raises:
        UnprovenError: the sensor does not say so afterwards.
    """
    try:
        _confirm(session, payload)
    except _AWAY:
        # Nobody knows whether it heard: it is asked, because what is confirmed is not taken back.
        _reconnect(session)
        if look(session, payload) is Standing.TRIAL:
            _confirm(session, payload)
    if look(session, payload) is not Standing.CONFIRMED:
        raise UnprovenError(f"{session.name}: told to confirm, and it says that it has not")


def _reconnect(session: Session) -> None:
    try:
        session.reconnect(_PLUGGED_AGAIN_S)
    except _AWAY as error:
        raise UnprovenError(
            f"{session.name}: fell silent as it was told to confirm, and nobody knows whether it "
            f"did ({error})"
        ) from error


def _confirm(session: Session, payload: Payload) -> None:
    state = session.read_states().find(payload.names)
    session.confirm(payload.hash if state is None else state.hash)


def take_back(
    session: Session, payload: Payload, fault: BridgeError, waits: Waits
) -> UnprovenError:
    """Make the sensor judge by what it had before; the error that says all of it."""
    words = str(fault)
    end = "" if words.endswith(("?", ".")) else "."
    return UnprovenError(f"{words}{end} {_take_back(session, payload, waits)}")


def _take_back(session: Session, payload: Payload, waits: Waits) -> str:
    try:
        return _go_back(session, payload, waits)
    except SensorRefusedError as refusal:
        return f"It would not be taken back: {refusal}"
    except _AWAY:
        return (
            "The sensor could not be told to go back: where it is not confirmed it does so by "
            "itself at its next start; see `lineside sensor slots`"
        )


def _go_back(session: Session, payload: Payload, waits: Waits) -> str:
    if not session.is_ours:
        session.reset()
        session.reconnect(waits.restart_s)
        return "Reset without a confirmation: the sensor judges by the bundle that it had before"
    if look(session, payload) is Standing.ABSENT:
        return _tell_absence(session, payload)
    try:
        session.revert("host")
    except SensorRefusedError:
        # It may have failed its self-test between the question and the word.
        if look(session, payload) is not Standing.ABSENT:
            raise
        return _tell_absence(session, payload)
    return "Reverted: the sensor judges by the bundle that it had before"


def _tell_absence(session: Session, payload: Payload) -> str:
    """Nothing is to be taken back: the sensor did, or never tried it."""
    device = session.read_device()
    if device is not None and device.reverted_hash == payload.hash:
        return "The sensor took it back by itself: it judges by the bundle that it had before"
    return "It is not tried there: the sensor judges by the bundle that it had before"


def _restart(session: Session, payload: Payload, waits: Waits) -> None:
    """Reset it, once more where nobody knows whether it heard, and wait for the new bundle."""
    restart_s = waits.restart_s
    until_s = time.monotonic() + restart_s
    again_s = math.inf if session.reset() else time.monotonic() + _RESET_AGAIN_S
    standing = None
    while time.monotonic() < until_s:
        if standing is Standing.PENDING and time.monotonic() >= again_s:
            again_s = math.inf if session.reset() else time.monotonic() + _RESET_AGAIN_S
        time.sleep(_POLL_S)
        standing = _look_again(session, payload, until_s)
        if standing in (Standing.TRIAL, Standing.CONFIRMED):
            return
        is_late = time.monotonic() + _POLL_S >= until_s
        if is_late and restart_s == waits.restart_s and _is_proving(session, payload):
            # A Linux camera's station proves a bundle before its trial.
            restart_s += waits.selftest_s
            until_s += waits.selftest_s
        if standing is Standing.ABSENT:
            raise UnprovenError(f"{session.name}: {_tell_leaving(session, payload)}")
    if standing is None:
        raise UnprovenError(f"{session.name}: does not answer since its reset, {restart_s:g} s ago")
    raise UnprovenError(
        f"{session.name}: it still waits to be tried, {restart_s:g} s after the reset: does the "
        "sensor restart when it is told to, and does its station run?"
    )


def _is_proving(session: Session, payload: Payload) -> bool:
    report = session.read_selftest()
    return report is not None and report.hash == payload.hash and report.state == "running"


def _look_again(session: Session, payload: Payload, until_s: float) -> Standing | None:
    """As `look`, of a sensor that may just be starting; ``None``: it does not answer."""
    try:
        return look(session, payload)
    except _AWAY:
        pass
    try:
        session.reconnect(until_s - time.monotonic())
        # It may have answered just before it restarts.
        return look(session, payload)
    except _AWAY:
        return None


def _wait_for_selftest(session: Session, payload: Payload, selftest_s: float) -> None:
    until_s = time.monotonic() + selftest_s
    asked = False
    while time.monotonic() < until_s:
        standing = _look_again(session, payload, until_s)
        if standing is Standing.CONFIRMED:
            return
        if standing is not None:
            if standing is not Standing.TRIAL:
                raise UnprovenError(f"{session.name}: {_tell_leaving(session, payload)}")
            state = _read_selftest(session, payload)
            if state == "passed":
                return
            if state == "none" and not asked:
                asked = True
                _ask_for_selftest(session, payload)
        time.sleep(_POLL_S)
    raise UnprovenError(f"{session.name}: no result of the self-test within {selftest_s:g} s")


def _read_selftest(session: Session, payload: Payload) -> str:
    """Its state; ``none`` where it has no word of this bundle's, empty where it does not answer."""
    try:
        report = session.read_selftest()
    except _AWAY:
        return ""
    if report is None or report.state == "none":
        return "none"
    if report.hash not in (b"", payload.hash):
        return ""
    if report.state == "failed":
        raise UnprovenError(f"{session.name}: golden self-test failed: {report.words}")
    return report.state


def _ask_for_selftest(session: Session, payload: Payload) -> None:
    slots = (report.slot for report in session.read_slots() if report.hash == payload.hash)
    slot = next(slots, None)
    if slot is not None:  # else it has just left it, and the next look tells
        session.start_selftest(slot)


def _tell_leaving(session: Session, payload: Payload) -> str:
    """Why the sensor does not judge by it any more, in its own words."""
    until_s = time.monotonic() + _RESULT_S
    while (report := session.read_selftest()) is not None and report.hash == payload.hash:
        if report.state == "failed":
            return f"golden self-test failed: {report.words}"
        if report.state != "running" or time.monotonic() >= until_s:
            break
        time.sleep(_POLL_S)
    device = session.read_device()
    if device is None or device.reverted_hash != payload.hash:
        return "it came back without the new bundle"
    return f"it left the new bundle for {device.reverted}"
