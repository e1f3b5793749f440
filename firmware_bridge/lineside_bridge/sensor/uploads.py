"""A file on its way into the free slot, from whichever message its bytes come."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from lineside.errors import BundleError, EngineError, LinesideError, RefusedError
from lineside.slots import Incoming, SlotName, Store
from lineside_bridge.sensor.contents import Contents

Check = Callable[[bytes, str], Contents]
"""Bytes and their name to what they are; raises `LinesideError`."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How an upload stands.

    Attributes:
        off: where to go on; only this counts.
        match: of one that is whole: whether its SHA-256 is the one that was announced.
    """

    off: int
    match: bool | None = None


class Uploads:
    """One at a time. What is whole and sound waits here until it is told to be tried.

    Bytes that leave a gap are let go, and so are those that came before. What is refused when it is
    whole is forgotten, and whoever asks again hears the same.

    Args:
        store: whose free slot is filled.
        check: judges what is whole.
    """

    def __init__(self, store: Store, check: Check) -> None:
        self._store = store
        self._check = check
        self._refused: Standing | LinesideError | None = None
        self._whole: tuple[Incoming, Contents] | None = None
        self._recall()

    @property
    def incoming(self) -> tuple[SlotName, Incoming] | None:
        """What is being filled, and with what."""
        for name, slot in self._store.record.slots.items():
            if slot.incoming is not None:
                return name, slot.incoming
        return None

    @property
    def offset(self) -> int:
        """Bytes that are there; 0 where nothing is on its way, or nobody went on with it yet."""
        found = self.incoming
        if found is not None and self.received is not None:
            return found[1].size_bytes
        try:
            return self._store.written
        except RefusedError:
            return 0

    @property
    def received(self) -> Contents | None:
        """The whole file, checked; ``None``: none is, it is not whole, or another came since."""
        found = self.incoming
        if self._whole is None or found is None or found[1] != self._whole[0]:
            return None
        return self._whole[1]

    def begin(self, incoming: Incoming, data: bytes = b"") -> Standing:
        """Begin, or go on where the same file was begun before.

        Args:
            incoming: what will come.
            data: its first bytes.

        Raises:
            LinesideError: refused, or the whole is nothing to be taken.
        """
        self._refused = None
        if self.received is None or self._whole is None or self._whole[0] != incoming:
            self._whole = None
            self._store.begin(incoming)
        return self.go_on(0, data)

    def go_on(self, off: int, data: bytes) -> Standing:
        """Further bytes; where nothing was begun the answer is 0, as of Zephyr's servers.

        Raises:
            LinesideError: the flash failed, or the whole is nothing to be taken.
        """
        found = self.incoming
        if found is None:
            return self._answer_again()
        incoming = found[1]
        if self.received is not None:
            return Standing(off=incoming.size_bytes, match=True)
        try:
            written = self._store.written
        except RefusedError:
            return Standing(off=0)
        if off <= written < off + len(data):
            self._store.write(written, data[written - off :])
        written = self._store.written
        if written < incoming.size_bytes:
            return Standing(off=written)
        return self._settle(found[0], incoming)

    def accept(self) -> Contents:
        """Put it in line to be tried.

        Raises:
            RefusedError: there is nothing whole.
            LinesideError: it may not be taken any more, e.g. its counter.
        """
        contents = self.received
        if contents is None:
            raise RefusedError("nothing whole was uploaded: upload a bundle first")
        if contents.wrapped_hash:
            # The image's header is for its bootloader; here the bundle stands alone.
            self._store.begin(Incoming(sha256=contents.sha256, size_bytes=len(contents.data)))
            self._store.write(0, contents.data)
        self._store.finish(contents.card)
        self._whole = None
        return contents

    def forget(self) -> None:
        """Whatever was coming in."""
        self._refused = None
        self._whole = None
        self._store.discard()

    def _answer_again(self) -> Standing:
        if isinstance(self._refused, LinesideError):
            raise self._refused
        return self._refused or Standing(off=0)

    def _settle(self, name: SlotName, incoming: Incoming) -> Standing:
        """All is there: it is checked, and forgotten where it is refused."""
        data = self._store.read_incoming(0, incoming.size_bytes)
        if hashlib.sha256(data).digest() != incoming.sha256:
            self.forget()
            self._refused = Standing(off=incoming.size_bytes, match=False)
            return self._refused
        try:
            contents = self._check(data, f"slot.{name.value}")
            self._store.check_counter(contents.card)
        except (BundleError, EngineError, RefusedError) as error:
            self.forget()
            self._refused = error
            raise
        self._whole = incoming, contents
        return Standing(off=incoming.size_bytes, match=True)

    def _recall(self) -> None:
        """What was whole before the power went, and not told to be tried yet."""
        found = self.incoming
        if found is None:
            return
        name, incoming = found
        data = self._store.read_incoming(0, incoming.size_bytes)
        if hashlib.sha256(data).digest() != incoming.sha256:
            return
        # Refused: whoever goes on with it hears why.
        with contextlib.suppress(LinesideError):
            self._whole = incoming, self._check(data, f"slot.{name.value}")
