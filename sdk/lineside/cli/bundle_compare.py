"""`lineside bundle compare`: a retrained bundle against the installed one, on the same images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineside.cli.document import format_document
from lineside.cli.options import engine_option, json_option, trust_option

if TYPE_CHECKING:
    from lineside.comparison import Comparison, RateOfParts
    from lineside.comparison.report import BundleSide, Paired

_FLIPS_SHOWN = 50
_PARTS_SHOWN = 10
_CAVEAT = (
    "95 % intervals are exact, p is of McNemar's exact test. These are rates of this folder, not "
    "of the line: frames are kept because they were hard, by the scores of the bundle of that day."
)


@click.command("compare")
@click.argument("new", type=click.Path(path_type=Path))
@click.argument("installed", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@trust_option
@engine_option
@click.option("--threads", type=click.IntRange(1, 1024), help="Computing threads; else measured.")
@click.option(
    "--truth",
    metavar="COLUMN",
    help="Column of labels.csv that says what a part is: ok, good, free and normal are good, any "
    "other word is bad, an empty cell says nothing. Default: disposition.",
)
@click.option(
    "--split",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="split.json of the run that learnt NEW from this folder: only its test images count.",
)
@json_option
@click.pass_context
def compare_two(
    context: click.Context,
    new: Path,
    installed: Path,
    folder: Path,
    trust: tuple[Path, ...],
    engine: str,
    threads: int | None,
    truth: str | None,
    split: Path | None,
    as_json: bool,
) -> None:
    """Show where two bundles of one product differ on a folder, and who is right.

    FOLDER is one that `lineside collect` made, or any with images. Images that NEW has learnt from
    flatter it: give --split, or collect again after training. Sealed limits count.

    Exit codes: 0 compared, 1 NEW passes a bad part that INSTALLED stops.

    Example: lineside bundle compare joint-new.lsb joint.lsb collected --trust factory.pub
    """
    from lineside.comparison import check_same_product, compare, judge_both, read_images
    from lineside.comparison.folder import read_test_set
    from lineside.loading import load

    only = None if split is None else read_test_set(split)
    with (
        load(new, trust=trust, engine=engine, threads=threads) as ours,
        load(installed, trust=trust, engine=engine, threads=threads) as theirs,
    ):
        check_same_product(ours, theirs)
        product = ours.bundle.manifest.identity.product
        found = read_images(folder, product=product, truth=truth, only=only)
        comparison = compare(ours, theirs, found, judge_both(ours, theirs, found.images))
    click.echo(format_document(comparison) if as_json else _tell(comparison))
    if comparison.is_worse:
        context.exit(1)


def _tell(found: Comparison) -> str:
    left_out = {"of another product": found.other_product, "not in the test set": found.outside}
    told = "".join(f", {count} {why} left out" for why, count in left_out.items() if count)
    blocks = [
        f"{found.product}: {found.images} image(s){told}\n"
        f"{_tell_side('NEW', found.new)}\n{_tell_side('INSTALLED', found.installed)}",
        _tell_agreement(found),
        _tell_flips(found),
        _tell_reviewed(found),
        found.advice,
    ]
    return "\n\n".join(block for block in blocks if block)


def _tell_side(name: str, side: BundleSide) -> str:
    unit = "" if side.unit == "1" else f" {side.unit}"
    latency = "nothing inferred" if side.p50_us is None else f"p50 {side.p50_us / 1e3:.2f} ms"
    return (
        f"{name:9}  {side.file}, {side.version}, {side.model}, {side.engine}, {latency}, "
        f"limits {side.ok_limit:g} and {side.not_ok_limit:g}{unit}"
    )


def _tell_agreement(found: Comparison) -> str:
    from lineside.cli.table import format_table

    names = list(found.agreement)
    rows = [(f"NEW {row}", *(str(found.agreement[row][name]) for name in names)) for row in names]
    return format_table(
        ("images", *(f"INSTALLED {name}" for name in names)), rows, right=range(1, 4)
    )


def _tell_flips(found: Comparison) -> str:
    from lineside.cli.table import format_figure, format_table

    if not found.flips:
        return ""
    rows = [
        (
            flip.file,
            flip.part,
            *(flip.installed, format_figure(flip.installed_score)),
            *(flip.new, format_figure(flip.new_score)),
            flip.disposition or "-",
        )
        for flip in found.flips[:_FLIPS_SHOWN]
    ]
    head = ("flip", "part", "INSTALLED", "score", "NEW", "score", "disposition")
    more = len(found.flips) - len(rows)
    table = format_table(head, rows, right=(3, 5))
    return table + (f"\n… and {more} more: --json lists all" if more else "")


def _tell_reviewed(found: Comparison) -> str:
    from lineside.cli.table import format_table

    if found.reviewed is None:
        return ""
    rows = [
        ("bad parts judged OK (escapes)", *_tell_pair(found.reviewed.escapes)),
        ("good parts judged NOT_OK (overkill)", *_tell_pair(found.reviewed.overkill)),
        ("parts left to a human", *_tell_pair(found.reviewed.undecided)),
    ]
    head = ("reviewed parts", "INSTALLED", "NEW", "only INSTALLED", "only NEW", "p")
    lines = [format_table(head, rows, right=(3, 4, 5))]
    for name, parts in (
        ("only NEW passes", found.reviewed.escapes.only_new),
        ("only INSTALLED passes", found.reviewed.escapes.only_installed),
    ):
        if parts:
            shown = ", ".join(parts[:_PARTS_SHOWN])
            more = " …" if len(parts) > _PARTS_SHOWN else ""
            lines.append(f"bad parts that {name}: {shown}{more}")
    lines.append(_CAVEAT)
    return "\n".join(lines)


def _tell_pair(pair: Paired) -> tuple[str, str, str, str, str]:
    return (
        _tell_rate(pair.installed),
        _tell_rate(pair.new),
        str(len(pair.only_installed)),
        str(len(pair.only_new)),
        f"{pair.p:.3g}",
    )


def _tell_rate(rate: RateOfParts) -> str:
    if not rate.parts:
        return "none"
    interval = f"{100 * rate.low:.1f} to {100 * rate.high:.1f} %"
    return f"{rate.count} of {rate.parts} ({interval})"
