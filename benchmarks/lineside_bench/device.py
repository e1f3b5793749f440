"""Every measurement that a device can make, one after the other, in one file to send back."""

from __future__ import annotations

import re
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Final

import click

from lineside.durable import durable_file, make_folder
from lineside.engines.machine import cpu_name
from lineside.errors import LinesideError, StorageError
from lineside_bench.options import quick_option, suite_argument
from lineside_bench.record import circumstances, keep
from lineside_bench.suite import SIDES_FOLDER, Suite, read_suite
from lineside_bench.verb import verb_command

ON_DEVICE: Final = ("latency", "footprint", "line", "scaling")


class MeasuringFault(LinesideError):
    """No measurement came to an end; each has said why."""


@click.command()
@suite_argument
@click.option(
    "--only",
    type=click.Choice(ON_DEVICE),
    multiple=True,
    help="This measurement, not all of them; may be given again.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write. Default: lineside-CPU.zip, here.",
)
@quick_option
def device(suite: Path, only: tuple[str, ...], out: Path | None, quick: bool) -> None:
    """Run every measurement that needs no trainer, and pack the results for sending back.

    Leave the machine alone meanwhile (about a quarter of an hour). One that fails is left out, with
    its words in the file, and the others go on.

    Example: lineside measure device suite
    """
    target = out or Path(f"lineside-{re.sub(r'[^A-Za-z0-9]+', '-', cpu_name()).strip('-')}.zip")
    _check_whole(read_suite(suite))
    _check_writable(target)
    asked = [name for name in ON_DEVICE if not only or name in only]
    with tempfile.TemporaryDirectory(prefix="lineside-measure-") as name:
        folder = Path(name)
        failed = {
            name: words for name in asked if (words := _run(name, suite, folder, quick=quick))
        }
        head = circumstances("all that a device measures of itself")
        keep(folder / "device.json", {**head, "failed": failed})
        _pack(folder, target)
    done = [name for name in asked if name not in failed]
    if not done:
        raise MeasuringFault(f"{target}: no measurement came to an end, see above")
    click.echo(
        f"{target}: {', '.join(done)}" + (f"; without {', '.join(failed)}" if failed else "")
    )


def _check_whole(suite: Suite) -> None:
    """A copy that was cut short is told now, not by each measurement in its turn."""
    sides = suite.folder / SIDES_FOLDER
    for held in (suite, read_suite(sides)) if sides.exists() else (suite,):
        for one in held.sealed:
            held.open(one).close()


def _check_writable(target: Path) -> None:
    """What cannot be kept need not be measured for a quarter of an hour."""
    make_folder(target.parent)
    try:
        with tempfile.TemporaryFile(dir=target.parent) as trial:
            trial.write(b"0")
    except OSError as error:
        raise StorageError(f"{target}: cannot be written: {error.strerror}") from error


def _run(name: str, suite: Path, folder: Path, *, quick: bool) -> str:
    """Its last words where it failed; ``""`` where it did not."""
    shortly = ("--quick",) if quick else ()
    command = verb_command("measure", name, suite, "--out", folder, *shortly)
    # A process each: what one loads is not in the next one's memory.
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        last = ""
        for line in running.stderr:  # at once: one takes minutes, and somebody looks on
            click.echo(line, nl=False, err=True)
            last = line.strip() or last
    return (last or f"exit code {running.returncode}") if running.returncode else ""


def _pack(folder: Path, target: Path) -> None:
    with durable_file(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
