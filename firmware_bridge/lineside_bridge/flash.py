"""The whole way of a bundle into a sensor; nothing is believed that was not looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lineside.bundle import TrustedKeys
from lineside.slots import SlotState
from lineside_bridge.admission import check_admission, check_hardware
from lineside_bridge.chunks import ImageSource, PageSource, Source
from lineside_bridge.custom import GROUP, Code, Device, SlotReport
from lineside_bridge.errors import (
    BridgeError,
    MalformedError,
    PortError,
    SensorRefusedError,
    UnprovenError,
)
from lineside_bridge.flash_report import FlashReport, Line, make_report
from lineside_bridge.framing import Framing
from lineside_bridge.pages import Stretch, plan_copies, read_pages
from lineside_bridge.payload import (
    AUTO,
    Payload,
    Sendable,
    Wrapping,
    choose_engine,
    open_sendable,
    pack_payload,
)
from lineside_bridge.probe import ceiling_bytes_per_s
from lineside_bridge.session import Session
from lineside_bridge.trial import USUAL_WAITS, Standing, Waits, keep, look, take_back, try_out
from lineside_bridge.upload import Outcome, Progress, Upload

_UNPLUGGED_S = 30.0
_UNPLUGGED_TIMES = 3
_TRIED = {SlotState.PENDING.value: "to be tried next", SlotState.TRIAL.value: "on trial"}


@dataclass(frozen=True, kw_only=True)
class FlashTerms:
    """How it is to be done.

    Attributes:
        engine: whose parts are sent; ``auto``: those that the sensor says.
        hardware: what the sensor is, where it cannot say so itself.
        wrapping: send it as an MCUboot image; ``None``: as it is.
        confirm: once it is proved; else it stays on trial.
    """

    engine: str = AUTO
    hardware: str = ""
    wrapping: Wrapping | None = None
    confirm: bool = True
    waits: Waits = USUAL_WAITS


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Who is told.

    Attributes:
        step: what is done now, in a few words.
        progress: of the upload.
        before_trial: asked for leave before the sensor is told to try it; may raise.
    """

    step: Callable[[str], None] = lambda _: None
    progress: Callable[[Progress], None] = lambda _: None
    before_trial: Callable[[], None] = lambda: None


NOBODY = Watch()


def flash_bundle(
    session: Session,
    path: str | Path,
    *,
    trusted: TrustedKeys,
    terms: FlashTerms | None = None,
    watch: Watch = NOBODY,
) -> FlashReport:
    """Bring a bundle into a sensor, prove it there, confirm it.

    Raises:
        BundleError: refused here, before a byte is sent: seal, target, key, counter, engine.
        SensorFullError: larger than its slot. `SensorRefusedError`: it says no, or it judges or
            is about to judge by another bundle, which is confirmed or taken back first.
        SensorSilentError, SensorGarbledError, PortError: the line; the same call goes on later.
        UnprovenError: sent, and not proved, or taken back: it judges by what it had before.
    """
    terms = terms or FlashTerms()
    with open_sendable(path, trusted=trusted) as sendable:
        device = session.read_device()
        payload = _pack(session, sendable, device, terms)
    line = Line(
        framing=session.peer.framing.value,
        baud=session.client.link.baud,
        ceiling_bytes_per_s=ceiling_bytes_per_s(session.peer, session.client.link.baud),
    )
    outcome = None
    standing = look(session, payload)
    if standing is Standing.CONFIRMED:
        _check_none_tried(session)
    if standing is Standing.ABSENT:
        outcome = _bring(session, payload, watch)
    proof = ""
    if standing is not Standing.CONFIRMED:
        watch.before_trial()
        proof = _prove(session, payload, terms, watch)
        standing = Standing.CONFIRMED if terms.confirm else Standing.TRIAL
    return make_report(session.name, line, device, payload, outcome, proof, standing)


def _pack(
    session: Session, sendable: Sendable, device: Device | None, terms: FlashTerms
) -> Payload:
    engine = choose_engine(sendable.bundle, terms.engine, "" if device is None else device.engine)
    payload = pack_payload(sendable, engine, terms.wrapping)
    if device is not None:
        check_admission(payload, device, port=session.name)
    else:
        words = terms.hardware or session.read_platform()
        check_hardware(payload, tuple(words.split()), port=session.name)
    return payload


def _check_none_tried(session: Session) -> None:
    """To be confirmed is not to be in use while another one has its trial."""
    reports = session.read_slots() if session.is_ours else ()
    for report in reports:
        if report.state in (SlotState.PENDING.value, SlotState.TRIAL.value):
            raise SensorRefusedError(
                f"{session.name}: it is confirmed there, but {report.product} {report.version}, "
                f"{report.hash.hex()[:16]}, is {_TRIED[report.state]}: `lineside sensor revert` "
                "or `confirm` first",
                group=GROUP,
                code=Code.STATE,
            )


def _bring(session: Session, payload: Payload, watch: Watch) -> Outcome:
    """Send it, and have the sensor say what it holds; a wrong one is sent once more."""
    watch.step("sending")
    outcome = _send(session, payload, watch)
    if outcome.matches is not False and _is_sound(session, payload, outcome):
        return outcome
    watch.step("sending once more")
    session.erase(_arrival(session, payload))
    outcome = _send(session, payload, watch)
    if outcome.matches is not False and _is_sound(session, payload, outcome):
        return outcome
    raise UnprovenError(
        f"{session.name}: what the sensor holds is not what was sent, twice: another framing than "
        f"{session.peer.framing.value} (--framing), a slower rate, a better cable"
    )


def _send(session: Session, payload: Payload, watch: Watch) -> Outcome:
    unplugged = 0
    while True:
        try:
            return Upload(
                session.client,
                session.peer,
                _plan(session, payload),
                on_progress=watch.progress,
                is_there=lambda: session.read_states().find(payload.names) is not None,
            ).run()
        except PortError:
            unplugged += 1
            if unplugged > _UNPLUGGED_TIMES:
                raise
        watch.step("the port went away; waiting for it")
        session.reconnect(_UNPLUGGED_S)


def _plan(session: Session, payload: Payload) -> Source:
    """By the published group, but where pages are copied, or the framing guards nothing."""
    if not session.is_ours:
        return ImageSource(payload.data)
    whole: tuple[Stretch, ...] = (Stretch(start=0, stop=len(payload.data)),)
    slot = _slot_in_use(session)
    plan = whole
    if slot is not None:
        try:
            plan = plan_copies(
                payload.data, read_pages(session.client, slot, session.peer.room_bytes)
            )
        except (SensorRefusedError, MalformedError):
            slot = None  # then all of it is sent
    if any(stretch.source is not None for stretch in plan) or session.peer.framing is Framing.RAW:
        return PageSource(payload.data, plan, slot or 0)
    return ImageSource(payload.data)


def _slot_in_use(session: Session) -> int | None:
    states = {report.state: report.slot for report in session.read_slots() if report.size}
    return next((states[state] for state in ("trial", "confirmed") if state in states), None)


def _is_sound(session: Session, payload: Payload, outcome: Outcome) -> bool:
    """Whether the sensor, asked anew, holds what was sent."""
    if not session.is_ours:
        known = session.read_states().find(payload.names) is not None
        if not known and outcome.matches is None:
            raise UnprovenError(
                f"{session.name}: the sensor took all of it, and tells no hash that would prove "
                "it; it was not asked to try it"
            )
        return known or bool(outcome.matches)
    digest = session.read_digest(_arrival(session, payload))
    return digest is not None and digest.sha256 == payload.sha256


def _arrival(session: Session, payload: Payload) -> int:
    """The slot that it was sent to."""

    def fits(report: SlotReport) -> bool:
        return report.incoming_size == len(payload.data) or report.hash == payload.hash

    return next((report.slot for report in session.read_slots() if fits(report)), 1)


def _prove(session: Session, payload: Payload, terms: FlashTerms, watch: Watch) -> str:
    try:
        proof = try_out(session, payload, terms.waits, watch.step)
        if terms.confirm:
            watch.step("confirming")
            keep(session, payload)
    except BridgeError as fault:
        watch.step("taking it back")
        raise take_back(session, payload, fault, terms.waits) from fault
    return proof
