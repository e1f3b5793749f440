"""Which stations come when: a canary, then waves. Pure."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from lineside.errors import ConfigurationError

Order = Literal["file", "hash"]

_AMOUNT: Final = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)%|(\d{1,6})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Amount:
    """So many, or such a share of all.

    Attributes:
        number: a count; or with ``is_share`` a share in [0, 1].
    """

    number: Fraction
    is_share: bool

    def __str__(self) -> str:
        return f"{float(self.number * 100):g}%" if self.is_share else str(self.number)

    def most_of(self, total: int) -> int:
        """Of so many, rounded up: a share of stations is at least one."""
        return math.ceil(self.number * total) if self.is_share else int(self.number)

    def least_of(self, total: int) -> int:
        """Of so many, rounded down: what may fail is never more than was said."""
        return math.floor(self.number * total) if self.is_share else int(self.number)


def parse_amount(text: str, *, path: str) -> Amount:
    """``10`` is a count, ``10%`` a share.

    Raises:
        ConfigurationError: neither, or more than 100%.
    """
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        raise ConfigurationError(
            f"{path}: {text!r} is no amount; write a count (10) or a share (10%)", path=path
        )
    if found[2] is not None:
        return Amount(number=Fraction(found[2]), is_share=False)
    share = Fraction(found[1]) / 100
    if share > 1:
        raise ConfigurationError(f"{path}: {text} is more than all; at most 100%", path=path)
    return Amount(number=share, is_share=True)


def parse_waves(text: str) -> tuple[Amount, ...]:
    """``10,50,100%``: how many stations are reached after each wave, the canary among them.

    Raises:
        ConfigurationError: one of them is no amount, or is nothing.
    """
    waves = tuple(parse_amount(part, path="waves") for part in text.split(","))
    if any(not wave.number for wave in waves):
        raise ConfigurationError(f"waves: {text}: a wave of none; leave it out", path="waves")
    return waves


@dataclass(frozen=True, kw_only=True)
class Wave:
    """Stations that may be touched at the same time.

    Attributes:
        name: for people.
        stations: their names.
        is_canary: the first few, of which more is asked.
    """

    name: str
    stations: tuple[str, ...]
    is_canary: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Who comes when.

    Attributes:
        waves: none is empty.
        rest: stations that no wave reaches.
    """

    waves: tuple[Wave, ...]
    rest: tuple[str, ...] = ()

    @property
    def stations(self) -> tuple[str, ...]:
        """All that a wave reaches, in order."""
        return tuple(name for wave in self.waves for name in wave.stations)


def put_in_order(stations: Sequence[str], order: Order, bundle_hash: str) -> tuple[str, ...]:
    """The order in which stations come, the same at each start.

    ``hash`` draws it from the bundle and the names: a new bundle meets another station first, so
    that it is not the same one that always takes the risk.
    """
    if order == "file":
        return tuple(stations)

    def draw(name: str) -> bytes:
        return hashlib.sha256(f"{bundle_hash} {name}".encode()).digest()

    return tuple(sorted(stations, key=draw))


def make_plan(stations: Sequence[str], *, canary: int, waves: Sequence[Amount]) -> Plan:
    """Cut stations into waves.

    Args:
        stations: in the order in which they come.
        canary: so many come first, alone; 0: none.
        waves: how many are reached after each, the canary among them; one that brings nobody new
            falls out.

    Raises:
        ConfigurationError: a wave reaches fewer than the one before it.
    """
    total = len(stations)
    ends = [wave.most_of(total) for wave in waves]
    for before, after, amount in zip(ends, ends[1:], waves[1:], strict=False):
        if after < before:
            raise ConfigurationError(
                f"waves: {amount} is {after} of {total} stations, fewer than the {before} of the "
                "wave before; each says how many are reached after it",
                path="waves",
            )
    cuts = [min(end, total) for end in (canary, *ends)]
    made: list[Wave] = []
    begin = 0
    for number, end in enumerate(cuts):
        if end > begin:
            is_canary = number == 0
            name = "canary" if is_canary else f"wave {sum(not w.is_canary for w in made) + 1}"
            reached = tuple(stations[begin:end])
            made.append(Wave(name=name, stations=reached, is_canary=is_canary))
            begin = end
    return Plan(waves=tuple(made), rest=tuple(stations[begin:]))
