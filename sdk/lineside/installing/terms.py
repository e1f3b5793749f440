"""On what terms a bundle is taken in, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from lineside.engines import EngineSettings
from lineside.installing.proof import Proof
from lineside.installing.proving import SELFTEST_LIMIT_S
from lineside.slots import SlotCard, SlotName, SlotState


@dataclass(frozen=True, kw_only=True)
class InstallTerms:
    """What is seldom told.

    Attributes:
        precision: only this form; ``None`` takes any.
        settings: providers, device, threads and cache of the engine that is to prove it.
        targets: this machine's words; ``None``: `lineside.installing.machine_targets`.
        other_product: it may judge another product than the confirmed one.
        timeout_s: for the golden self-test.
    """

    precision: str | None = None
    settings: EngineSettings = field(default_factory=EngineSettings)
    targets: tuple[str, ...] | None = None
    other_product: bool = False
    timeout_s: float = SELFTEST_LIMIT_S


DEFAULT_TERMS: Final = InstallTerms()


@dataclass(frozen=True, kw_only=True)
class Installed:
    """Where a bundle lies now.

    Attributes:
        slot: which.
        state: pending, or confirmed in a store that had no confirmed one; of one that was there
            already whatever it is.
        card: what the record knows of it.
        product, version: as sealed.
        already: it was there, and nothing was done.
        proof: of the golden self-test; ``None`` where nothing was done.
    """

    slot: SlotName
    state: SlotState
    card: SlotCard
    product: str
    version: str
    already: bool = False
    proof: Proof | None = None
