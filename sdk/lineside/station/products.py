"""What a station can judge: one bundle a product, all loaded, one of them in use."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from lineside.contract import Contract, LimitRule
from lineside.errors import ConfigurationError
from lineside.frame import Frame
from lineside.inspector import Inspection
from lineside.limits import Limits
from lineside.station.drift import DriftWatch
from lineside.station.regions import RegionSettings

# A frame comes within minutes of its trigger; a line changes over a few times a day.
_CHANGES_KEPT: Final = 64


class Inspecting(Protocol):
    """What the loop needs of an inspector: faults of frame and engine are verdicts, not raised."""

    def inspect_batch(self, frames: Sequence[Frame]) -> list[Inspection]: ...


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What the birth message says about the model.

    Attributes:
        bundle: the bundle's hash, 64 hex digits.
        unit: of scores and limits.
        limits: what scores are held against, and why; ``None`` where that is not known.
    """

    product: str
    bundle: str
    version: str
    engine: str
    unit: str = ""
    limits: Limits | None = None


_NOT_WATCHED: Final = DriftWatch(monitor=None, why_not="no reference")


@dataclass(frozen=True, kw_only=True, eq=False)
class Product:
    """A kind of part, and what judges it.

    Attributes:
        card: what is said about the model.
        inspector: what judges.
        contract: of the model; ``None`` for an inspector put together by hand.
        regions: where on the frame; empty: the frame is inspected whole.
        drift: watches whether parts still look as they did when the model was made.
    """

    card: ModelCard
    inspector: Inspecting
    contract: Contract | None = None
    regions: tuple[RegionSettings, ...] = ()
    drift: DriftWatch = _NOT_WATCHED

    @property
    def name(self) -> str:
        """The product id, as triggers and changeovers say it."""
        return self.card.product

    @property
    def rule(self) -> LimitRule:
        """What scores are held against."""
        limits = self.card.limits
        return LimitRule(ok_limit=0.0, not_ok_limit=0.0) if limits is None else limits.effective


class Products:
    """All that are loaded. The first is in use at the start; a changeover takes another.

    Args:
        loaded: at least one, each product once.

    Raises:
        ConfigurationError: two bundles judge one product.
    """

    def __init__(self, loaded: Sequence[Product]) -> None:
        self._by_name: dict[str, Product] = {}
        for product in loaded:
            if product.name in self._by_name:
                raise ConfigurationError(
                    f"bundle: two bundles judge {product.name!r}; a station takes one a product",
                    path="bundle",
                )
            self._by_name[product.name] = product
        self._lock = threading.Lock()
        # Since when each was in use, monotonic nanoseconds, the newest last.
        self._in_use = deque([(0, loaded[0])], maxlen=_CHANGES_KEPT)

    def __iter__(self) -> Iterator[Product]:
        return iter(self._by_name.values())

    @property
    def active(self) -> Product:
        """What judges a part whose trigger names no product."""
        return self._in_use[-1][1]

    @property
    def names(self) -> tuple[str, ...]:
        """Product ids, in the order of the file."""
        return tuple(self._by_name)

    def find(self, name: str, *, at_ns: int | None = None) -> Product | None:
        """By product id; ``None`` where there is no bundle for it.

        Args:
            name: ``""`` is the one in use.
            at_ns: at that moment of the monotonic clock; ``None``: now.
        """
        if name:
            return self._by_name.get(name)
        return self.active if at_ns is None else self._in_use_at(at_ns)

    def activate(self, name: str) -> None:
        """From the next part on; from any thread. The product is one of ``names``."""
        with self._lock:
            self._in_use.append((time.monotonic_ns(), self._by_name[name]))

    def _in_use_at(self, at_ns: int) -> Product:
        with self._lock:
            since = list(self._in_use)
        before = [product for since_ns, product in since if since_ns <= at_ns]
        return before[-1] if before else since[0][1]
