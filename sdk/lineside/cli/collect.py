"""`lineside collect`: what a station kept, as a folder for the trainer."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineside.cli.document import format_document
from lineside.cli.options import json_option

if TYPE_CHECKING:
    from lineside.kept import Collected

_ONLY = ("reviewed", "disagree", "undecided", "fault", "drifting", "near", "share")


@click.command()
@click.argument("station", required=False, type=click.Path(path_type=Path), metavar="STATION.TOML")
@click.option(
    "--outbox",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The station's outbox, with its journal. Default: outbox.path of STATION.TOML.",
)
@click.option(
    "--kept",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where the station keeps frames. Default: keep.path of STATION.TOML.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder to write; not there yet, or empty.",
)
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    metavar="YYYY-MM-DD[THH:MM:SS]",
    help="Only frames that were taken then or later, UTC.",
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(_ONLY),
    help="Only frames of this kind, or those that a human has reviewed; may be given again.",
)
@json_option
def collect(
    station: Path | None,
    outbox: Path | None,
    kept: Path | None,
    out: Path,
    since: datetime.datetime | None,
    only: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make of the frames that a station kept a folder that the trainer reads.

    Beside the images stands labels.csv: verdicts, and what humans said (cmd/disposition). The
    station may run on. Its frames stay where they are.

    Example: lineside collect station.toml --out collected
    """
    from lineside.errors import InputDataError
    from lineside.kept import collect as bring_together
    from lineside.kept import write_collection
    from lineside.kept.journal import open_station_journal

    ring, file = _places(station, outbox, kept)
    _refuse_what_is_there(out)
    since_unix_ns = 0 if since is None else _unix_ns(since)
    with open_station_journal(file) as journal:
        found = bring_together(ring, journal, since_unix_ns=since_unix_ns, only=only)
    if not found.frames and not found.damaged:
        raise InputDataError(
            f"{ring}: no frame to collect"
            + (f"; {found.passed_over} are not among those asked for" if found.passed_over else "")
        )
    told = {
        "kept": str(ring),
        "outbox": str(file),
        "since": "" if since is None else f"{since.isoformat()}Z",
        "only": " ".join(only),
        "lineside": _version(),
    }
    summary = write_collection(found, out, told=told)
    click.echo(format_document(summary) if as_json else _tell(summary, out))


def _places(station: Path | None, outbox: Path | None, kept: Path | None) -> tuple[Path, Path]:
    """The ring and the outbox, as the options say or the station's file."""
    if station is not None and (outbox is None or kept is None):
        from lineside.station import read_configuration

        configuration = read_configuration(station)
        outbox = outbox or configuration.outbox.path
        kept = kept or configuration.keep.path
        if kept is None:
            raise click.UsageError(f"{station} has no keep.path: no frames are kept; give --kept")
    if outbox is None or kept is None:
        raise click.UsageError("name the station's file, or give both --outbox and --kept")
    return kept, outbox


def _refuse_what_is_there(out: Path) -> None:
    try:
        # An empty folder, made by hand, is what many people give.
        there = any(out.iterdir())
    except FileNotFoundError:
        return
    except NotADirectoryError:
        there = True
    if there:
        raise click.BadParameter(
            f"{out} is there already and not empty: give another name", param_hint="--out"
        )


def _unix_ns(moment: datetime.datetime) -> int:
    return int(moment.replace(tzinfo=datetime.timezone.utc).timestamp()) * 10**9


def _version() -> str:
    import lineside

    return lineside.__version__


def _tell(found: Collected, out: Path) -> str:
    why = ", ".join(f"{count} {kind}" for kind, count in found.why.items())
    said = found.dispositions
    lines = [
        f"{out}: {found.images} image(s) of {found.parts} part(s): {why}",
        f"reviewed: {said.get('OK', 0)} OK, {said.get('NOT_OK', 0)} NOT_OK",
    ]
    notes = {
        "frame(s) are not in the journal: they have no seq and no id": found.without_row,
        "frame(s) cannot be read, and are left out; --json names them": len(found.unreadable),
        "disposition(s) are about parts of which no frame is kept": found.unused_dispositions,
        "disposition(s) cannot be read by this version": found.strange_dispositions,
        "frame(s) were not asked for": found.passed_over,
    }
    lines += [f"{count} {words}" for words, count in notes.items() if count]
    # Quoted names would read worse than they help: it is a hint.
    lines.append(
        f"next: lineside train --data {out} --group part --task classification "
        "--target disposition --out RUN"
        if len(said) == 2
        else f"next: lineside pretrain --data {out} --group part --out RUN"
    )
    return "\n".join(lines)
