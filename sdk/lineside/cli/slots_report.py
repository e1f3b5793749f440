"""What `lineside slots` says."""

from __future__ import annotations

from lineside.cli.table import format_table, printable
from lineside.installing import Installed, Inventory, StoredBundle
from lineside.slots import Record, SlotName, SlotState

_HEAD = ("slot", "state", "product", "version", "bundle", "key", "counter", "bytes", "whole")
_ID_DIGITS = 16


def tell_inventory(found: Inventory) -> str:
    """A table of both slots, and below it what else the record holds."""
    rows = [_row(slot) for slot in found.slots]
    lines = [format_table(_HEAD, rows, right=(6, 7)), "", *_tell_use(found)]
    lines += [
        f"counter {lowest} or more is taken of key {key_id[:_ID_DIGITS]}"
        for key_id, lowest in found.counters.items()
    ]
    if found.reverted is not None:
        lines.append(_tell_revert(found))
    if any(slot.whole == "unknown" for slot in found.slots):
        lines.append("nothing was verified: no key is trusted here (--trust factory.pub)")
    faults = [f"slot {slot.slot}: {slot.fault}" for slot in found.slots if slot.fault]
    return "\n".join([*lines, *faults, *([found.damage] if found.damage else [])])


def _row(slot: StoredBundle) -> tuple[str, ...]:
    counter = "" if slot.security_counter is None else str(slot.security_counter)
    coming = not slot.bundle and slot.size_bytes
    state = f"{slot.state}, filling" if coming else slot.state
    return (
        *(slot.slot, state, printable(slot.product), printable(slot.version)),
        *(slot.bundle[:_ID_DIGITS], slot.key_id[:_ID_DIGITS], counter),
        *(f"{slot.size_bytes:,}" if slot.size_bytes else "", slot.whole),
    )


def _tell_use(found: Inventory) -> list[str]:
    if not found.active:
        return ["no bundle is in use: lineside slots install"]
    trial = ""
    if found.trial_starts is not None:
        trial = f", on trial, the station started {found.trial_starts} time(s) since"
    return [f"slot {found.active} is in use{trial}"]


def _tell_revert(found: Inventory) -> str:
    """The record keeps it for good, also of a bundle that was installed once more since."""
    assert found.reverted is not None
    bundle, reason = found.reverted.bundle, printable(found.reverted.reason)
    told = f"last revert: from {bundle[:_ID_DIGITS]}, {reason}"
    again = [slot for slot in found.slots if slot.bundle == bundle]
    return told + "".join(f"; since then {slot.state} in slot {slot.slot} again" for slot in again)


def tell_installed(done: Installed) -> str:
    """What came of it, in one or two lines."""
    named = f"{printable(done.product)} {printable(done.version)}"
    if done.proof is None:
        return f"{named} is {done.state.value} in slot {done.slot.value} already: nothing was done"
    what = {
        SlotState.PENDING: "pending in slot {}: the station tries it next",
        SlotState.CONFIRMED: "confirmed in slot {}: the first of this store",
    }[done.state].format(done.slot.value)
    return f"{named} is {what}\nproved by {done.proof.engine}: {done.proof.selftest.told()}"


def describe_installed(done: Installed) -> dict[str, object]:
    """The same for programs."""
    return {
        "slot": done.slot.value,
        "state": done.state.value,
        "already": done.already,
        "product": done.product,
        "version": done.version,
        "bundle": done.card.hash,
        "key_id": done.card.key_id.hex(),
        "security_counter": done.card.security_counter,
        "size_bytes": done.card.size_bytes,
        "proof": done.proof,
    }


def tell_confirmed(record: Record) -> str:
    """After a confirmation."""
    told = f"slot {_tell(record, record.active)} is confirmed"
    before = record.find(SlotState.REVERT)
    if before is None:
        return told
    return f"{told}; slot {_tell(record, before)} can be taken back (lineside slots revert)"


def tell_reverted(record: Record) -> str:
    """After a revert."""
    left = "" if record.reverted is None else record.reverted.hash[:_ID_DIGITS]
    if record.active is None:
        return f"bundle {left} was left; no bundle is in use"
    return f"bundle {left} was left; slot {_tell(record, record.active)} is in use"


def describe_record(record: Record) -> dict[str, object]:
    """What the record says after a change, for programs."""
    return {
        "active": None if record.active is None else record.active.value,
        "slots": {
            name.value: {"state": slot.state.value, "bundle": slot.card and slot.card.hash}
            for name, slot in record.slots.items()
        },
        "reverted": record.reverted
        and {"bundle": record.reverted.hash, "reason": record.reverted.reason},
    }


def _tell(record: Record, name: SlotName | None) -> str:
    assert name is not None
    card = record.slots[name].card
    return f"{name.value} (bundle {'' if card is None else card.hash[:_ID_DIGITS]})"
