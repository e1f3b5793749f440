"""`lineside dataset`: make images for those who have none yet."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from lineside.cli.document import format_document
from lineside.cli.options import json_option


@contextmanager
def _bar(parts: int) -> Iterator[Callable[[int, int], None] | None]:
    if not sys.stderr.isatty():  # a log wants no bar, and a few seconds need no lines
        yield None
        return
    with click.progressbar(length=parts, label="joints", file=sys.stderr) as bar:
        yield lambda done, _: bar.update(done - bar.pos)


@click.group()
def dataset() -> None:
    """Make a data set to try things with."""


@dataset.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--parts", default=200, show_default=True, help="LEDs; each gives five images.")
@click.option("--seed", default=7, show_default=True, help="Same seed, same bytes.")
@click.option("--size", default=64, show_default=True, help="Edge of the square images, pixels.")
@json_option
def joints(out: Path, parts: int, seed: int, size: int, as_json: bool) -> None:
    """Compute acoustic-microscope-like images of ageing LED solder joints.

    OUT gets labels.csv, images/, masks/ (cracks, voids) and a README.md. An earlier output of this
    command is replaced; a folder that holds anything else is refused.

    \b
    Example:
      lineside dataset joints joints --parts 200 --seed 7
      lineside train --data joints --task regression --target delta_b_max --group part --out runs/a
    """
    from lineside_trainer.data.joints import JointsSettings, write_joints

    settings = JointsSettings(parts=parts, seed=seed, size_px=size)
    with _bar(parts) as progress:
        summary = write_joints(out, settings, progress)
    if as_json:
        click.echo(
            format_document(
                {
                    "out": str(out),
                    "images": summary.images,
                    "parts": summary.parts,
                    "seed": seed,
                    "size_px": size,
                    "beyond_limit": summary.beyond_limit,
                    "mean_delta_b_max": summary.mean_delta_b_max,
                    "largest_delta_b_max": summary.largest_delta_b_max,
                }
            )
        )
        return
    click.echo(
        f"{summary.images} images of {summary.parts} parts in {out}; ΔB_max: "
        f"mean {summary.mean_delta_b_max:.1%}, largest {summary.largest_delta_b_max:.1%}, "
        f"beyond 20 % in {summary.beyond_limit}"
    )
