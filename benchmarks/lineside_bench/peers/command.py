"""`lineside measure peers`: everybody opened, then turn by turn."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from lineside.cli.options import json_option
from lineside.engines.machine import usable_cores
from lineside_bench.options import out_option, quick_option, suite_argument
from lineside_bench.peers.figures import compare_values, targets
from lineside_bench.peers.files import PeerFiles, lay_out
from lineside_bench.peers.roster import CANNOT, PEERS, RUNNERS, Peer
from lineside_bench.peers.runners.serve import Job
from lineside_bench.peers.running import PeerFault, Runner
from lineside_bench.peers.showing import draw, show
from lineside_bench.peers.turning import Row, measure_in_turns, row_figures
from lineside_bench.peers.venvs import Place, find_present, make_place, quiet_environment
from lineside_bench.record import circumstances, publish
from lineside_bench.suite import read_suite

_PREPARE_LIMIT_S: Final = 300.0
_ROUNDS: Final = (30, 8)
"""Of a full run and of a look."""
_CALLS: Final = 10
_SETTLING: Final = 3
"""Calls at the begin of a turn that do not count: the caches are still the one's before."""


@click.command()
@suite_argument
@quick_option
@out_option
@json_option
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the peers' environments here for the next time (about 20 GB); else they go.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="The same for all; each is measured with its own default too.  [default: all cores]",
)
@click.option(
    "--only", multiple=True, metavar="NAME", help="Only peers with this in their name; repeatable."
)
@click.option(
    "--install-timeout",
    type=click.FloatRange(1),
    default=1200,
    show_default=True,
    help="Seconds for pip, each peer.",
)
def peers(
    suite: Path,
    quick: bool,
    out: Path | None,
    as_json: bool,
    work: Path | None,
    threads: int | None,
    only: tuple[str, ...],
    install_timeout: float,
) -> None:
    """The same ViT-Ti and images in other people's runtimes, in turns.

    Each peer is installed with pip into an environment of its own, as its documentation advises,
    and runs in a process of its own that waits while others work. Who cannot load the ViT-Ti is
    measured with a network of its own, and named so. With --quick only what the present
    environment holds is measured, and nothing is installed.

    Example: lineside measure peers suite --work environments --out results
    """
    threads = threads or usable_cores()
    wanted = [peer for peer in PEERS if not only or any(word in peer.name for word in only)]
    with _folder(work) as room, tempfile.TemporaryDirectory(prefix="peers-") as scratch:
        places, left_out = _find_places(wanted, None if quick else room, install_timeout)
        files = lay_out(read_suite(suite), Path(scratch))
        with contextlib.ExitStack() as running:
            tried = (threads,) if quick else (None, threads)
            rows = _open_all(places, files, tried, left_out, running)
            taken, ended = measure_in_turns(rows, _ROUNDS[quick], _SETTLING, _CALLS)
            left_out |= ended
            rows = [row for row in rows if row.name in taken]
            found = _document(rows, places, left_out, threads, taken)
    publish("peers", found, show(found), draw(found), out=out, as_json=as_json)


@contextlib.contextmanager
def _folder(work: Path | None) -> Iterator[Path]:
    if work is None:
        with tempfile.TemporaryDirectory(prefix="peers-venvs-") as made:
            yield Path(made)
    else:
        work.mkdir(parents=True, exist_ok=True)
        yield work.absolute()


def _find_places(
    wanted: list[Peer], room: Path | None, timeout_s: float
) -> tuple[dict[Peer, Place], dict[str, str]]:
    places: dict[Peer, Place] = {}
    left_out = dict(CANNOT)
    for peer in wanted:
        place = find_present(peer) if room is None else make_place(peer, room, timeout_s)
        if isinstance(place, str):
            left_out[peer.name] = place
            continue
        places[peer] = place
        if peer.missing:
            left_out[f"{peer.name}, int8"] = peer.missing
    return places, left_out


def _open_all(
    places: dict[Peer, Place],
    files: PeerFiles,
    threads: tuple[int | None, ...],
    left_out: dict[str, str],
    running: contextlib.ExitStack,
) -> list[Row]:
    """Each peer in each form with each number of threads; who fails is left out, with the reason.

    The first start of several warms the disk's cache for the last, whose figures are shown.
    """
    rows: list[Row] = []
    for peer, place in places.items():
        for form in peer.forms:
            try:
                for chosen in threads:
                    click.echo(f"starting {peer.name} {form}, threads {chosen or 'own'}", err=True)
                    runner = _start(peer, place, form, chosen, files)
                    running.enter_context(runner)
                    rows += _rows_of(runner, peer, form, chosen)
            except PeerFault as fault:
                left_out[f"{peer.name}, {form}"] = str(fault)
    return rows


def _rows_of(runner: Runner, peer: Peer, form: str, threads: int | None) -> list[Row]:
    values = runner.values()
    return [
        Row(peer=peer, form=form, threads=threads, way=way, runner=runner, values=values[way])
        for way in runner.ways
    ]


def _start(peer: Peer, place: Place, form: str, threads: int | None, files: PeerFiles) -> Runner:
    model = _prepare(peer, place, files) if peer.prepare else files.model(peer, form)
    job = Job(
        runner=str(RUNNERS / peer.runner),
        images=str(files.images),
        model=str(model),
        engine=peer.engine,
        form=form,
        arithmetic=peer.arithmetic,
        pinned=peer.pinned,
        key=str(files.key),
        threads=threads,
    )
    return Runner(place, job, files.fresh(peer.name))


def _prepare(peer: Peer, place: Place, files: PeerFiles) -> Path:
    """The peer's own network, made once a run."""
    made = files.folder / "own" / peer.name
    model = made / peer.prepared
    if model.exists():
        return model
    made.mkdir(parents=True, exist_ok=True)
    words = [str(place.python), str(RUNNERS / peer.prepare), str(files.images), str(made)]
    try:
        done = subprocess.run(
            words,
            cwd=made,
            env=quiet_environment(place, made),
            capture_output=True,
            text=True,
            check=False,
            timeout=_PREPARE_LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise PeerFault(f"its own network was not made within {_PREPARE_LIMIT_S:.0f} s") from error
    if done.returncode or not model.exists():
        told = [line for line in done.stderr.splitlines() if line.strip()]
        raise PeerFault(f"its own network was not made: {told[-1][:200] if told else '?'}")
    return model


def _document(
    rows: list[Row],
    places: dict[Peer, Place],
    left_out: dict[str, str],
    threads: int,
    taken: dict[str, np.ndarray[Any, np.dtype[np.float64]]],
) -> dict[str, Any]:
    head = circumstances("one frame to its value: durations in us, ratios beside torch eager fp32")
    return head | {
        "threads": threads,
        "rows": [row_figures(row, taken, rows, places[row.peer]) for row in rows],
        "values": compare_values(rows),
        "targets": targets(rows, taken, threads),
        "left_out": left_out,
    }
