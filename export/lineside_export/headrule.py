"""Which limits a kind of head can have, and who sets them where nobody says: one entry a head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from lineside.bundle.evidence import Way
from lineside.contract import (
    AnomalyHead,
    ClassificationHead,
    Contract,
    HeadSpec,
    LimitRule,
    RegressionHead,
)
from lineside_export.limits import ANY

DEFAULT_MAX_OVERKILL: Final = 0.01


@dataclass(frozen=True, kw_only=True)
class HeadRule:
    """Of one kind of head.

    Attributes:
        bounds: the lowest and highest limit that its score allows.
        start: a limit to begin with where limits are chosen and nobody gives one.
        higher_only: whether its score can only be worse when it is higher.
        told: what its score is, for a limit that does not fit.
        chosen_unasked: whether limits are chosen where nobody gives or proposes one: a score that
            has no unit tells nobody a limit.
    """

    bounds: tuple[float, float] = ANY
    start: float = 0.0
    higher_only: bool = False
    told: str = ""
    chosen_unasked: bool = False

    def fits(self, rule: LimitRule) -> bool:
        """Whether the head can have these limits."""
        lowest, highest = self.bounds
        inside = lowest <= rule.ok_limit <= highest and lowest <= rule.not_ok_limit <= highest
        return inside and (rule.worse == "higher" or not self.higher_only)


_RULES: Final[dict[type[HeadSpec], HeadRule]] = {
    RegressionHead: HeadRule(),
    ClassificationHead: HeadRule(
        bounds=(0.0, float(np.nextafter(1.0, 0.0))),
        start=0.5,
        higher_only=True,
        told="the score of a classification is the probability of any defect: give a --limit from "
        "0 to below 1, higher being worse",
    ),
    AnomalyHead: HeadRule(
        higher_only=True,
        told="the score of an anomaly model is how unlike good parts an image is, higher being "
        "worse: leave --worse away",
        chosen_unasked=True,
    ),
}


def head_rule(head: HeadSpec) -> HeadRule:
    """That of this kind of head."""
    return _RULES[type(head)]


def choose_way(
    contract: Contract, *, asked: Way | None, limit: float | None, bad_parts: bool
) -> Way:
    """How limits are set. Pure.

    Args:
        contract: of the candidate.
        asked: by name; ``None``: nobody said.
        limit: that somebody gave.
        bad_parts: whether bad validation parts are known.
    """
    if asked is not None:
        return asked
    told = limit is not None or contract.proposed_rule is not None
    if told or not head_rule(contract.head).chosen_unasked:
        return "fixed"
    return "best-f1" if bad_parts else "overkill"
