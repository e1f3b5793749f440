"""`lineside compare`: finished runs side by side."""

from __future__ import annotations

from pathlib import Path

import click

from lineside.cli.document import format_document
from lineside.cli.options import json_option
from lineside.cli.table import format_table


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with a plot too."
)
@json_option
def compare(runs: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Show how tuning runs differ: settings, figures, and errors on the same test images.

    RUNS are --out folders of finished `lineside train` calls, with or without --seeds; the others
    are held against the first.

    \b
    Example:
      lineside compare runs/scratch runs/mae runs/cnn --out compare.html

    Exit codes: 1 a folder is no finished tuning run, 7 the page cannot be written.
    """
    if len(runs) < 2:
        raise click.UsageError("name two runs at least, as in: lineside compare runs/a runs/b")
    from lineside_trainer.telling.comparison import compare_runs
    from lineside_trainer.telling.comparison_report import (
        comparison_document,
        comparison_tables,
        write_comparison,
    )

    comparison = compare_runs(runs)
    if out is not None:
        write_comparison(out, comparison)
    if as_json:
        click.echo(format_document(comparison_document(comparison)))
        return
    for table in comparison_tables(comparison):
        click.echo(f"{table.heading}\n")
        click.echo(format_table(table.head, table.rows))
        for note in table.notes:
            click.echo(f"note: {note}", err=True)
        click.echo()
    if out is not None:
        click.echo(f"page: {out}")
