"""Is there room for a bundle before its first byte is written: a full disk stops verdicts too."""

from __future__ import annotations

import math
from typing import Final

from lineside.errors import StorageError
from lineside.slots import Area, Store

# For whatever the station writes meanwhile.
SPARE_BYTES: Final = 4 * 2**20
_MB: Final = 10**6


def check_room(store: Store, size_bytes: int) -> None:
    """Refuse what does not fit; for those, too, who are about to `Store.begin`.

    What lies in the free slot is erased first, and counts as room.

    Args:
        store: that is to take it.
        size_bytes: of the whole bundle.

    Raises:
        RefusedError: no slot is free.
        StorageError: names how many MB are lacking; or the disk cannot be asked.
    """
    storage = store.storage
    free_bytes = storage.capacity_bytes(Area.of(store.free()))
    lacking_bytes = size_bytes + SPARE_BYTES - free_bytes
    if lacking_bytes > 0:
        raise StorageError(
            f"{storage}: {math.ceil(lacking_bytes / _MB)} MB are lacking: the bundle takes "
            f"{size_bytes / _MB:.1f} MB and {SPARE_BYTES / _MB:.1f} MB must stay free, of "
            f"{free_bytes / _MB:.1f} MB that are: make room on its disk, or take a thin copy "
            "(lineside bundle thin)"
        )
