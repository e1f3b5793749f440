"""The options of `lineside export` that say how the limits are set, and what they ask for."""

from __future__ import annotations

import datetime
import functools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from lineside.bundle.evidence import PartImages, Way
    from lineside_export.candidate import Candidate
    from lineside_export.deciding import Promise, RuleWish
    from lineside_export.limits import Costs
    from lineside_export.rules import Worse

DATE_VARIABLE: Final = "SOURCE_DATE_EPOCH"
"""Seconds since 1970, as reproducible builds have it (reproducible-builds.org)."""
DEFAULT_CONFIDENCE: Final = 0.95

_COSTS: Final = ("cost_escape", "cost_overkill", "cost_review")


@dataclass(frozen=True, kw_only=True)
class RuleFlags:
    """As the command line has it; ``None`` where nothing was given."""

    limit: float | None
    worse: Worse | None
    rule: Way | None
    min_recall: float | None
    cost_escape: float | None
    cost_overkill: float | None
    cost_review: float | None
    max_overkill: float | None
    part_images: PartImages | None
    max_escape: float | None
    confidence: float | None
    date: str | None


def finite(_context: click.Context, _option: click.Parameter, value: float | None) -> float | None:
    """Refuse nan and inf: nan passes every comparison with a bound, and then so does every model.

    Raises:
        click.BadParameter: the number is not finite.
    """
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not finite; give a number")
    return value


def _cost(name: str, what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        f"--cost-{name}",
        type=click.FloatRange(min=0.0),
        callback=finite,
        help=f"With --rule cost: what {what} costs, in any currency.",
    )


_INSIDE: Final = click.FloatRange(0.0, 1.0, min_open=True, max_open=True)
_SHARE: Final = click.FloatRange(0.0, 1.0)
_OPTIONS: Final = (
    click.option(
        "--limit",
        type=float,
        callback=finite,
        help="Score that parts OK from NOT_OK; of a regression also what targets are bad beyond. "
        "Default: what the trainer proposed.",
    ),
    click.option(
        "--worse",
        type=click.Choice(["higher", "lower"]),
        help="Which scores are the bad ones, with --limit. Default: as proposed, else higher.",
    ),
    click.option(
        "--rule",
        type=click.Choice(["fixed", "best-f1", "recall", "cost", "overkill"]),
        help="How limits are set: as given, or chosen on the validation parts. Default: fixed; of "
        "an anomaly model for which nobody gives or proposes a limit best-f1 where bad validation "
        "parts are known, else overkill.",
    ),
    click.option(
        "--min-recall",
        type=_SHARE,
        callback=finite,
        help="With --rule recall: bad parts that are not judged OK / bad parts.",
    ),
    _cost("escape", "a bad part judged OK"),
    _cost("overkill", "a good part judged NOT_OK"),
    _cost("review", "a part that a human looks at"),
    click.option(
        "--max-overkill",
        type=_SHARE,
        callback=finite,
        help="At most this share of good validation parts is NOT_OK: with --rule overkill, which "
        "goes by good parts alone, both limits are where that holds (default: 0.01); with another "
        "the NOT_OK limit is moved out, and what lies between goes to review.",
    ),
    click.option(
        "--max-escape",
        type=_INSIDE,
        callback=finite,
        help="Tighten the OK limit until at most this share of bad parts is judged OK, proven on "
        "the assurance samples; else refuse.",
    ),
    click.option(
        "--confidence",
        type=_INSIDE,
        callback=finite,
        help="Of --max-escape. Default: 0.95.",
    ),
    click.option(
        "--part-images",
        type=click.Choice(["together", "each"]),
        help="Several images of a part are views of one inspection, or inspections each. Default: "
        "together, unless a validation part has good and bad images.",
    ),
    click.option(
        "--date",
        help=f"With --max-escape: YYYY-MM-DD, sealed with it. Default: {DATE_VARIABLE}; no clock "
        "is read.",
    ),
)


def rule_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add these options and hand them over as one `rule_flags`."""

    @functools.wraps(function)
    def gathered(**given: Any) -> None:
        names = RuleFlags.__dataclass_fields__
        flags = RuleFlags(**{name: given.pop(name) for name in names})
        function(rule_flags=flags, **given)

    for option in reversed(_OPTIONS):
        gathered = option(gathered)
    return gathered


def check_flags(flags: RuleFlags) -> None:
    """Refuse what contradicts itself, before anything is read.

    Raises:
        click.UsageError: an option without the one that it belongs to, or the other way.
    """
    if flags.worse is not None and flags.limit is None:
        raise click.UsageError("--worse says how to read --limit; give both")
    _belong("--min-recall", "recall", flags.min_recall is not None, flags.rule)
    for name in _COSTS:
        _belong("--" + name.replace("_", "-"), "cost", getattr(flags, name) is not None, flags.rule)
    if flags.max_escape is None:
        for option, value in (("--confidence", flags.confidence), ("--date", flags.date)):
            if value is not None:
                raise click.UsageError(f"{option} belongs to --max-escape; give both")
    else:
        _date(flags)


def _belong(option: str, rule: str, given: bool, way: str | None) -> None:
    if given != (way == rule):
        told = f"{option} belongs to --rule {rule}" if given else f"--rule {rule} needs {option}"
        raise click.UsageError(f"{told}; give both")


def make_wish(flags: RuleFlags, candidate: Candidate) -> RuleWish:
    """What these flags ask of a candidate; of its samples only the validation targets are read.

    Raises:
        ExportError: no limit to start from, or one that this head cannot have.
        click.UsageError: a limit where classes say what is bad.
    """
    from lineside.contract import LabelledHead
    from lineside_export.deciding import RuleWish
    from lineside_export.headrule import DEFAULT_MAX_OVERKILL
    from lineside_export.rules import choose_rule, start_rule

    contract, way = candidate.contract, _way(flags, candidate)
    chosen = way != "fixed" and isinstance(contract.head, LabelledHead)
    if chosen and flags.limit is not None:
        raise click.UsageError(
            f"--limit and --rule {way}: the classes say which parts are bad, and the rule "
            "chooses the limit; leave one of them away"
        )
    if chosen and contract.proposed_rule is None:
        start = start_rule(contract)
    else:
        start = choose_rule(contract, limit=flags.limit, worse=flags.worse)
    max_overkill = flags.max_overkill
    if way == "overkill" and max_overkill is None:
        max_overkill = DEFAULT_MAX_OVERKILL
    return RuleWish(
        start=start,
        way=way,
        min_recall=flags.min_recall,
        costs=_costs(flags),
        max_overkill=max_overkill,
        part_images=flags.part_images,
        promise=_promise(flags),
    )


def _way(flags: RuleFlags, candidate: Candidate) -> Way:
    from lineside_export.headrule import choose_way
    from lineside_export.partscores import known_bad

    return choose_way(
        candidate.contract,
        asked=flags.rule,
        limit=flags.limit,
        bad_parts=known_bad(candidate.samples["validation"], candidate.contract.head),
    )


def _costs(flags: RuleFlags) -> Costs | None:
    from lineside_export.limits import Costs

    escape, overkill, review = (getattr(flags, name) for name in _COSTS)
    if escape is None or overkill is None or review is None:
        return None
    return Costs(escape=escape, overkill=overkill, review=review)


def _promise(flags: RuleFlags) -> Promise | None:
    from lineside_export.deciding import Promise

    if flags.max_escape is None:
        return None
    confidence = DEFAULT_CONFIDENCE if flags.confidence is None else flags.confidence
    return Promise(max_escape=flags.max_escape, confidence=confidence, date=_date(flags))


def _date(flags: RuleFlags) -> str:
    """The day that is sealed; from whoever exports, since the same orders must give the same bytes.

    Raises:
        click.UsageError: nobody says which.
    """
    if flags.date is not None:
        try:
            return datetime.date.fromisoformat(flags.date).isoformat()
        except ValueError as error:
            raise click.BadParameter(f"{flags.date!r}: give YYYY-MM-DD", param_hint="--date") from (
                error
            )
    seconds = os.environ.get(DATE_VARIABLE)
    if seconds is None:
        raise click.UsageError(
            "--max-escape seals a date, and the same orders must give the same bytes, so no clock "
            f"is read: give --date, e.g. --date $(date +%F), or set {DATE_VARIABLE}"
        )
    try:
        moment = datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise click.UsageError(f"{DATE_VARIABLE} is {seconds!r}: give seconds since 1970") from (
            error
        )
    return moment.date().isoformat()
