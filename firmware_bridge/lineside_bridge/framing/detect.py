"""A server's decoder that needs not be told which framing its client uses."""

from __future__ import annotations

from typing import Final

from lineside_bridge.framing.kinds import Decoder, Framing, new_decoder
from lineside_bridge.framing.raw import MAX_MESSAGE_BYTES

ALL: Final = tuple(Framing)


class DetectingDecoder:
    """Tries all framings until one gives a message, and stays with it until it is released.

    While it stays, the others hear nothing: a firmware image that is sent raw may well have frames
    of the console's lying in it, and they must not be obeyed.

    Attributes:
        framing: which one it stays with; ``None``: all are tried.
        dropped: what that one could not use.
    """

    def __init__(
        self,
        framings: tuple[Framing, ...] = ALL,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self.framing: Framing | None = None
        self._framings = framings
        self._max_bytes = max_message_bytes
        self._decoders = self._begin()

    @property
    def dropped(self) -> int:
        """See `Decoder`."""
        return 0 if self.framing is None else self._decoders[self.framing].dropped

    def feed(self, data: bytes) -> list[bytes]:
        """See `Decoder`; answers go out by `framing`."""
        if self.framing is not None:
            return self._decoders[self.framing].feed(data)
        return self._first({kind: each.feed(data) for kind, each in self._decoders.items()})

    def quiet(self) -> list[bytes]:
        """See `Decoder`."""
        if self.framing is not None:
            return self._decoders[self.framing].quiet()
        return self._first({kind: each.quiet() for kind, each in self._decoders.items()})

    def choose(self, framing: Framing) -> None:
        """Stay with this one from now on: the client has said that it will use it."""
        self._decoders = self._begin()
        self.framing = framing

    def release(self) -> None:
        """Try all again: its client has not been understood for a second or more."""
        self.framing = None
        self._decoders = self._begin()

    def _begin(self) -> dict[Framing, Decoder]:
        return {kind: new_decoder(kind, self._max_bytes) for kind in self._framings}

    def _first(self, found: dict[Framing, list[bytes]]) -> list[bytes]:
        # Those with a CRC before the one without.
        for kind in sorted(found, key=lambda kind: kind is Framing.RAW):
            if found[kind]:
                self.framing = kind
                return found[kind]
        return []
