"""`lineside study`: methods and settings side by side, resumable, in one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineside.cli.document import format_document
from lineside.cli.options import json_option
from lineside.cli.table import format_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lineside_trainer.study.plan import Piece, Plan


class Numbers(click.ParamType[tuple[int, ...]]):
    """`0,1,2`."""

    name = "NUMBERS"

    def convert(
        self,
        value: str | tuple[int, ...],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        words = value.split(",")
        if not all(word.strip().isdecimal() for word in words):
            self.fail(f"{value!r}: give numbers with commas, e.g. 0,1,2", param, ctx)
        return tuple(int(word) for word in words)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of all runs.")
@click.option(
    "--data",
    metavar="[NAME=]FOLDER",
    multiple=True,
    help="Images of the study, or of the data set NAME; may be given again.",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Folder of the weight files that rows name; else they are beside FILE.",
)
@click.option("--only", metavar="NAME", multiple=True, help="This row or pre-training only.")
@click.option("--seeds", type=Numbers(), default=(), help="Of the file's seeds these only: 0,1.")
@click.option(
    "--epochs-factor",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    help="For a trial: all epochs times this, one at least; the table says so.",
)
@click.option(
    "--processes",
    type=click.IntRange(min=0),
    help="Runs at once, each a process of its own; else one, or one for each GPU of --devices. "
    "0 runs all in this process, one by one.",
)
@click.option(
    "--devices",
    type=click.IntRange(min=0),
    default=0,
    help="GPUs that the processes are dealt out to.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and what it costs.")
@json_option
@click.pass_context
def study(
    context: click.Context,
    file: Path,
    out: Path,
    data: tuple[str, ...],
    weights: Path | None,
    only: tuple[str, ...],
    seeds: tuple[int, ...],
    epochs_factor: float,
    processes: int | None,
    devices: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run every row of FILE over its seeds, and hold them side by side in one table.

    \b
    Example:
      lineside study benchmarks/studies/table3.toml --out runs/table3 --epochs-factor 0.02
      lineside study benchmarks/studies/elpv.toml --out runs/elpv --data elpv=images/elpv

    Each run has a folder of its own, and a command that repeats it. Stopped, or killed, the same
    command goes on where it was; a run that failed is tried again. The folder gets table.md,
    table.csv, table.png and study.json, the first ones anew after each run.

    Exit code 1: a run failed or could not be done. A row whose weights or images are not there is
    shown as missing, and is no failure.
    """
    from lineside_trainer.study.plan import Asked, make_plan

    asked = Asked(
        file=file,
        out=out,
        data=_folders(file, data),
        weights=weights,
        epochs_factor=epochs_factor,
    )
    plan = make_plan(asked)
    pieces = plan.chosen(only, seeds)
    if dry_run:
        _foretell(plan, pieces, as_json=as_json)
        return
    from lineside_trainer.study.running import run_study, unfinished
    from lineside_trainer.study.tables import show_table

    figures = run_study(
        plan,
        pieces,
        processes=max(1, devices) if processes is None else processes,
        devices=devices,
        say=lambda words: click.echo(words, err=True),
    )
    click.echo(format_document(figures) if as_json else show_table(figures))
    left = unfinished(figures, pieces)
    if left:
        click.echo(f"not done: {len(left)} of {len(pieces)}: {', '.join(left)}", err=True)
        context.exit(1)


def _folders(file: Path, given: tuple[str, ...]) -> dict[str, Path]:
    """`NAME=FOLDER` by name; a bare folder is of the study's own data set."""
    if not given:
        return {}
    from lineside_trainer.study.file import read_study

    known = read_study(file)
    folders: dict[str, Path] = {}
    for words in given:
        name, equals, folder = words.partition("=")
        named = bool(equals) and name in known.data_sets
        folders[name if named else known.data_set] = Path(folder if named else words)
    return folders


def _foretell(plan: Plan, pieces: Sequence[Piece], *, as_json: bool) -> None:
    from lineside_trainer.study.forecast import forecast
    from lineside_trainer.study.work import check_plan

    check_plan(plan)
    every = forecast(plan, pieces)
    known = [one.passes for one in every if one.passes is not None and not one.done]
    if as_json:
        told = [
            {
                "id": one.piece.id,
                "epochs": one.piece.epochs,
                "images": one.images,
                "image_passes": one.passes,
                "done": one.done,
                "missing": one.piece.missing,
            }
            for one in every
        ]
        click.echo(format_document({"pieces": told, "image_passes_left": sum(known)}))
        return
    rows = [
        (
            one.piece.id,
            str(one.piece.epochs),
            "-" if one.images is None else str(one.images),
            "-" if one.passes is None else str(one.passes),
            "done" if one.done else one.piece.missing,
        )
        for one in every
    ]
    head = ("piece", "epochs", "images", "image passes", "")
    click.echo(format_table(head, rows, right=(1, 2, 3)))
    left = [one for one in every if not one.done and not one.piece.missing]
    click.echo(f"{len(every)} pieces, {len(left)} to do: {sum(known):,} image passes")
