"""The tiny bundle in other versions, for other hardware, of other products; and stores of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
from tiny_bundle import TinyBundle

from lineside.bundle import PartData, load_trust, make_thin_copy, open_bundle
from lineside.installing import check_bundle_file
from lineside.installing.arrival import CHUNK_BYTES, describe_file
from lineside.slots import SlotName, SlotState, Store, open_store


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlotBundles:
    """Seals what a test of slots needs into a folder, each under its own name."""

    tiny: TinyBundle
    folder: Path

    @property
    def trust(self) -> Path:
        """Who seals them all."""
        return self.tiny.public_key_path

    def seal(self, version: str, *, padding_bytes: int = 0, **identity: object) -> Path:
        """Another version; `identity` as in the manifest."""
        changed = msgspec.structs.replace(self.tiny.manifest.identity, version=version, **identity)
        padding = (PartData(name="padding", data=bytes(padding_bytes)),) if padding_bytes else ()
        return self.tiny.reseal(
            self.folder / f"{version}.lsb",
            manifest=msgspec.structs.replace(self.tiny.manifest, identity=changed),
            changed=padding,
        )

    def thin(self, path: Path, engine: str) -> Path:
        """A thin copy beside it."""
        with open_bundle(path, trust=self.trust) as bundle:
            return make_thin_copy(bundle, path.with_suffix(f".{engine}.lsb"), engine=engine)


def receive(store: Store, path: Path, *, until: int | None = None) -> None:
    """Bring bytes of a file into the free slot, as whoever receives them does."""
    offset = store.begin(describe_file(path))
    data = path.read_bytes()[:until]
    while offset < len(data):
        store.write(offset, data[offset : offset + CHUNK_BYTES])
        offset = min(len(data), offset + CHUNK_BYTES)


def put(folder: Path, path: Path, trust: Path) -> Store:
    """Into a store, as an install leaves it, but without the golden self-test, which takes long."""
    store = open_store(folder, make=True)
    receive(store, path)
    checked = check_bundle_file(path, trust=load_trust(trust))
    store.finish(checked.card)
    return store


def states(store: Store) -> tuple[SlotState, SlotState]:
    """Of slot a and b."""
    slots = store.record.slots
    return slots[SlotName.A].state, slots[SlotName.B].state
