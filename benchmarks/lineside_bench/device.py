"""Every measurement that a device can make, one after the other, in one file to send back."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

import click

from lineside.durable import durable_file
from lineside.engines.machine import cpu_name
from lineside.errors import LinesideError
from lineside_bench.options import quick_option, suite_argument
from lineside_bench.record import circumstances
from lineside_bench.suite import read_suite

ON_DEVICE: Final = ("latency", "footprint", "line", "scaling")
_VERB: Final = "from lineside.cli.main import main; main()"


class MeasuringFault(LinesideError):
    """No measurement came to an end; each has said why."""


@click.command()
@suite_argument
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write. Default: lineside-CPU.zip, here.",
)
@quick_option
def device(suite: Path, out: Path | None, quick: bool) -> None:
    """Run every measurement that needs no trainer, and pack the results for sending back.

    Leave the machine alone meanwhile (about a quarter of an hour). One that fails is left out, with
    its words in the file, and the others go on.

    Example: lineside measure device suite
    """
    read_suite(suite)
    target = out or Path(f"lineside-{re.sub(r'[^A-Za-z0-9]+', '-', cpu_name()).strip('-')}.zip")
    with tempfile.TemporaryDirectory(prefix="lineside-measure-") as name:
        folder = Path(name)
        failed = {
            name: words for name in ON_DEVICE if (words := _run(name, suite, folder, quick=quick))
        }
        head = {**circumstances("all that a device measures of itself"), "failed": failed}
        (folder / "device.json").write_text(json.dumps(head, indent=1) + "\n", encoding="utf-8")
        _pack(folder, target)
    done = [name for name in ON_DEVICE if name not in failed]
    if not done:
        raise MeasuringFault(f"{target}: no measurement came to an end, see above")
    click.echo(
        f"{target}: {', '.join(done)}" + (f"; without {', '.join(failed)}" if failed else "")
    )


def _run(name: str, suite: Path, folder: Path, *, quick: bool) -> str:
    """Its last words where it failed; ``""`` where it did not."""
    words = ["measure", name, str(suite), "--out", str(folder), *(["--quick"] if quick else [])]
    # A process each: what one loads is not in the next one's memory.
    with subprocess.Popen(
        [sys.executable, "-c", _VERB, *words], stderr=subprocess.PIPE, text=True
    ) as running:
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
