"""`lineside bench`: how long one inspection takes on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineside.cli.document import format_document
from lineside.cli.options import ENGINES, json_option, trust_option

if TYPE_CHECKING:
    from lineside.bench import BenchReport

_HEAD = ("engine", "precision", "threads", "at once", "stage", "p50 ms", "p90 ms", "p99 ms")


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@trust_option
@click.option(
    "--engine",
    type=click.Choice(["auto", *ENGINES]),
    default="auto",
    show_default=True,
    help="auto: every one that is installed and in the bundle.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    multiple=True,
    help="A number of threads to measure; may be given again. Without it: 1, half, all cores.",
)
@click.option(
    "--image",
    "images",
    type=click.Path(path_type=Path),
    multiple=True,
    help="An image to inspect; may be given again. Without it: the bundle's golden frames.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 1_000_000),
    default=300,
    show_default=True,
    help="Counted inspections for each engine and number of threads.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Frames at once, as the regions of a board come: one by one, and in every form that a "
    "station would try. Times are those of one frame.",
)
@json_option
def bench(
    bundle: Path,
    trust: tuple[Path, ...],
    engine: str,
    threads: tuple[int, ...],
    images: tuple[Path, ...],
    rounds: int,
    batch: int,
    as_json: bool,
) -> None:
    """Measure latency by stage for every engine and number of threads that works here.

    Each passes the golden self-test first. Rounds are interleaved, and warm-up is not counted.

    Example: lineside bench joint.lsb --trust factory.pub --rounds 1000
    """
    from lineside.bench import golden_frames, run_bench
    from lineside.bundle import open_bundle
    from lineside.frame import read_frame

    with open_bundle(bundle, trust=trust) as opened:
        frames = [read_frame(image) for image in images] or golden_frames(opened)
        report = run_bench(
            opened, frames, engine=engine, threads=threads, rounds=rounds, batch=batch
        )
    click.echo(format_document(report) if as_json else _tell(report))


def _tell(report: BenchReport) -> str:
    from lineside.cli.table import format_table

    machine = report.machine
    rows = [
        (
            *(found.candidate.engine, found.candidate.precision, str(found.candidate.threads)),
            "1" if found.form is None else f"{found.form.batch} x {found.form.lanes}",
            stage.stage,
            *(f"{value / 1e3:.3f}" for value in (stage.p50_us, stage.p90_us, stage.p99_us)),
        )
        for found in report.candidates
        for stage in found.stages
    ]
    versions = ", ".join(f"{name} {version}" for name, version in machine.engines.items())
    lines = [
        f"{report.product}, bundle {report.bundle[:16]}: {report.rounds} rounds, "
        f"{report.frames} frame(s) in turn"
        + (f", {report.batch} at once: times of one of them" if report.batch > 1 else ""),
        f"{machine.cpu}, {machine.usable_cores} usable core(s) [{' '.join(machine.cpu_flags)}]",
        f"{machine.system}, Python {machine.python}, lineside {machine.lineside}, {versions}",
        "",
        format_table(_HEAD, rows, right=(2, 5, 6, 7)),
    ]
    lines += [f"left out: {found.candidate.told()}: {found.detail}" for found in report.refused]
    return "\n".join(lines)
