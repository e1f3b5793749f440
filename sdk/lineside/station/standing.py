"""What a station was told and still holds: in a small file beside the outbox, over any restart."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from lineside.durable import write_durably
from lineside.errors import StorageError
from lineside.plainfile import read_whole

_FILE_LIMIT_BYTES: Final = 2**18
# Bundles of one product whose limits are remembered: a revert takes one of them back into use.
_LIMITS_KEPT: Final = 4


class LimitOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits that were set by command, for one bundle.

    Attributes:
        bundle: its hash, 64 hex digits.
        ok, not_ok: in the rule's unit; ``None``: as the station's file has it.
    """

    product: str
    bundle: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    ok: float | None
    not_ok: float | None


class StandingOrders(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that stands.

    Attributes:
        paused: no part is judged.
        product: in use; ``""``: the first of the station's file.
        limits: the newest last.
    """

    v: Literal[1] = 1
    paused: bool = False
    product: str = ""
    limits: tuple[LimitOrder, ...] = ()

    def limits_for(self, product: str, bundle: str) -> LimitOrder | None:
        """What was set for this bundle."""
        return next((o for o in self.limits if (o.product, o.bundle) == (product, bundle)), None)

    def with_limits(self, order: LimitOrder) -> StandingOrders:
        """With this one in the place of what the same bundle had."""
        same = (order.product, order.bundle)
        kept = [one for one in self.limits if (one.product, one.bundle) != same] + [order]
        its = [one for one in kept if one.product == order.product][-_LIMITS_KEPT:]
        limits = tuple(one for one in kept if one.product != order.product or one in its)
        return msgspec.structs.replace(self, limits=limits)

    def without_limits(self, product: str) -> StandingOrders:
        """With nothing set for this product."""
        limits = tuple(one for one in self.limits if one.product != product)
        return msgspec.structs.replace(self, limits=limits)


class StandingFile:
    """Keeps `StandingOrders`; read from any thread, changed from any.

    Attributes:
        orders: as they lie on the disk.

    Args:
        path: of the file; it is made with the first order.

    Raises:
        StorageError: at opening: it cannot be read, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writing = threading.Lock()
        self.orders = _read(path)

    def keep(self, orders: StandingOrders) -> None:
        """Durable when this returns.

        Raises:
            StorageError: the disk takes nothing; what stood before still stands.
        """
        with self._writing:
            if orders != self.orders:
                write_durably(self._path, [msgspec.json.encode(orders), b"\n"])
                self.orders = orders


def _read(path: Path) -> StandingOrders:
    try:
        data = read_whole(path, limit_bytes=_FILE_LIMIT_BYTES)
        return msgspec.json.decode(data, type=StandingOrders)
    except FileNotFoundError:
        return StandingOrders()
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StorageError(
            f"{path}: damaged, or of a newer version: {error}. It says whether the station is "
            "paused, which product is in use and which limits were tightened by command; delete "
            "it to begin without any of these, and give those orders again"
        ) from error
