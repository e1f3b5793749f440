"""Section ``[drift]`` of station.toml."""

from __future__ import annotations

from typing import Annotated

import msgspec


class DriftSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a station watches for drift.

    Attributes:
        enabled: where the bundle has a reference; one without is not watched.
        parts_per_false_alarm: while nothing drifts, an alarm of any statistic comes after so many
            parts on average, at the earliest; the default is a month at one part a second.
        block: parts that are judged together: as many as are alike, because they are of one lot,
            say. Fewer find a drift sooner.
        tolerance: so much the chance of lying above a part of the reference may differ from even,
            and such a share of parts may lie beyond all of them.
    """

    enabled: bool = True
    parts_per_false_alarm: Annotated[int, msgspec.Meta(ge=1000, le=10**12)] = 2_592_000
    block: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 32
    tolerance: Annotated[float, msgspec.Meta(ge=0.0, le=0.3)] = 0.05
