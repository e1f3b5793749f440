"""`lineside inspect`: judge image files, one row each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineside.cli.document import format_document
from lineside.cli.options import engine_option, json_option, trust_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lineside.inspector import Inspector
    from lineside.verdict import Finding, Verdict

_FINDINGS_SHOWN = 3
_HEAD = ("file", "evaluation", "score", "limit", "unit", "reason", "ms", "finding")


@click.command("inspect")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@trust_option
@engine_option
@click.option("--threads", type=click.IntRange(1, 1024), help="Computing threads; else measured.")
@click.option(
    "--maps",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Write a picture NAME.map.png for each image of which the model gives a map: the map over "
    "the image, its regions, score and limit. Those of an earlier run are replaced.",
)
@json_option
@click.pass_context
def inspect_images(
    context: click.Context,
    bundle: Path,
    images: tuple[Path, ...],
    trust: tuple[Path, ...],
    engine: str,
    threads: int | None,
    maps: Path | None,
    as_json: bool,
) -> None:
    """Judge images with a bundle; a folder stands for the images in it.

    An image that cannot be used is a row with NOT_DECIDABLE and its reason, and the others go on.
    Exit codes: 0 every image was decided, 1 at least one is NOT_DECIDABLE.

    Example: lineside inspect joint.lsb frames/ part-0001.png --trust factory.pub
    """
    from lineside.loading import load
    from lineside.verdict import Evaluation

    files = _expand(images)
    with load(bundle, trust=trust, engine=engine, threads=threads) as inspector:
        verdicts, pictures = _judge(inspector, files, maps)
    click.echo(_as_json(files, verdicts, pictures) if as_json else _as_table(files, verdicts))
    undecided = [v for v in verdicts if v.evaluation not in (Evaluation.OK, Evaluation.NOT_OK)]
    for verdict in undecided:
        if verdict.detail:
            click.echo(verdict.detail, err=True)
    if undecided:
        context.exit(1)


def _expand(images: Sequence[Path]) -> list[Path]:
    """Folders become their images in name order; a missing file stays, for its row to say so."""
    from lineside.errors import InputDataError
    from lineside.frame import SUFFIXES
    from lineside.plainfile import is_folder

    files: list[Path] = []
    for image in images:
        if not is_folder(image):
            files.append(image)
            continue
        try:
            found = sorted(file for file in image.iterdir() if file.suffix.lower() in SUFFIXES)
        except OSError as error:
            raise InputDataError(f"{image}: {error.strerror}") from error
        if not found:
            raise InputDataError(f"{image}: no image in it; Lineside reads {', '.join(SUFFIXES)}")
        files += found
    return files


def _judge(
    inspector: Inspector, files: Sequence[Path], maps: Path | None
) -> tuple[list[Verdict], list[Path | None]]:
    if maps is None:
        verdicts = [inspector.inspect_file(file, part_id=file.stem) for file in files]
        return verdicts, [None] * len(files)
    from lineside.cli.inspect_maps import MapPictures

    drawn = MapPictures(maps, inspector.contract, files)
    pairs = [drawn.judge(inspector, file) for file in files]
    return [verdict for verdict, _ in pairs], [picture for _, picture in pairs]


def _as_table(files: Sequence[Path], verdicts: Sequence[Verdict]) -> str:
    from lineside.cli.table import format_figure, format_table

    rows = [
        (
            str(file),
            verdict.evaluation.name,
            format_figure(verdict.score),
            format_figure(verdict.limit),
            verdict.unit,
            verdict.reason.value,
            f"{verdict.timings.total_us / 1e3:.2f}",
            _tell_findings(verdict.findings),
        )
        for file, verdict in zip(files, verdicts, strict=True)
    ]
    # Many models know neither kinds of defect nor their place: no column of nothing for them.
    shown = len(_HEAD) if any(verdict.findings for verdict in verdicts) else len(_HEAD) - 1
    return format_table(_HEAD[:shown], [row[:shown] for row in rows], right=(2, 3, 6))


def _tell_findings(findings: Sequence[Finding]) -> str:
    told = [_tell_finding(found) for found in findings[:_FINDINGS_SHOWN]]
    more = len(findings) - len(told)
    return "; ".join([*told, *([f"{more} more"] if more else [])])


def _tell_finding(found: Finding) -> str:
    words = [found.name]
    if found.probability is not None:
        words.append(f"{found.probability:.2f}")
    if found.peak is not None:
        words.append(f"{found.peak:.4g}")
    if (region := found.region) is not None:
        words.append(f"x {region.x0_px}..{region.x1_px} y {region.y0_px}..{region.y1_px}")
    if found.area_px is not None:
        words.append(f"({found.area_px} px)")
    return " ".join(words)


def _as_json(
    files: Sequence[Path], verdicts: Sequence[Verdict], pictures: Sequence[Path | None]
) -> str:
    import msgspec

    rows = [
        {
            "file": str(file),
            **msgspec.structs.asdict(verdict),
            "evaluation": verdict.evaluation.name,
            "evaluation_code": int(verdict.evaluation),
            "reason_code": verdict.reason.code,
            "map_file": None if picture is None else str(picture),
        }
        for file, verdict, picture in zip(files, verdicts, pictures, strict=True)
    ]
    return format_document(rows)
