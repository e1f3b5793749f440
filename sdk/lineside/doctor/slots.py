"""A station's store: which bundle would judge, is it whole, and can the next one be installed?"""

from __future__ import annotations

from pathlib import Path

from lineside.bundle import TrustedKeys
from lineside.doctor.check import Check, State
from lineside.doctor.disk import check_disk
from lineside.errors import StorageError
from lineside.installing import Inventory, StoredBundle, slot_file, take_inventory
from lineside.slots import open_store


def check_store(folder: Path, trusted: TrustedKeys) -> list[Check]:
    """Look at both slots, at the record, and at the disk; a copy of the record may be healed.

    Args:
        folder: the store's.
        trusted: whose seal counts.
    """
    try:
        found = take_inventory(open_store(folder), trusted)
    except StorageError as error:
        return [
            Check(
                topic="slots",
                state=State.MISSING,
                found=str(error),
                remedy=f"lineside slots install FILE.lsb --store {folder} --make, or correct "
                "[bundle] store; docs/slots.md",
            )
        ]
    return [
        _check_active(found, folder),
        *_check_beside(found),
        *_check_record(found, folder),
        check_disk("store", folder, needed=True),
    ]


def active_file(folder: Path) -> Path | None:
    """The bundle that the station would open first; ``None``: there is none to be had."""
    try:
        store = open_store(folder)
        active = store.record.active
        return None if active is None else slot_file(store, active)
    except StorageError:
        return None  # which `check_store` says


def _check_active(found: Inventory, folder: Path) -> Check:
    active = next((slot for slot in found.slots if slot.active), None)
    if active is None:
        return Check(
            topic="slots",
            state=State.MISSING,
            found=f"{folder}: holds no confirmed bundle",
            remedy=f"lineside slots install FILE.lsb --store {folder}",
        )
    if active.whole != "yes":
        return Check(
            topic="slots",
            state=State.MISSING,
            found=f"slot {active.slot} is in use and not whole: {active.fault}",
            remedy=f"install a bundle anew: lineside slots install FILE.lsb --store {folder}; what "
            "is on trial is left by lineside slots revert",
        )
    return Check(topic="slots", state=State.OK, found=_tell(found, active))


def _tell(found: Inventory, active: StoredBundle) -> str:
    told = f"slot {active.slot}: {active.product} {active.version}, {active.state}"
    others = [f"slot {slot.slot}: {slot.state}" for slot in found.slots if not slot.active]
    return "; ".join([told, *others])


def _check_beside(found: Inventory) -> list[Check]:
    return [
        Check(
            topic="slots",
            state=State.WARNING,
            found=f"slot {slot.slot}, {slot.state}, is not whole: {slot.fault}",
            remedy="do not revert to it; the next install writes over it",
        )
        for slot in found.slots
        if not slot.active and slot.whole == "no"
    ]


def _check_record(found: Inventory, folder: Path) -> list[Check]:
    if not found.damage:
        return []
    return [
        Check(
            topic="slots",
            state=State.WARNING,
            found=found.damage,
            remedy=f"one of two copies counts still; is the disk read-only or worn? Look with "
            f"lineside slots list --store {folder}",
        )
    ]
