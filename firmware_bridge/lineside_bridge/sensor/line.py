"""What a client may change of the line, and that it goes back where nobody is understood. Pure."""

from __future__ import annotations

from lineside_bridge.framing import Framing


class Line:
    """The rate and the framing of a sensor's port.

    Attributes:
        bauds: rates that it may do; none: the line has no rate.
        baud: of now; 0: none.
        framing: the only one that is listened to; ``None``: any that comes.

    Args:
        baud: at the start; what it goes back to.
        bauds: see there.
    """

    def __init__(self, baud: int = 0, bauds: tuple[int, ...] = ()) -> None:
        self.bauds = bauds
        self.baud = baud
        self.framing: Framing | None = None
        self._home_baud = baud
        self._hold_s = 0.0
        self._heard_s: float | None = None

    def change(self, *, baud: int, framing: Framing | None, hold_ms: int) -> None:
        """From the next byte on; as it was at the start after so long without a whole message.

        Args:
            baud: 0: as it is.
            framing: ``None``: as it is.
        """
        self.baud = baud or self.baud
        self.framing = framing or self.framing
        self._hold_s = hold_ms / 1000
        self._heard_s = None

    def hear(self, now_s: float) -> None:
        """A whole message came."""
        self._heard_s = now_s

    def settle(self, now_s: float) -> None:
        """Go back where it is time to."""
        if self.baud == self._home_baud and self.framing is None:
            return
        if self._heard_s is None:
            self._heard_s = now_s
        if now_s - self._heard_s >= self._hold_s:
            self.baud, self.framing = self._home_baud, None

    def release(self) -> None:
        """Another client has come, in another framing."""
        self.framing = None
