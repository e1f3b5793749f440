"""How quickly a verdict must come, and what happens when parts come faster."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from lineside.sources import Source
from lineside.station.backlog import Policy

SWITCH_S: Final = 0.0005
"""How soon one of a station's threads lets another one run (`sys.setswitchinterval`). At Python's
own 5 ms the outbox waits that long for the inspection: at 2,000 verdicts/s the p99 of a hand-over
was 28 ms, and 17 ms at this."""

# Three times the p99 of a hand-over to the outbox (benchmarks/README.md, "Proved by faults").
_LEAD_MS: Final = 30.0


class Pace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[pace]``.

    Attributes:
        deadline_ms: from the trigger (without one: from taking the frame) to the verdict's way to
            the broker; absent: a verdict may take as long as it takes.
        deadline_lead_ms: so much before the deadline a part is given up: to be stored and sent;
            absent: 30, at most a third of the deadline.
        expiry_s: so long after its turn began a verdict may still be acted on; then it is history.
        backlog: so many frames wait for the inspection at most.
        policy: which part gives way when more come; ``auto`` blocks where the source can wait and
            else keeps the newest.
    """

    deadline_ms: Annotated[float, msgspec.Meta(gt=0, le=3_600_000)] | None = None
    deadline_lead_ms: Annotated[float, msgspec.Meta(ge=0, le=60_000)] | None = None
    expiry_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 10.0
    backlog: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 8
    policy: Literal["auto", "newest", "oldest", "block"] = "auto"

    def __post_init__(self) -> None:
        if self.deadline_ms is not None and self.lead_ms >= self.deadline_ms:
            raise ValueError(
                f"deadline_lead_ms {self.lead_ms:g} leaves nothing of deadline_ms "
                f"{self.deadline_ms:g}"
            )

    @property
    def lead_ms(self) -> float:
        """How long before its deadline a part is given up."""
        if self.deadline_lead_ms is not None:
            return self.deadline_lead_ms
        return _LEAD_MS if self.deadline_ms is None else min(_LEAD_MS, self.deadline_ms / 3)

    def policy_for(self, source: Source) -> Policy:
        """What `policy` means for this source."""
        if self.policy != "auto":
            return self.policy
        return "block" if source.can_wait else "newest"
