"""Which bytes of a new bundle lie in the sensor already. Pure, but for `read_pages` which asks.

Parts of a bundle begin on pages, so that a part which did not change has the same pages, maybe
elsewhere. The sensor copies those by itself; only the others go over the wire.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from lineside_bridge import custom
from lineside_bridge.client import Client
from lineside_bridge.custom import PAGE_BYTES, PAGE_HASH_BYTES, Command, PageHashes, PageQuery
from lineside_bridge.errors import MalformedError
from lineside_bridge.header import HEADER_BYTES, Operation

_AROUND_BYTES: Final = HEADER_BYTES + 48
# What takes longer, or says that it has more than 1 GiB, is not worth asking: all is sent then.
_LONGEST_ASKING_S: Final = 120.0
_MOST_PAGES: Final = 1 << 18


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Bytes ``[start, stop)`` of the new file.

    Attributes:
        source: where they begin in the sensor's slot; ``None``: they must be sent.
    """

    start: int
    stop: int
    source: int | None = None


def hash_pages(data: bytes | memoryview) -> list[bytes]:
    """Of each page, as the sensor tells them; the last may be short."""
    return [
        hashlib.sha256(data[start : start + PAGE_BYTES]).digest()[:PAGE_HASH_BYTES]
        for start in range(0, len(data), PAGE_BYTES)
    ]


def plan_copies(data: bytes | memoryview, held: Sequence[bytes]) -> tuple[Stretch, ...]:
    """What to copy and what to send, in the file's order, without a gap.

    Args:
        data: the new file.
        held: hashes of the pages that lie in the sensor's slot.
    """
    places: dict[bytes, int] = {}
    for page, page_hash in enumerate(held):
        places.setdefault(page_hash, page)
    stretches: list[Stretch] = []
    for number, page_hash in enumerate(hash_pages(data)):
        start = number * PAGE_BYTES
        stop = min(start + PAGE_BYTES, len(data))
        source = _find_source(page_hash, places, held, stretches)
        stretches = _add(stretches, Stretch(start=start, stop=stop, source=source))
    return tuple(stretches)


def read_pages(client: Client, slot: int, room_bytes: int) -> list[bytes]:
    """Ask for the hashes of all pages in a slot.

    Raises:
        SensorRefusedError: it has no such group, or nothing lies there.
        MalformedError: the answers do not fit together, or there is no end of them.
    """
    until_s = time.monotonic() + _LONGEST_ASKING_S
    count = max(1, (room_bytes - _AROUND_BYTES) // PAGE_HASH_BYTES)
    found: list[bytes] = []
    while True:
        query = PageQuery(slot=slot, first=len(found), count=count)
        answer = custom.decode(
            client.call(custom.ask(Operation.READ, Command.PAGES, query)), PageHashes
        )
        hashes = list(_split(answer.hashes))
        if answer.first != len(found) or (not hashes and len(found) < answer.total):
            raise MalformedError(f"{client.link.name}: page hashes from {answer.first} on")
        if answer.total > _MOST_PAGES or time.monotonic() >= until_s:
            raise MalformedError(f"{client.link.name}: {answer.total} pages, {len(found)} told")
        found += hashes
        if len(found) >= answer.total:
            return found


def _split(hashes: bytes) -> Iterator[bytes]:
    for start in range(0, len(hashes), PAGE_HASH_BYTES):
        yield hashes[start : start + PAGE_HASH_BYTES]


def _find_source(
    page_hash: bytes, places: dict[bytes, int], held: Sequence[bytes], before: list[Stretch]
) -> int | None:
    """Where that page lies; where the stretch before goes on, if it does: fewer, longer copies."""
    last = before[-1] if before else None
    if last is not None and last.source is not None:
        following = (last.source + last.stop - last.start) // PAGE_BYTES
        if following < len(held) and held[following] == page_hash:
            return following * PAGE_BYTES
    page = places.get(page_hash)
    return None if page is None else page * PAGE_BYTES


def _add(stretches: list[Stretch], new: Stretch) -> list[Stretch]:
    if not stretches:
        return [new]
    *others, last = stretches
    sent = last.source is None and new.source is None
    in_row = (
        last.source is not None
        and new.source is not None
        and last.source + last.stop - last.start == new.source
    )
    if sent or in_row:
        return [*others, Stretch(start=last.start, stop=new.stop, source=last.source)]
    return [*stretches, new]
