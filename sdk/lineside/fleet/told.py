"""What a station's retained state says about one bundle. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lineside.mqtt import StateMessage, StateWord

_SHORT_HASH_CHARS = 16


class Place(str, Enum):
    """Where the bundle lies on a station."""

    NOWHERE = "nowhere"
    PENDING = "pending"
    TRIAL = "trial"
    CONFIRMED = "confirmed"


@dataclass(frozen=True, kw_only=True)
class Told:
    """One message.

    Attributes:
        is_online: it speaks for itself; else the rest says nothing.
        place: where the bundle lies.
        reverted: the bundle was reverted there before: why; ``""``: no.
        at_ms: the station's clock, ms since 1970 UTC.
        version: of the bundle in use, for people.
    """

    is_online: bool
    place: Place = Place.NOWHERE
    reverted: str = ""
    at_ms: int = 0
    version: str = ""


def read_told(message: StateMessage, bundle_hash: str) -> Told:
    """Read it for one bundle.

    Args:
        message: as decoded; of a station without a store its slots are ``""``, and the bundle that
            it uses counts as confirmed: nothing is to be tried there.
        bundle_hash: 64 hex digits.
    """
    short = bundle_hash[:_SHORT_HASH_CHARS]
    return Told(
        is_online=message.state is not StateWord.OFFLINE,
        place=_place_of(message, bundle_hash),
        reverted=message.reverted if message.reverted_bundle == short else "",
        at_ms=message.t,
        version=message.version,
    )


def _place_of(message: StateMessage, bundle_hash: str) -> Place:
    if message.bundle == bundle_hash:
        return Place.TRIAL if message.slot_state == "trial" else Place.CONFIRMED
    if message.next == bundle_hash[:_SHORT_HASH_CHARS]:
        return Place.PENDING
    return Place.NOWHERE
