"""Group 1: image state, upload, erase, slot info, as Zephyr's servers have them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from lineside.slots import Area, Incoming, Slot, SlotName, SlotState
from lineside_bridge import custom
from lineside_bridge.body import Body
from lineside_bridge.custom import Code
from lineside_bridge.header import Operation
from lineside_bridge.requests import ImageCommand, ImageState
from lineside_bridge.sensor.denial import EBADSTATE, DeniedError, UnknownRequestError
from lineside_bridge.sensor.groups.outcome import Outcome
from lineside_bridge.sensor.sensor import Sensor, tell_slot
from lineside_bridge.sensor.uploads import Standing

NUMBERS = {SlotName.A: 0, SlotName.B: 1}
_IN_USE = (SlotState.PENDING, SlotState.TRIAL, SlotState.CONFIRMED)
NAMES = {number: name for name, number in NUMBERS.items()}


class UploadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Of one message; ``len`` and ``sha`` come with the first."""

    off: custom.Count
    data: bytes = b""
    len: custom.Count | None = None
    sha: bytes | None = None
    image: int = 0


class StateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is to become of which image; without ``hash``: the one that runs."""

    hash: bytes = b""
    confirm: bool = False


class EraseRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Without ``slot``: the one that is not in use."""

    slot: custom.SlotNumber | None = None


class ImageGroup:
    """Args:
    sensor: what it speaks for.
    """

    def __init__(self, sensor: Sensor) -> None:
        self._sensor = sensor
        # MCUboot's names of what was unwrapped here, to bundles' hashes; until the power goes.
        self._images: dict[bytes, bytes] = {}

    def answer(self, operation: Operation, command: int, body: Body) -> Outcome:
        """See `Group`."""
        known: dict[tuple[Operation, int], Callable[[Body], Outcome]] = {
            (Operation.READ, ImageCommand.STATE): lambda _body: self._tell_states(),
            (Operation.WRITE, ImageCommand.STATE): self._change_state,
            (Operation.WRITE, ImageCommand.UPLOAD): self._upload,
            (Operation.WRITE, ImageCommand.ERASE): self._erase,
            (Operation.READ, ImageCommand.SLOT_INFO): lambda _body: self._tell_sizes(),
        }
        found = known.get((operation, command))
        if found is None:
            raise UnknownRequestError
        return found(body)

    def _upload(self, body: Body) -> Outcome:
        asked = custom.decode(body, UploadRequest)
        uploads = self._sensor.uploads
        if asked.off or asked.len is None:
            return tell_standing(uploads.go_on(asked.off, asked.data))
        self._check_begin(asked)
        incoming = Incoming(sha256=asked.sha or b"", size_bytes=asked.len)
        return tell_standing(uploads.begin(incoming, asked.data))

    def _check_begin(self, asked: UploadRequest) -> None:
        if asked.image != 0:
            raise DeniedError(Code.INVALID, f"image {asked.image}: there is image 0 alone")
        if asked.sha is None or len(asked.sha) != 32:
            raise DeniedError(Code.INVALID, "the first message has no SHA-256 (sha) of the whole")
        store = self._sensor.store
        room = store.storage.capacity_bytes(Area.of(store.free()))
        if not asked.len or asked.len > room:
            raise DeniedError(Code.FULL, f"{asked.len} bytes, and a slot has {room}")

    def _change_state(self, body: Body) -> Outcome:
        asked = custom.decode(body, StateRequest)
        meant = self._images.get(asked.hash, asked.hash)
        if not asked.confirm:
            self._try(meant)
        elif not meant or meant == self._hash_in_use():
            self._sensor.confirm()
        else:
            raise DeniedError(
                Code.STATE,
                "only what runs is confirmed: test it, reset, then confirm",
                plain=EBADSTATE,
            )
        return self._tell_states()

    def _try(self, image_hash: bytes) -> None:
        uploads, record = self._sensor.uploads, self._sensor.store.record
        received = uploads.received
        if received is not None and image_hash in received.names:
            self._sensor.accept()
            if received.wrapped_hash:
                self._images = {received.wrapped_hash: bytes.fromhex(received.checked.hash)}
            return
        states = [
            slot.state
            for slot in record.slots.values()
            if slot.card is not None and bytes.fromhex(slot.card.hash) == image_hash
        ]
        if any(state in _IN_USE for state in states):
            return  # it is, or will be, in use
        if states:
            raise DeniedError(
                Code.STATE,
                "that bundle was confirmed before: take it back by a revert",
                plain=EBADSTATE,
            )
        raise DeniedError(Code.NO_SLOT, f"no slot holds {image_hash.hex()[:16]}")

    def _erase(self, body: Body) -> Outcome:
        """Forget what is coming in. What judges, or is to be tried, is never erased; what was
        confirmed before stays to go back to until an upload needs its room.
        """
        asked = custom.decode(body, EraseRequest)
        record = self._sensor.store.record
        name = None if asked.slot is None else NAMES[asked.slot]
        if name is not None and record.slots[name].state in _IN_USE:
            raise DeniedError(
                Code.STATE,
                f"slot {name.value} is {record.slots[name].state.value}: not to be erased",
                plain=EBADSTATE,
            )
        self._sensor.uploads.forget()
        return Outcome(body={})

    def _hash_in_use(self) -> bytes:
        record = self._sensor.store.record
        card = None if record.active is None else record.slots[record.active].card
        return b"" if card is None else bytes.fromhex(card.hash)

    def _tell_states(self) -> Outcome:
        record = self._sensor.store.record
        states = [
            self._state_of(name, slot, active=name is record.active)
            for name, slot in record.slots.items()
        ]
        return Outcome(body={"images": [state for state in states if state]})

    def _state_of(self, name: SlotName, slot: Slot, *, active: bool) -> Body:
        if slot.card is None:
            return self._state_of_received(name)
        contents = tell_slot(self._sensor, name)
        return _encode(
            ImageState(
                slot=NUMBERS[name],
                version="" if contents is None else contents.checked.manifest.identity.version,
                hash=bytes.fromhex(slot.card.hash),
                bootable=contents is not None,
                pending=slot.state is SlotState.PENDING,
                confirmed=slot.state is SlotState.CONFIRMED,
                active=active,
            )
        )

    def _state_of_received(self, name: SlotName) -> Body:
        uploads = self._sensor.uploads
        received, incoming = uploads.received, uploads.incoming
        if received is None or incoming is None or incoming[0] is not name:
            return {}
        return _encode(
            ImageState(
                slot=NUMBERS[name],
                version=received.checked.manifest.identity.version,
                hash=received.wrapped_hash or bytes.fromhex(received.checked.hash),
                bootable=True,
            )
        )

    def _tell_sizes(self) -> Outcome:
        storage = self._sensor.store.storage
        slots = [
            {"slot": number, "size": storage.capacity_bytes(Area.of(name))}
            for name, number in NUMBERS.items()
        ]
        return Outcome(body={"images": [{"image": 0, "slots": slots}]})


def tell_standing(standing: Standing) -> Outcome:
    """How an upload stands, as an answer has it."""
    match = {} if standing.match is None else {"match": standing.match}
    return Outcome(body={"off": standing.off, **match})


def _encode(state: ImageState) -> Body:
    found: Body = msgspec.to_builtins(state, builtin_types=(bytes,))
    return found
