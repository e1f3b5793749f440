"""What every recorded figure carries with it (command, date, machine, load, versions), and where
it is kept."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from lineside.cli.document import format_document
from lineside.durable import make_folder, write_durably
from lineside.engines.machine import cpu_flags, cpu_name, usable_cores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DISTRIBUTIONS: Final = (
    *("lineside", "lineside-trainer", "lineside-export", "lineside-bridge"),
    *("onnxruntime", "openvino", "torch", "timm", "lightning", "numpy"),
    *("opencv-python-headless", "paho-mqtt"),
)


def circumstances(what: str, device: str = "cpu") -> dict[str, Any]:
    """The head of a recorded document.

    Args:
        what: was measured, in words with units.
        device: ``cpu``, or ``cuda`` for figures of a GPU.
    """
    return {
        "what": what,
        "command": command(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(device),
        "cpu_flags": list(cpu_flags()),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "versions": versions(),
    }


def machine(device: str = "cpu") -> str:
    """In words, for people."""
    cpu = f"{cpu_name()}, {usable_cores()} usable of {os.cpu_count()} cores"
    if device != "cuda":
        return cpu
    import torch

    return f"{torch.cuda.get_device_name()}, {cpu}"


def versions() -> dict[str, str]:
    """Of everything installed here that decides a figure."""
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def command() -> str:
    """What was typed, as it can be typed again; paths of this machine reduced to their names."""
    script, *words = sys.argv
    name = Path(script).name
    begun = f"python benchmarks/{name}" if name.endswith(".py") else "lineside"
    told = (Path(word).name if Path(word).is_absolute() else word for word in words)
    return " ".join([begun, shlex.join(told)]).strip()


def keep(path: Path, found: Mapping[str, Any]) -> None:
    """Write a document whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    make_folder(path.parent)
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    write_durably(path, [text.encode("utf-8")])


def publish(
    name: str,
    found: Mapping[str, Any],
    table: str,
    figure: Figure | None,
    *,
    out: Path | None,
    as_json: bool,
) -> None:
    """Print a measurement, and keep it as ``OUT/name.json`` and ``OUT/name.png``.

    Args:
        name: of the measurement.
        found: what is recorded, `circumstances` at its head.
        table: the same for people.
        figure: its picture; ``None`` where there is none.
        out: folder; ``None`` keeps nothing.
        as_json: print the document in place of the table.
    """
    if out is not None:
        keep(out / f"{name}.json", found)
        if figure is not None:
            from lineside_bench.drawing import save_figure

            save_figure(figure, out / f"{name}.png")
    click.echo(format_document(found) if as_json else table)
    if out is not None:
        click.echo(f"kept: {out / name}.json" + (" and .png" if figure else ""), err=True)
