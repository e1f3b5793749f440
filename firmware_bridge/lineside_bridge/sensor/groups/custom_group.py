"""Our group: inventory, page hashes, pages, self-test, health, link, log, revert (docs/smp.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from lineside.slots import Area, SlotName
from lineside_bridge import custom
from lineside_bridge.body import Body
from lineside_bridge.custom import PAGE_BYTES, PAGE_HASH_BYTES, Code, Command
from lineside_bridge.framing import Framing
from lineside_bridge.header import Operation
from lineside_bridge.sensor.denial import DeniedError, UnknownRequestError
from lineside_bridge.sensor.groups.image_group import NAMES, NUMBERS, tell_standing
from lineside_bridge.sensor.groups.outcome import Outcome
from lineside_bridge.sensor.line import Line
from lineside_bridge.sensor.logbook import fit_words
from lineside_bridge.sensor.sensor import Sensor, tell_slot

# What an answer needs beside the list in it: header, keys, numbers, a hash.
_AROUND_BYTES = 80


class CustomGroup:
    """Args:
    sensor: what it speaks for.
    message_bytes: the longest answer that fits a client's buffer, header included.
    framings: that its server understands.
    line: what a client may change of it.
    """

    def __init__(
        self,
        sensor: Sensor,
        *,
        message_bytes: int,
        framings: tuple[Framing, ...],
        line: Line,
    ) -> None:
        self._sensor = sensor
        self._line = line
        self._room_bytes = message_bytes - _AROUND_BYTES
        self._framings = framings

    def answer(self, operation: Operation, command: int, body: Body) -> Outcome:
        """See `Group`."""
        known: dict[tuple[Operation, int], Callable[[Body], Outcome]] = {
            (Operation.READ, Command.DEVICE): lambda _body: self._tell_device(),
            (Operation.READ, Command.SLOT): self._tell_slot,
            (Operation.READ, Command.DIGEST): self._tell_digest,
            (Operation.READ, Command.PAGES): self._tell_pages,
            (Operation.WRITE, Command.WRITE): self._write,
            (Operation.WRITE, Command.COPY): self._copy,
            (Operation.WRITE, Command.SELF_TEST): self._start_selftest,
            (Operation.READ, Command.SELF_TEST): lambda _body: self._tell_selftest(),
            (Operation.READ, Command.HEALTH): lambda _body: _yes(self._sensor.health),
            (Operation.READ, Command.LINK): lambda _body: self._tell_link(),
            (Operation.WRITE, Command.LINK): self._change_link,
            (Operation.READ, Command.LOG): self._tell_log,
            (Operation.WRITE, Command.REVERT): self._revert,
        }
        found = known.get((operation, command))
        if found is None:
            raise UnknownRequestError
        return found(body)

    def _tell_device(self) -> Outcome:
        facts, record = self._sensor.facts, self._sensor.store.record
        reverted = record.reverted
        return _yes(
            custom.Device(
                serial=facts.serial,
                hardware=facts.hardware,
                engine=facts.engine,
                runtime=facts.runtime,
                capacity=self._sensor.store.storage.capacity_bytes(Area.SLOT_A),
                keys=self._sensor.key_ids,
                counters={key.hex(): count for key, count in record.counters.items()},
                starts=record.starts,
                reverted="" if reverted is None else reverted.reason,
                reverted_hash=b"" if reverted is None else bytes.fromhex(reverted.hash),
            )
        )

    def _tell_slot(self, body: Body) -> Outcome:
        name = _slot(body)
        slot = self._sensor.store.record.slots[name]
        report = custom.SlotReport(slot=NUMBERS[name], state=slot.state.value)
        if slot.incoming is not None:
            report = msgspec.structs.replace(
                report,
                incoming=self._sensor.uploads.offset,
                incoming_size=slot.incoming.size_bytes,
            )
        if slot.card is not None:
            contents = tell_slot(self._sensor, name)
            identity = None if contents is None else contents.checked.manifest.identity
            report = msgspec.structs.replace(
                report,
                hash=bytes.fromhex(slot.card.hash),
                size=slot.card.size_bytes,
                product="" if identity is None else identity.product,
                version="" if identity is None else identity.version,
                key=slot.card.key_id,
                counter=slot.card.security_counter,
            )
        return _yes(report)

    def _tell_digest(self, body: Body) -> Outcome:
        data = self._read_file(_slot(body))
        return _yes(custom.Digest(size=len(data), sha256=hashlib.sha256(data).digest()))

    def _tell_pages(self, body: Body) -> Outcome:
        asked = custom.decode(body, custom.PageQuery)
        data = self._read_file(NAMES[asked.slot])
        total = -(-len(data) // PAGE_BYTES)
        count = max(0, min(asked.count, total - asked.first, self._room_bytes // PAGE_HASH_BYTES))
        pages = range(asked.first, asked.first + count)
        hashes = b"".join(
            hashlib.sha256(data[page * PAGE_BYTES : (page + 1) * PAGE_BYTES]).digest()[
                :PAGE_HASH_BYTES
            ]
            for page in pages
        )
        return _yes(custom.PageHashes(first=asked.first, total=total, hashes=hashes))

    def _write(self, body: Body) -> Outcome:
        asked = custom.decode(body, custom.PageWrite)
        _check_sum(asked.off, asked.data, asked.crc)
        return tell_standing(self._sensor.uploads.go_on(asked.off, asked.data))

    def _copy(self, body: Body) -> Outcome:
        asked = custom.decode(body, custom.PageCopy)
        # The slot that is being filled holds no bundle, so reading it is refused by the store.
        data = self._sensor.store.read(NAMES[asked.slot], asked.source, asked.len)
        _check_sum(asked.off, data, asked.crc)
        return tell_standing(self._sensor.uploads.go_on(asked.off, data))

    def _start_selftest(self, body: Body) -> Outcome:
        self._sensor.start_selftest(_slot(body))
        return _yes(custom.Done())

    def _tell_selftest(self) -> Outcome:
        report = self._sensor.selftest
        return _yes(
            msgspec.structs.replace(report, words=fit_words(report.words, self._room_bytes))
        )

    def _tell_link(self) -> Outcome:
        words = tuple(framing.value for framing in self._framings)
        line = self._line
        return _yes(custom.LinkOffer(framings=words, bauds=line.bauds, baud=line.baud))

    def _change_link(self, body: Body) -> Outcome:
        asked = custom.decode(body, custom.LinkChange)
        if asked.baud and asked.baud not in self._line.bauds:
            raise DeniedError(Code.BAUD, f"{asked.baud} baud is none of those offered")
        framing = next((kind for kind in self._framings if kind.value == asked.framing), None)
        if asked.framing and framing is None:
            raise DeniedError(Code.INVALID, f"framing {asked.framing[:16]!r} is not offered")

        def change() -> None:
            self._line.change(baud=asked.baud, framing=framing, hold_ms=asked.hold_ms)

        return Outcome(body={}, then=change)

    def _tell_log(self, body: Body) -> Outcome:
        asked = custom.decode(body, custom.LogQuery)
        first, lines = self._sensor.log.read(asked.first, self._room_bytes)
        return _yes(custom.LogLines(first=first, lines=lines))

    def _revert(self, body: Body) -> Outcome:
        asked = custom.decode(body, custom.Revert)
        active = self._sensor.revert(asked.reason)
        return _yes(custom.Reverted(slot=-1 if active is None else NUMBERS[active]))

    def _read_file(self, name: SlotName) -> bytes:
        """A slot's bundle, or what is coming into it, read anew."""
        store = self._sensor.store
        slot = store.record.slots[name]
        if slot.card is not None:
            return store.read(name, 0, slot.card.size_bytes)
        if slot.incoming is not None:
            return store.read_incoming(0, self._sensor.uploads.offset)
        raise DeniedError(Code.NO_SLOT, f"slot {name.value}: nothing lies there")


def _slot(body: Body) -> SlotName:
    return NAMES[custom.decode(body, custom.SlotQuery).slot]


def _check_sum(off: int, data: bytes, crc: int) -> None:
    if custom.checksum(off, data) != crc:
        raise DeniedError(Code.CHECKSUM, f"the bytes at {off} are not those that were meant")


def _yes(found: msgspec.Struct) -> Outcome:
    return Outcome(body=custom.encode(found))
