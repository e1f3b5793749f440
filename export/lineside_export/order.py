"""What is asked of an export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lineside.bundle import Identity, Signer
from lineside_export.deciding import RuleWish
from lineside_export.gates import Gates
from lineside_export.search import AUTO
from lineside_export.targets import Target


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to export.

    Attributes:
        out: the bundle to write.
        key: who seals.
        target: for which hardware.
        precisions: forms that may be sealed, in order; `AUTO` is what makes sense on the target.
        engines: whose files go in.
        wish: how score becomes evaluation.
        gates: bounds for forms of fewer bits.
        identity: what the bundle calls itself.
        licence: of the model, an SPDX expression or words; may be empty.
        report: folder for the figures.
        report_on_failure: also when a gate is missed.
        sweep: make all forms, measure them, and take the fastest here.
    """

    out: Path
    key: Signer
    target: Target
    precisions: Sequence[str] = (AUTO,)
    engines: Sequence[str]
    wish: RuleWish
    gates: Gates = field(default_factory=Gates)
    identity: Identity
    licence: str = ""
    report: Path
    report_on_failure: bool
    sweep: bool = False
