"""What a station says of itself: on the state topic, and at the end of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

import lineside
from lineside.mqtt.state import StateMessage, StateWord, make_state
from lineside.station.products import ModelCard
from lineside.station.report import RunReport
from lineside.station.slotwords import OVERDUE
from lineside.verdict import Reason

if TYPE_CHECKING:
    from lineside.station.loop import Station


def describe_state(station: Station) -> StateMessage:
    """Of this moment; waits for nothing."""
    model, outbox, maps = station.model, station.outbox, station.keepers.maps
    slots = station.slotting.words_of(model.product)
    return msgspec.structs.replace(
        _with_limits(_condition(station), model),
        product=model.product,
        bundle=model.bundle,
        version=model.version,
        engine=model.engine,
        runtime=lineside.__version__,
        given=outbox.given,
        acked=outbox.acknowledged,
        queue=outbox.waiting,
        maps_lost=0 if maps is None else maps.lost,
        slot=slots.slot,
        slot_state=slots.state,
        counter=model.counter,
        next=slots.next,
        reverted=slots.reverted,
        reverted_bundle=slots.reverted_bundle,
    )


def describe_run(station: Station, *, duration_s: float, stopped: bool) -> RunReport:
    """All of it, at its end."""
    connection, outbox, tally = station.publisher.connection, station.outbox, station.tally
    maps, frames = station.keepers.maps, station.keepers.frames
    return RunReport(
        frames=tally.frames,
        passed_over=station.source.passed_over,
        evaluations=dict(tally.evaluations),
        reasons=dict(tally.reasons),
        latency_us={name: times.percentiles() for name, times in station.latencies.items()},
        late=station.giver.late,
        waiting=outbox.waiting,
        given=outbox.given,
        acknowledged=outbox.acknowledged,
        reconnects=connection.reconnects,
        connection=connection.detail or "online",
        stopped=stopped,
        duration_s=duration_s,
        maps_written=0 if maps is None else maps.written,
        maps_lost=0 if maps is None else maps.lost,
        frames_kept=0 if frames is None else frames.written,
        frames_lost=0 if frames is None else frames.lost,
    )


def _condition(station: Station) -> StateMessage:
    if station.outbox.fault is not None:
        return make_state(StateWord.FAULT, reason=Reason.DISK.value)
    if station.source.fault:
        return make_state(StateWord.FAULT, reason="source")
    return msgspec.structs.replace(make_state(StateWord.ONLINE), warn=_warning(station))


def _warning(station: Station) -> str:
    if station.outbox.pressure:
        return station.outbox.pressure
    if station.control.pause.is_on:
        return Reason.PAUSED.value
    if station.source.warn:
        return "source"
    if station.keepers.drift.alarm:
        return "drift"
    return OVERDUE if station.slotting.is_overdue else ""


def _with_limits(state: StateMessage, model: ModelCard) -> StateMessage:
    limits = model.limits
    if limits is None:
        return state
    override = limits.override
    return msgspec.structs.replace(
        state,
        limits=limits.source,
        unit=model.unit,
        ok=limits.effective.ok_limit,
        not_ok=limits.effective.not_ok_limit,
        sealed_ok=limits.sealed.ok_limit,
        sealed_not_ok=limits.sealed.not_ok_limit,
        limits_by="" if override is None else override.terms.by,
        limits_why="" if override is None else override.terms.reason,
        limits_key="" if override is None else override.signer.key_id.hex(),
    )
