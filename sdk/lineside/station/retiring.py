"""Models that are out of use are freed once the last part that was theirs is over."""

from __future__ import annotations

import weakref
from collections.abc import Callable

from lineside.station.loaded import Loaded
from lineside.station.products import Lease


class Retirement:
    """For one thread, which frees what nobody holds: a part may wait as long as a disk stands."""

    def __init__(self) -> None:
        self._retired: list[tuple[weakref.ref[Lease], Callable[[], None]]] = []

    def retire(self, loaded: Loaded) -> None:
        """Out of use; the caller holds its products no more."""
        self._retired.append((weakref.ref(loaded.product.lease), loaded.close))

    def look(self) -> None:
        """Free those that nobody holds."""
        looked_at, self._retired = self._retired, []
        for lease, close in looked_at:
            if lease() is None:
                close()
            else:
                self._retired.append((lease, close))

    def close(self) -> None:
        """Free all of them: no part comes any more."""
        for _, close in self._retired:
            close()
        self._retired = []
