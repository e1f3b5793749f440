"""Images a second of pre-training and tuning, beside a plain loop and another library.

Ways take turns within each round, so that a busy machine slows all of them alike; ratios are of
medians, with an interval over the rounds. How much of a step is not the network's is measured
inside Lineside's own loop.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import numpy as np

from lineside.cli.options import json_option
from lineside.cli.table import format_table
from lineside_bench.drawing import new_figure
from lineside_bench.options import out_option, quick_option
from lineside_bench.record import circumstances, publish
from lineside_bench.resampling import Values, median_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lineside_bench.subject import Amount, Way

OURS: Final = "lineside"
THEIRS: Final = "lightly"
# What lightly needs beside what the trainer has; its own pins would bring another torch.
_LIGHTLY: Final = ("lightly", "hydra-core", "omegaconf", "antlr4-python3-runtime==4.9.*")
_INSTALL_S: Final = 300.0


@click.command()
@click.option("--parts", type=click.IntRange(10), default=80, show_default=True, help="Of data.")
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--peers",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder into which another library is installed, to be measured beside.",
)
@quick_option
@out_option
@json_option
def training(
    parts: int,
    batch_size: int,
    rounds: int,
    peers: Path | None,
    quick: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure images/s of MAE, SimSiam and fine-tuning beside a plain training loop.

    With --peers, SimSiam of the same network by `lightly` too. Needs `lineside-trainer`. About six
    minutes on two cores.

    Example: lineside measure training --peers peers --out results
    """
    from lineside_bench.subject import Amount

    shown = (16, 16) if quick else (parts, batch_size)
    amount = Amount(parts=shown[0], size_px=64, batch_images=shown[1], epochs=2, seed=7)
    with tempfile.TemporaryDirectory(prefix="lineside-training-") as name:
        library, absent = _install(peers) if peers is not None else (None, "not asked for")
        rows = _measure_all(amount, 1 if quick else rounds, Path(name), library)
    found = _document(amount, rows, {THEIRS: absent} if absent else {})
    publish("training", found, _tell(found), _draw(rows), out=out, as_json=as_json)


def _document(
    amount: Amount, rows: Sequence[Mapping[str, Any]], left_out: Mapping[str, str]
) -> dict[str, Any]:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return {
        **circumstances("images a second of training, loading and augmentation included", device),
        **asdict(amount),
        "torch_threads": torch.get_num_threads(),
        "left_out": dict(left_out),
        "rows": list(rows),
    }


def _measure_all(
    amount: Amount, rounds: int, folder: Path, library: Path | None
) -> list[dict[str, Any]]:
    from lineside_bench.subject import ARCHS, write_data

    joints = write_data(folder, amount)
    return [
        measure_way(way, amount, rounds, joints, folder, library if way == "simsiam" else None)
        for way in ARCHS
    ]


def measure_way(
    way: Way, amount: Amount, rounds: int, joints: Path, folder: Path, library: Path | None
) -> dict[str, Any]:
    """A row: images/s of every loop, and how much of a step is not the network's."""
    from lineside_bench.loops import Watch, lineside_epochs, plain_epochs
    from lineside_bench.subject import ARCHS, make_subject

    subject = make_subject(way, joints, amount, folder / way)
    shares: list[float] = []

    def ours() -> float:
        watch = Watch(subject.device)
        speed = lineside_epochs(subject, watch)
        shares.append(watch.share_outside())
        return speed

    ways: dict[str, Callable[[], float]] = {OURS: ours}
    for workers in dict.fromkeys((0, os.cpu_count() or 1)):
        ways[f"plain, {workers} workers"] = partial(plain_epochs, subject, workers)
    with _lightly(library, joints, ARCHS[way], amount) as theirs:
        if theirs is not None:
            ways[THEIRS] = theirs
        figures = _in_turns(way, ways, rounds)
    return {
        "way": way,
        "arch": ARCHS[way],
        "images": len(subject.training),
        "data_sha256": subject.prepared.digest,
        "images_per_s": {name: _spread(speeds, 1) for name, speeds in figures.items()},
        "times_faster_than": _times_faster(figures),
        "not_in_network": _spread(shares, 4),
    }


def _times_faster(figures: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Ours than each of the others, of the medians."""
    ours = np.array(figures[OURS])
    return {
        name: _times(ours, np.array(speeds)) for name, speeds in figures.items() if name != OURS
    }


def _times(ours: Values, theirs: Values) -> dict[str, float]:
    low, high = median_interval(ours, theirs, np.divide)
    median = float(np.median(ours) / np.median(theirs))
    return {"median": round(median, 3), "low": round(low, 3), "high": round(high, 3)}


def _in_turns(
    way: str, ways: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds):
        # Each round another begins: who comes first has a rested machine, or a cold one.
        begin = number % len(names)
        for name in names[begin:] + names[:begin]:
            figures[name].append(ways[name]())
            told = (
                f"{way}, {name}, round {number + 1} of {rounds}: {figures[name][-1]:.1f} images/s"
            )
            click.echo(told, err=True)
    return figures


def _spread(values: Sequence[float], digits: int = 3) -> dict[str, Any]:
    rounded = [round(value, digits) for value in values]
    return {"median": round(statistics.median(values), digits), "rounds": rounded}


def _install(peers: Path) -> tuple[Path | None, str]:
    """Folder of the library, and why there is none."""
    if not (peers / THEIRS).exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        command += ["--target", str(peers), *_LIGHTLY]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_INSTALL_S, check=False
            )
        except subprocess.TimeoutExpired:
            return None, f"pip did not end within {_INSTALL_S:g} s"
        if done.returncode:
            return None, done.stderr.strip().splitlines()[-1]
    return peers, ""


@contextmanager
def _lightly(
    library: Path | None, joints: Path, arch: str, amount: Amount
) -> Iterator[Callable[[], float] | None]:
    if library is None:
        yield None
        return
    told = {
        "library": str(library),
        "images": str(joints / "images"),
        "arch": arch,
        "size_px": amount.size_px,
        "batch_images": amount.batch_images,
        "workers": os.cpu_count() or 1,
        "epochs": amount.epochs,
    }
    program = Path(__file__).parent / "peers" / "runners" / "lightly_loop.py"
    with subprocess.Popen(
        [sys.executable, str(program), json.dumps(told)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:

        def one_round() -> float:
            assert running.stdin is not None and running.stdout is not None
            running.stdin.write("round\n")
            running.stdin.flush()
            for line in running.stdout:
                if line.startswith("["):
                    return float(statistics.median(json.loads(line)[1:]))
            raise click.ClickException("lightly ended without an answer, see above")

        yield one_round


def _tell(found: Mapping[str, Any]) -> str:
    head = ("way", "network", "loop", "images/s", "Lineside is", "not in the network")
    rows = []
    for row in found["rows"]:
        for name, speeds in row["images_per_s"].items():
            times = row["times_faster_than"].get(name)
            share = f"{row['not_in_network']['median']:.1%}" if name == OURS else ""
            faster = _faster(times) if times else ""
            rows.append((row["way"], row["arch"], name, f"{speeds['median']:.1f}", faster, share))
    lines = [format_table(head, rows, right=(3,))]
    lines += [f"left out: {name}: {why}" for name, why in found["left_out"].items()]
    return "\n".join(lines)


def _faster(times: Mapping[str, float]) -> str:
    return f"{times['median']:.2f} ({times['low']:.2f} to {times['high']:.2f}) times as fast"


def _draw(rows: Sequence[Mapping[str, Any]]) -> Figure:
    figure = new_figure(10, 3.5)
    for axis, row in zip(figure.subplots(1, len(rows), squeeze=False)[0], rows, strict=True):
        names = list(row["images_per_s"])
        medians = [row["images_per_s"][name]["median"] for name in names]
        colours = ["C0" if name == OURS else "C7" for name in names]
        axis.bar(range(len(names)), medians, color=colours)
        for place, name in enumerate(names):
            dots = row["images_per_s"][name]["rounds"]
            axis.plot([place] * len(dots), dots, ".", color="black", markersize=4)
        axis.set_xticks(range(len(names)), names, rotation=20)
        axis.set(title=f"{row['way']}, {row['arch']}", ylabel="images/s")
    return figure
