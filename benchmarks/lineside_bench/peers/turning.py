"""Rows of the table: ways that take turns across processes, and what came of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any

import click
import numpy as np

from lineside_bench.peers.roster import Peer
from lineside_bench.peers.running import PeerFault, Runner
from lineside_bench.peers.venvs import Place
from lineside_bench.turns import Micros, clock_overhead_us, ratio, spread

REFERENCE = "torch eager"


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One way to get a value from a frame.

    Attributes:
        peer: whose.
        form: of the weights.
        threads: computing threads; ``None``: as many as the peer takes by itself.
        way: of calling it.
        runner: its process.
        values: of the images, in their order.
    """

    peer: Peer
    form: str
    threads: int | None
    way: str
    runner: Runner
    values: Sequence[float]

    @property
    def name(self) -> str:
        """Unique in a run."""
        return f"{self.title}, threads {self.threads or 'own'}"

    @property
    def title(self) -> str:
        """Of what is computed, whatever the threads."""
        way = "" if self.way == "call" else f" {self.way}"
        return f"{self.peer.name}{way} {self.form}"


def measure_in_turns(
    rows: Sequence[Row], rounds: int, settle: int, calls: int, limit_s: float = 150.0
) -> tuple[dict[str, Micros], dict[str, str]]:
    """Every row a turn of some calls each round, in an order that changes from round to round.

    Only one process works at a time: the others wait for a line.

    Args:
        rows: who takes part.
        rounds: of turns.
        settle: calls at the begin of each turn that do not count.
        calls: of a turn that count.
        limit_s: no round begins later than that: on a busy machine spinning threads make one last
            ten times as long.

    Returns:
        By row: (rounds, calls) microseconds, the clock's own cost subtracted; and by row why it
        ended before the others did.
    """
    cost_us = clock_overhead_us()
    taken: dict[str, list[Micros]] = {row.name: [] for row in rows}
    ended: dict[str, str] = {}
    order = np.random.default_rng(0)
    for number in _rounds(rounds, limit_s):
        if number % 10 == 0:
            click.echo(f"{len(rows)} ways in turns, round {number + 1} of {rounds}", err=True)
        for place in order.permutation(len(rows)):
            row = rows[place]
            if row.name in ended:
                continue
            try:
                turn = row.runner.turn(row.way, settle + number * calls, settle, calls)
            except PeerFault as fault:
                ended[row.name] = str(fault)
                continue
            taken[row.name].append(turn - cost_us)
    return {name: np.array(turns) for name, turns in taken.items() if name not in ended}, ended


def _rounds(rounds: int, limit_s: float) -> Iterator[int]:
    """The first one in any case."""
    until = monotonic() + limit_s
    for number in range(rounds):
        if number and monotonic() > until:
            return
        yield number


def reference(rows: Sequence[Row], threads: int | None) -> Row | None:
    """torch eager with this number of threads, where it could be measured."""
    for row in rows:
        if (row.peer.name, row.form, row.threads) == (REFERENCE, "fp32", threads):
            return row
    return None


def row_ratio(taken: Mapping[str, Micros], one: Row, other: Row) -> dict[str, Any]:
    """Of medians by round: calls of one turn are no chance draws of their own."""
    medians = {row.name: np.median(taken[row.name], axis=1) for row in (one, other)}
    return ratio(medians, one.name, other.name)


def row_figures(
    row: Row, taken: Mapping[str, Micros], rows: Sequence[Row], place: Place
) -> dict[str, Any]:
    """What is recorded of a row."""
    resident, peak = row.runner.memory()
    eager = reference(rows, row.threads)
    faster = None if eager is None else row_ratio(taken, eager, row)
    return {
        "name": row.name,
        "peer": row.peer.name,
        "form": row.form,
        "threads": row.threads,
        "way": row.way,
        "network": row.peer.network or "ViT-Ti",
        "told": row.runner.told,
        "latency": asdict(spread(taken[row.name].ravel())),
        "eager_over_this": faster,
        "start": asdict(row.runner.start),
        "resident_bytes": resident,
        "peak_bytes": peak,
        "own_environment": place.own,
        "distributions": place.distributions,
        "installed_bytes": place.installed_bytes,
    }
