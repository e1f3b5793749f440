"""The rule that a candidate's owner gives or its trainer proposes."""

from __future__ import annotations

from typing import Literal

from lineside.contract import Contract, LimitRule
from lineside_export.errors import ExportError
from lineside_export.headrule import head_rule

Worse = Literal["higher", "lower"]


def choose_rule(contract: Contract, *, limit: float | None, worse: Worse | None) -> LimitRule:
    """The rule to seal: the limit given, else the contract's proposal.

    Raises:
        ExportError: neither is there, or it is none for this head.
    """
    rule = _asked_rule(contract, limit=limit, worse=worse)
    allowed = head_rule(contract.head)
    if not allowed.fits(rule):
        raise ExportError(f"limit {rule.not_ok_limit:g}, {rule.worse} is worse: {allowed.told}")
    return rule


def start_rule(contract: Contract) -> LimitRule:
    """Something to begin with where limits are chosen, and nobody gives or proposes one."""
    start = head_rule(contract.head).start
    return LimitRule(ok_limit=start, not_ok_limit=start, unit=_unit(contract))


def _asked_rule(contract: Contract, *, limit: float | None, worse: Worse | None) -> LimitRule:
    proposed = contract.proposed_rule
    if limit is not None:
        direction = worse or (proposed.worse if proposed is not None else "higher")
        return LimitRule(ok_limit=limit, not_ok_limit=limit, worse=direction, unit=_unit(contract))
    if proposed is None:
        raise ExportError(
            "no limit: neither the contract proposes one nor was one given; say which score "
            "parts OK from NOT_OK, e.g. --limit 0.2"
        )
    return proposed


def _unit(contract: Contract) -> str:
    return next(o.unit for o in contract.outputs if o.name == contract.head.output)
