"""What is asked of a rollout, and what a rollout asks of stations."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from lineside.fleet.plan import Amount


class Verb(str, Enum):
    """What a station is asked for."""

    INSTALL = "install"
    REVERT = "revert"


@dataclass(frozen=True, kw_only=True)
class Action:
    """Ask one station for something; the new state must be durable before."""

    verb: Verb
    station: str


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is asked of a rollout.

    Attributes:
        canary_failures: so many of the canary may fail.
        failures: so many of all that were reached may fail after that, the canary's among them; of
            a share those that were skipped count for nothing.
        at_once: so many stations are sent the bundle at the same time.
        timeout_s: for the bundle's way to a station, and for an offline one to come back.
        trial_timeout_s: from pending to confirmed.
        on_failure: what becomes of the stations that have the bundle when it stops.
    """

    canary_failures: Amount
    failures: Amount
    at_once: int
    timeout_s: float
    trial_timeout_s: float
    on_failure: Literal["stop", "revert"]
