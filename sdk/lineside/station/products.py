"""What a station can judge: one bundle a product, all loaded, one of them in use."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from lineside.contract import Contract, LimitRule
from lineside.errors import ConfigurationError
from lineside.frame import Frame
from lineside.inspector import Inspection
from lineside.limits import Limits
from lineside.station.drift import DriftWatch
from lineside.station.regions import RegionSettings

if TYPE_CHECKING:
    from lineside.station.ontrial import OnTrial

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
        counter: the bundle's security counter.
    """

    product: str
    bundle: str
    version: str
    engine: str
    unit: str = ""
    limits: Limits | None = None
    counter: int = 0


class Lease:
    """As long as somebody holds it, the model that it goes with is not freed."""


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
        file_limits: those of bundle and station's file, where a command has set others.
        on_trial: the bundle's trial; ``None`` of one that is not on trial.
        lease: on the model; shared by all products that are made of one another.
    """

    card: ModelCard
    inspector: Inspecting
    contract: Contract | None = None
    regions: tuple[RegionSettings, ...] = ()
    drift: DriftWatch = _NOT_WATCHED
    file_limits: Limits | None = None
    on_trial: OnTrial | None = None
    lease: Lease = field(default_factory=Lease)

    @property
    def name(self) -> str:
        """The product id, as triggers and changeovers say it."""
        return self.card.product

    @property
    def rule(self) -> LimitRule:
        """What scores are held against."""
        limits = self.card.limits
        return LimitRule(ok_limit=0.0, not_ok_limit=0.0) if limits is None else limits.effective

    @property
    def limits_of_file(self) -> Limits | None:
        """What bundle and station's file make, whatever a command has set."""
        return self.file_limits or self.card.limits

    @property
    def standing(self) -> Product:
        """Who judges the parts that were this one's: another, since its trial was broken off."""
        other = None if self.on_trial is None else self.on_trial.stand_in
        return self if other is None else other


class Products:
    """All that are loaded. The first is in use until a changeover takes another.

    Thread-safe: each answer is that of one moment.

    Attributes:
        dress: gives a product the limits that were set by command, whenever one takes a place;
            must be quick, must not raise, and asks nothing of these products.

    Args:
        loaded: at least one, each product once.

    Raises:
        ConfigurationError: two bundles judge one product.
    """

    def __init__(self, loaded: Sequence[Product]) -> None:
        self.dress: Callable[[Product], Product] = lambda product: product
        # Never changed, only exchanged: whoever reads it needs no lock.
        self._by_name: dict[str, Product] = {}
        for product in loaded:
            if product.name in self._by_name:
                raise _two_for(product.name)
            self._by_name[product.name] = product
        self._lock = threading.Lock()
        # Since when each was in use, monotonic nanoseconds, the newest last.
        self._in_use = deque([(0, loaded[0].name)], maxlen=_CHANGES_KEPT)

    def __iter__(self) -> Iterator[Product]:
        return iter(self._by_name.values())

    @property
    def active(self) -> Product:
        """What judges a part whose trigger names no product."""
        with self._lock:
            return self._by_name[self._in_use[-1][1]]

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
        """From the next part on; from any thread. The product is one of ``names``.

        One that went with its bundle since it was asked for changes nothing.
        """
        with self._lock:
            if name in self._by_name:
                self._in_use.append((time.monotonic_ns(), name))

    def replace(self, name: str, product: Product) -> None:
        """Another bundle, or other limits, in the place of one; from any thread.

        The next part whose turn begins is judged by it, all of it; a part that has its turn is
        judged by what its turn holds.

        Args:
            name: one of ``names``.
            product: the new one; where it judges another product, that takes the place in use too.

        Raises:
            ConfigurationError: there is no such product, or another bundle judges the new one's.
        """
        with self._lock:
            others = [one for one in self._by_name if one != name]
            if len(others) == len(self._by_name):
                there = ", ".join(self._by_name)
                raise ConfigurationError(f"no bundle for {name!r}; there are {there}")
            if product.name in others:
                raise _two_for(product.name)
            dressed = self.dress(product)
            pairs = [(one, dressed if one == name else old) for one, old in self._by_name.items()]
            self._by_name = {new.name: new for _, new in pairs}
            renamed = [(since, product.name if n == name else n) for since, n in self._in_use]
            self._in_use = deque(renamed, maxlen=_CHANGES_KEPT)

    def redress(self, name: str) -> None:
        """What `dress` gives has changed; from any thread. The product is one of ``names``."""
        with self._lock:
            if name in self._by_name:
                self._by_name = {**self._by_name, name: self.dress(self._by_name[name])}

    def _in_use_at(self, at_ns: int) -> Product:
        with self._lock:
            before = [name for since_ns, name in self._in_use if since_ns <= at_ns]
            return self._by_name[before[-1] if before else self._in_use[0][1]]


def _two_for(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"bundle: two bundles judge {name!r}; a station takes one a product", path="bundle"
    )
