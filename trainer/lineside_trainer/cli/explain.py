"""`lineside explain`: where a trained network looked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineside.cli.document import format_document
from lineside.cli.options import json_option
from lineside.cli.table import format_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lineside_trainer.telling.explaining import Explanation

_HEAD = ("image", "map of", "predicted", "true", "set", "picture")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of the pictures; else RUN/explain."
)
@click.option(
    "--method",
    type=click.Choice(["hirescam", "gradcam"]),
    default="hirescam",
    show_default=True,
    help="By the second block or stage, place by place; or by the last, as the papers do.",
)
@click.option("--class", "chosen", help="Class to explain; else the likeliest of each image.")
@json_option
def explain(
    run: Path,
    images: tuple[Path, ...],
    out: Path | None,
    method: str,
    chosen: str | None,
    as_json: bool,
) -> None:
    """Draw where the network of a finished `lineside train` looked in each image.

    RUN is the --out folder of the training; a folder as IMAGE stands for the images in it. A
    picture shows the image as the network saw it, the map of what raised the score, and both.
    Nothing is written where one of the images cannot be used.

    \b
    Example:
      lineside explain runs/joint frames/ part-0001.png
    """
    from lineside_trainer.telling.explaining import explain as draw

    found = draw(run, images, out=out, method=method, chosen=chosen)
    click.echo(_as_json(run, method, found) if as_json else _as_table(found))
    empty = [one.image for one in found if one.empty]
    if empty and not as_json:
        click.echo(f"nothing raised the score in {', '.join(empty)}: an empty map", err=True)


def _as_json(run: Path, method: str, found: Sequence[Explanation]) -> str:
    import msgspec

    images = [msgspec.to_builtins(one) for one in found]
    return format_document({"run": str(run), "method": method, "images": images})


def _as_table(found: Sequence[Explanation]) -> str:
    from lineside_trainer.telling.explaining import show

    rows = [
        (
            *(one.image, one.explained, show(one.predicted)),
            *("-" if one.truth is None else show(one.truth), one.set or "-", one.overlay),
        )
        for one in found
    ]
    return format_table(_HEAD, rows, right=(2, 3))
