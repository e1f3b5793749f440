"""Files for slots whose content does not matter, and the way through a store that most tests go."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

from lineside.slots import Incoming, SlotCard, SlotName, Store

KEY: bytes = b"key-of-a-factory"


@dataclass(frozen=True, kw_only=True)
class SlotFile:
    """Bytes, and what the record says of them; the bundle's hash is made up from theirs."""

    data: bytes
    card: SlotCard
    incoming: Incoming


def slot_file(
    number: int, *, size_bytes: int = 700, counter: int = 1, key_id: bytes = KEY
) -> SlotFile:
    """The same number gives the same bytes."""
    data = random.Random(number).randbytes(size_bytes)
    digest = hashlib.sha256(data)
    card = SlotCard(
        hash=digest.hexdigest(), size_bytes=size_bytes, key_id=key_id, security_counter=counter
    )
    incoming = Incoming(sha256=digest.digest(), size_bytes=size_bytes)
    return SlotFile(data=data, card=card, incoming=incoming)


def send(store: Store, file: SlotFile, *, chunk_bytes: int = 256, end: int | None = None) -> None:
    """Write it into the free slot, going on where the store says, up to an end."""
    for start in range(store.begin(file.incoming), len(file.data), chunk_bytes):
        if end is not None and start >= end:
            return
        store.write(start, file.data[start : start + chunk_bytes])


def install(store: Store, file: SlotFile) -> SlotName:
    """Send and finish it."""
    send(store, file)
    return store.finish(file.card)


def install_confirmed(store: Store, file: SlotFile) -> SlotName:
    """Install it and confirm it."""
    slot = install(store, file)
    if store.record.active is slot:
        return slot
    store.start_trial()
    return store.confirm()


def active_data(store: Store) -> bytes | None:
    """All bytes of what judges."""
    record = store.record
    if record.active is None:
        return None
    card = record.slots[record.active].card
    assert card is not None
    return store.read(record.active, 0, card.size_bytes)
