"""How the publisher stands with the broker, for whoever watches the station."""

from __future__ import annotations

from typing import Literal

import msgspec

ConnectionWord = Literal["connecting", "online", "waiting", "refused", "ended"]


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """How the publisher stands with the broker.

    Attributes:
        word: ``waiting`` is for the next attempt; ``refused``: it will be in vain until somebody
            changes something.
        detail: the last fault in words; while ``online``, what is amiss nevertheless; or ``""``.
        connects: connections made so far.
    """

    word: ConnectionWord = "connecting"
    detail: str = ""
    connects: int = 0

    @property
    def reconnects(self) -> int:
        """Connections made after the first."""
        return max(self.connects - 1, 0)
