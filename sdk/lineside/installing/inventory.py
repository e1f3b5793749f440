"""What lies in a store and whether it is whole; nothing is changed."""

from __future__ import annotations

from typing import Literal

import msgspec

from lineside.bundle import Bundle, TrustedKeys, open_bundle
from lineside.errors import BundleError
from lineside.installing.admission import slot_file
from lineside.slots import Record, Slot, SlotCard, SlotName, SlotState, Store


class StoredBundle(msgspec.Struct, frozen=True, kw_only=True):
    """One slot.

    Attributes:
        slot: ``a`` or ``b``.
        state: in words.
        active: judges, or would after a start.
        bundle: its hash, 64 hex digits; ``""`` of an empty slot, as all other texts then.
        product, version: as sealed; ``""`` where that cannot be verified.
        key_id: whose seal, 32 hex digits.
        key: the trusted key's name.
        security_counter: as sealed.
        size_bytes: of the file; of an empty slot, of what is coming in.
        whole: ``yes``: seal and hashes hold now; ``no``: see ``fault``; ``unknown``: no key is
            trusted here, so nothing could be verified; ``""``: empty.
        fault: what is wrong.
    """

    slot: str
    state: str
    active: bool
    bundle: str = ""
    product: str = ""
    version: str = ""
    key_id: str = ""
    key: str = ""
    security_counter: int | None = None
    size_bytes: int = 0
    whole: Literal["yes", "no", "unknown", ""] = ""
    fault: str = ""


class LastRevert(msgspec.Struct, frozen=True, kw_only=True):
    """Which bundle was left, 64 hex digits, and why, one word."""

    bundle: str
    reason: str


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """A store.

    Attributes:
        slots: both.
        active: the slot that judges; ``""``: none does.
        counters: by key id (32 hex digits) the lowest security counter that is still taken.
        reverted: the last revert; ``None``: there was none.
        trial_starts: of the station since the bundle is on trial; ``None``: none is.
        sequence: of the record; rises with each change.
        damage: what is wrong with one of the record's two copies; ``""``: nothing.
    """

    slots: tuple[StoredBundle, ...]
    active: str
    counters: dict[str, int]
    reverted: LastRevert | None
    trial_starts: int | None
    sequence: int
    damage: str


def take_inventory(store: Store, trusted: TrustedKeys | None) -> Inventory:
    """Read the record, and verify each bundle.

    Args:
        store: over a folder.
        trusted: whose seal counts; ``None``: no bundle is verified.

    Raises:
        StorageError: the record cannot be read.
    """
    record = store.record
    active, reverted = record.active, record.reverted
    return Inventory(
        slots=tuple(_describe(store, record, name, trusted) for name in SlotName),
        active="" if active is None else active.value,
        counters={key_id.hex(): lowest for key_id, lowest in sorted(record.counters.items())},
        reverted=None
        if reverted is None
        else LastRevert(bundle=reverted.hash, reason=reverted.reason),
        trial_starts=None if record.find(SlotState.TRIAL) is None else record.starts,
        sequence=record.sequence,
        damage=store.damage,
    )


def _describe(
    store: Store, record: Record, name: SlotName, trusted: TrustedKeys | None
) -> StoredBundle:
    slot = record.slots[name]
    bare = StoredBundle(slot=name.value, state=slot.state.value, active=name is record.active)
    if slot.card is None:
        return msgspec.structs.replace(bare, size_bytes=_coming_bytes(slot))
    carded = msgspec.structs.replace(
        bare,
        bundle=slot.card.hash,
        key_id=slot.card.key_id.hex(),
        security_counter=slot.card.security_counter,
        size_bytes=slot.card.size_bytes,
        whole="unknown",
    )
    return carded if trusted is None else _verify(store, name, slot.card, carded, trusted)


def _coming_bytes(slot: Slot) -> int:
    return 0 if slot.incoming is None else slot.incoming.size_bytes


def _verify(
    store: Store, name: SlotName, card: SlotCard, carded: StoredBundle, trusted: TrustedKeys
) -> StoredBundle:
    file = slot_file(store, name)
    try:
        with open_bundle(file, trust=trusted) as bundle:
            return _as_verified(bundle, card, carded)
    except BundleError as error:
        return msgspec.structs.replace(carded, whole="no", fault=str(error))


def _as_verified(bundle: Bundle, card: SlotCard, carded: StoredBundle) -> StoredBundle:
    if bundle.hash != card.hash:
        fault = (
            f"{bundle.path}: holds bundle {bundle.model_id}, which the record does not know: "
            "install again"
        )
        return msgspec.structs.replace(carded, whole="no", fault=fault)
    identity = bundle.manifest.identity
    return msgspec.structs.replace(
        carded,
        product=identity.product,
        version=identity.version,
        key=bundle.signer.name,
        whole="yes",
    )
