"""A bundle on its way into a store: one at a time, in order, told to its sender as far as durable.

No thread, no network, no clock of its own; the store is the only thing it touches.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from lineside.errors import InputDataError, LinesideError
from lineside.mqtt.commands import Answer
from lineside.mqtt.desk import Reply
from lineside.remote.chunk import TAG_BYTES, Chunk, unpack_chunk
from lineside.remote.leastpace import LeastPace, PaceMeter
from lineside.remote.refusals import refusal_words
from lineside.slots import Incoming, Record, SlotName, SlotState, Storage

# A sender that was ended and started again is another one; it may go on once the first is silent.
SILENT_S: Final = 10.0
LEAST_PACE: Final = LeastPace(pause_s=SILENT_S)
_TOLD_AGAIN_S: Final = 1.0
_ENDS_KEPT: Final = 16
_SENDERS_KEPT: Final = 4
_READ_BYTES: Final = 1024 * 1024
_IN_USE: Final = (SlotState.PENDING, SlotState.TRIAL, SlotState.CONFIRMED)


class BundleStore(Protocol):
    """What is needed of `lineside.slots.Store`."""

    @property
    def record(self) -> Record: ...
    @property
    def storage(self) -> Storage: ...
    def begin(self, incoming: Incoming) -> int: ...
    def write(self, offset: int, data: bytes) -> None: ...
    def discard(self) -> None: ...
    def read(self, slot: SlotName, offset: int, size: int) -> bytes: ...


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where a product's bundles go.

    Attributes:
        store: takes the bytes.
        check_room: is told how many will come; raises ``StorageError`` where they find no room.
        prove: verifies what lies there whole, proves it on this device and makes it pending;
            returns `installed_words`. What it raises becomes the answer, and nothing is left of
            the bytes.
    """

    store: BundleStore
    check_room: Callable[[int], None]
    prove: Callable[[], str]


@dataclass(frozen=True, kw_only=True)
class Request:
    """An `install` whose signature was judged.

    Attributes:
        sha256: of the whole file, 32 bytes.
        size_bytes: of the whole file.
        product: whose store; ``""``: of the product in use.
        fetched: the station downloads it; no chunk is taken.
    """

    command_id: str
    sha256: bytes
    size_bytes: int
    product: str = ""
    fetched: bool = False


@dataclass(kw_only=True)
class _Transfer:
    request: Request
    destination: Destination
    offset: int
    heard_s: float
    meter: PaceMeter
    senders: OrderedDict[str, None] = field(default_factory=OrderedDict)

    @property
    def whole(self) -> bool:
        return self.offset == self.request.size_bytes


class Reception:
    """Takes one bundle after the other; for one thread.

    Args:
        find: where a product's bundles go; raises ``RefusedError`` where it has no store.
        silent_s: a sender that says nothing for so long gives way to another.
        least: slower chunks are given up, so that others get their turn.
    """

    def __init__(
        self,
        find: Callable[[str], Destination],
        *,
        silent_s: float = SILENT_S,
        least: LeastPace = LEAST_PACE,
    ) -> None:
        self._find = find
        self._silent_s = silent_s
        self._least = least
        self._transfer: _Transfer | None = None
        self._ended: OrderedDict[str, tuple[bytes, Answer]] = OrderedDict()
        self._complained_s = -_TOLD_AGAIN_S
        self._told: tuple[int, float] = (-1, 0.0)

    @property
    def request(self) -> Request | None:
        """What is being taken."""
        return None if self._transfer is None else self._transfer.request

    @property
    def offset(self) -> int:
        """Bytes of it that are durable."""
        return 0 if self._transfer is None else self._transfer.offset

    @property
    def whole(self) -> bool:
        """Whether all bytes are there and `prove` comes next."""
        return self._transfer is not None and self._transfer.whole

    def begin(self, request: Request, now_s: float) -> list[Reply]:
        """A sender asks: from where to send, or what became of it."""
        ended = self._ended.get(request.command_id)
        if ended is not None and ended[0] == request.sha256:
            return [_reply("install", request.command_id, ended[1])]
        transfer = self._transfer
        if transfer is not None and not self._may_follow(transfer, request, now_s):
            return [self._busy(request)]
        if transfer is not None and _is_same(transfer.request, request):
            return self._go_on(transfer, request, now_s)
        try:
            return self._begin(request, now_s)
        except LinesideError as error:
            return self._end([request], Answer(ok=False, detail=refusal_words(error)))

    def join(self, request: Request) -> list[Reply]:
        """A sender asks while the bundle is being proved; from any thread."""
        transfer = self._transfer
        if transfer is None or transfer.request.sha256 != request.sha256:
            return [self._busy(request)]
        _add(transfer.senders, request.command_id)
        return [_offset_reply(request.command_id, transfer.request.size_bytes)]

    def take(self, payloads: Sequence[bytes], now_s: float) -> list[Reply]:
        """Messages of ``cmd/chunk``, in the order in which they came; written at once."""
        transfer = self._transfer
        if transfer is None or transfer.request.fetched:
            return self._complain("no file is being taken here; send install first", now_s)
        tag = transfer.request.sha256[:TAG_BYTES]
        chunks = []
        complaints: list[Reply] = []
        for payload in payloads:
            try:
                chunk = unpack_chunk(payload)
            except InputDataError as error:
                complaints += self._complain(str(error), now_s)
                continue
            if chunk.tag != tag:
                complaints += self._complain("of another file than the one taken here", now_s)
            else:
                chunks.append(chunk)
        return complaints + (self._write(transfer, chunks, now_s) if chunks else [])

    def append(self, data: bytes, now_s: float) -> list[Reply]:
        """The next bytes, fetched by the station itself."""
        transfer = self._transfer
        if transfer is None or not data:
            return []
        return self._put(transfer, data[: transfer.request.size_bytes - transfer.offset], now_s)

    def prove(self) -> list[Reply]:
        """Verify and prove what is whole; takes as long as that takes."""
        transfer = self._transfer
        assert transfer is not None, "nothing is being taken"
        try:
            answer = Answer(ok=True, detail=transfer.destination.prove())
        except LinesideError as error:
            answer = Answer(ok=False, detail=refusal_words(error))
        return self._finish(transfer, answer)

    def give_up(self, words: str, *, keep: bool = False) -> list[Reply]:
        """It cannot be gone on with; ``keep``: what is there stays, for another attempt."""
        transfer = self._transfer
        if transfer is None:
            return []
        if not keep:
            # Where this fails, too, the next begin erases; the answer names the first fault.
            with contextlib.suppress(LinesideError):
                _forget(transfer)
        return self._finish(transfer, Answer(ok=False, detail=words))

    def _may_follow(self, transfer: _Transfer, request: Request, now_s: float) -> bool:
        is_its_own = request.command_id in transfer.senders and _is_same(transfer.request, request)
        return is_its_own or now_s - transfer.heard_s >= self._silent_s

    def _go_on(self, transfer: _Transfer, request: Request, now_s: float) -> list[Reply]:
        if request.command_id not in transfer.senders:
            transfer.senders.clear()  # the one before has been silent
        _add(transfer.senders, request.command_id)
        transfer.heard_s = now_s
        if self._drips(transfer, 0, now_s):
            return self._give_way()
        self._told = (transfer.offset, now_s)
        return [_offset_reply(request.command_id, transfer.offset)]

    def _begin(self, request: Request, now_s: float) -> list[Reply]:
        self._transfer = None
        destination = self._find(request.product)
        if found := _find_installed(destination.store, request):
            return self._end([request], Answer(ok=True, detail=f"already {found}"))
        destination.check_room(request.size_bytes)
        incoming = Incoming(sha256=request.sha256, size_bytes=request.size_bytes)
        offset = destination.store.begin(incoming)
        self._transfer = _Transfer(
            request=request,
            destination=destination,
            offset=offset,
            heard_s=now_s,
            meter=PaceMeter(self._least, now_s),
        )
        _add(self._transfer.senders, request.command_id)
        self._told = (offset, now_s)
        return [_offset_reply(request.command_id, offset)]

    def _busy(self, request: Request) -> Reply:
        transfer = self._transfer
        words = "busy: another file is being installed"
        if transfer is not None:
            share = 100 * transfer.offset // transfer.request.size_bytes
            same = transfer.request.sha256 == request.sha256
            which = "this file" if same else "another file"
            words = f"busy: {which} comes from another sender, {share} % of it are here; wait"
        return _reply("install", request.command_id, Answer(ok=False, detail=words))

    def _write(self, transfer: _Transfer, chunks: list[Chunk], now_s: float) -> list[Reply]:
        transfer.heard_s = now_s
        if any(c.offset + len(c.data) > transfer.request.size_bytes for c in chunks):
            words = "malformed: bytes beyond the size that install has named"
            return self.give_up(words)
        new = b"".join(_follow(chunks, transfer.offset))
        is_slow = self._drips(transfer, len(new), now_s)
        if new:
            replies = self._put(transfer, new, now_s)
            ends = self._transfer is None or transfer.whole
            return replies if ends or not is_slow else replies + self._give_way()
        if is_slow:
            return self._give_way()
        # Something before it was lost, or came twice; said once a second, for each of a window's
        # stretches would have its sender begin anew.
        offset, at_s = self._told
        if offset == transfer.offset and now_s - at_s < _TOLD_AGAIN_S:
            return []
        return self._tell_offset(transfer, now_s)

    def _put(self, transfer: _Transfer, data: bytes, now_s: float) -> list[Reply]:
        store = transfer.destination.store
        try:
            with store.storage.exclusive():
                store.write(transfer.offset, data)
                # The store syncs with each page only; an answer means that it is on the disk.
                store.storage.sync()
        except LinesideError as error:
            # A disk that is full has better use for the room.
            return self.give_up(refusal_words(error))
        transfer.offset += len(data)
        transfer.heard_s = now_s
        return self._tell_offset(transfer, now_s)

    def _drips(self, transfer: _Transfer, new_bytes: int, now_s: float) -> bool:
        """Whether chunks come too slowly; a download sees to that itself."""
        return not transfer.request.fetched and transfer.meter.is_too_slow(new_bytes, now_s)

    def _give_way(self) -> list[Reply]:
        words = f"slow: {self._least.told()}, others wait; what came stays: say it again to go on"
        return self.give_up(words, keep=True)

    def _tell_offset(self, transfer: _Transfer, now_s: float) -> list[Reply]:
        self._told = (transfer.offset, now_s)
        return [_offset_reply(sender, transfer.offset) for sender in list(transfer.senders)]

    def _complain(self, words: str, now_s: float) -> list[Reply]:
        """To nobody in particular: a chunk says not whose it is. Seldom: they come in numbers."""
        if now_s - self._complained_s < _TOLD_AGAIN_S:
            return []
        self._complained_s = now_s
        return [_reply("chunk", "", Answer(ok=False, detail=words))]

    def _finish(self, transfer: _Transfer, answer: Answer) -> list[Reply]:
        self._transfer = None
        requests = [
            Request(
                command_id=sender,
                sha256=transfer.request.sha256,
                size_bytes=transfer.request.size_bytes,
            )
            for sender in list(transfer.senders)
        ]
        return self._end(requests, answer)

    def _end(self, requests: Sequence[Request], answer: Answer) -> list[Reply]:
        for request in requests:
            self._ended[request.command_id] = (request.sha256, answer)
            while len(self._ended) > _ENDS_KEPT:
                self._ended.popitem(last=False)
        return [_reply("install", request.command_id, answer) for request in requests]


def installed_words(state: SlotState, slot: SlotName, bundle_hash: str) -> str:
    """What an answer says of a bundle that was installed: ``pending b 0123456789abcdef``."""
    return f"{state.value} {slot.value} {bundle_hash[:16]}"


def _forget(transfer: _Transfer) -> None:
    """What came; not what another process has begun in the same store meanwhile."""
    request, store = transfer.request, transfer.destination.store
    ours = Incoming(sha256=request.sha256, size_bytes=request.size_bytes)
    with store.storage.exclusive():
        if ours in [slot.incoming for slot in store.record.slots.values()]:
            store.discard()


def _is_same(one: Request, other: Request) -> bool:
    what = (one.sha256, one.size_bytes, one.product, one.fetched)
    return what == (other.sha256, other.size_bytes, other.product, other.fetched)


def _find_installed(store: BundleStore, request: Request) -> str:
    """Words about the slot that has this very file already, or ``""``."""
    for name, slot in store.record.slots.items():
        if slot.card is None or slot.state not in _IN_USE:
            continue
        if slot.card.size_bytes != request.size_bytes:
            continue
        if _hash_of(store, name, request.size_bytes) == request.sha256:
            return installed_words(slot.state, name, slot.card.hash)
    return ""


def _hash_of(store: BundleStore, slot: SlotName, size_bytes: int) -> bytes:
    digest = hashlib.sha256()
    for offset in range(0, size_bytes, _READ_BYTES):
        digest.update(store.read(slot, offset, min(_READ_BYTES, size_bytes - offset)))
    return digest.digest()


def _follow(chunks: Sequence[Chunk], offset: int) -> Iterator[memoryview]:
    """What of them goes on from there without a gap; they may overlap and come in any order."""
    for chunk in sorted(chunks, key=lambda chunk: chunk.offset):
        begin = offset - chunk.offset
        if 0 <= begin < len(chunk.data):
            yield chunk.data[begin:]
            offset = chunk.offset + len(chunk.data)


def _add(senders: OrderedDict[str, None], command_id: str) -> None:
    senders[command_id] = None
    while len(senders) > _SENDERS_KEPT:
        senders.popitem(last=False)


def _offset_reply(command_id: str, offset: int) -> Reply:
    return _reply("chunk", command_id, Answer(ok=True, detail=str(offset)))


def _reply(cmd: str, command_id: str, answer: Answer) -> Reply:
    return Reply(cmd=cmd, command_id=command_id, answer=answer)
