"""The rule that a candidate's owner gives or its trainer proposes."""

from __future__ import annotations

from typing import Literal

from lineside.contract import ClassificationHead, Contract, LimitRule
from lineside_export.errors import ExportError

Worse = Literal["higher", "lower"]


def choose_rule(contract: Contract, *, limit: float | None, worse: Worse | None) -> LimitRule:
    """The rule to seal: the limit given, else the contract's proposal.

    Raises:
        ExportError: neither is there, or it is none for this head.
    """
    rule = _asked_rule(contract, limit=limit, worse=worse)
    if isinstance(contract.head, ClassificationHead) and not (
        rule.worse == "higher" and 0.0 <= rule.ok_limit <= rule.not_ok_limit < 1.0
    ):
        raise ExportError(
            f"limit {rule.not_ok_limit:g}, {rule.worse} is worse: the score of a classification is "
            "the probability of any defect: give a --limit from 0 to below 1, higher being worse"
        )
    return rule


def _asked_rule(contract: Contract, *, limit: float | None, worse: Worse | None) -> LimitRule:
    proposed = contract.proposed_rule
    unit = next(o.unit for o in contract.outputs if o.name == contract.head.output)
    if limit is not None:
        direction = worse or (proposed.worse if proposed is not None else "higher")
        return LimitRule(ok_limit=limit, not_ok_limit=limit, worse=direction, unit=unit)
    if proposed is None:
        raise ExportError(
            "no limit: neither the contract proposes one nor was one given; say which score "
            "parts OK from NOT_OK, e.g. --limit 0.2"
        )
    return proposed
