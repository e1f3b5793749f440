"""``lineside measure footprint``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from lineside.cli.options import json_option
from lineside_bench.footprint.growth import measure_growth
from lineside_bench.footprint.importing import measure_imports
from lineside_bench.footprint.report import draw, tell
from lineside_bench.footprint.sizes import measure_sizes
from lineside_bench.footprint.starts import measure_choosing, measure_starts
from lineside_bench.footprint.station import measure_station
from lineside_bench.footprint.ways import list_pairs
from lineside_bench.options import out_option, quick_option, suite_argument
from lineside_bench.record import circumstances, publish
from lineside_bench.suite import Sealed, Suite, read_suite

SECTIONS: Final = ("sizes", "imports", "starts", "choosing", "station", "growth")
_MODEL: Final = "vit_tiny"
# The more frames the better, and what leaks does not depend on the model: the smallest.
_SMALL_MODEL: Final = "small_cnn"


@click.command()
@suite_argument
@click.option(
    "--only",
    type=click.Choice(SECTIONS),
    multiple=True,
    help="This part, not all of them; may be given again.",
)
@click.option("--rounds", type=click.IntRange(1), help="Of starts.  [default: 9, with --quick 3]")
@click.option(
    "--frames",
    type=click.IntRange(10),
    help="Through each engine while its memory is watched.  [default: 100,000, with --quick 3,000]",
)
@quick_option
@out_option
@json_option
def footprint(
    suite: Path,
    only: tuple[str, ...],
    rounds: int | None,
    frames: int | None,
    quick: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """What Lineside takes: bytes installed, time to start, memory, beside the bare engine's.

    Fresh processes take turns: one reads plain files with the bare engine, the other verifies a
    sealed bundle, proves the engine on its golden samples, and judges.

    Example: lineside measure footprint suite --out results
    """
    told = _Told(
        suite=read_suite(suite),
        forms=1 if quick else 2,
        rounds=rounds or (3 if quick else 9),
        frames=frames or (3_000 if quick else 100_000),
    )
    with tempfile.TemporaryDirectory(prefix="lineside-footprint-") as folder:
        found = {name: _MEASURES[name](told, Path(folder)) for name in only or SECTIONS}
    document = {**circumstances("disk, starts in seconds, memory in MB of 10^6 bytes"), **found}
    publish("footprint", document, tell(found), draw(found), out=out, as_json=as_json)


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What the command line says: ``forms`` of the model, at most."""

    suite: Suite
    forms: int
    rounds: int
    frames: int


def _sizes(_told: _Told, _work: Path) -> object:
    _say("sizes")
    return measure_sizes()


def _imports(told: _Told, work: Path) -> object:
    return measure_imports(rounds=told.rounds, home=work, say=_say)


def _starts(told: _Told, work: Path) -> object:
    models = pick(told.suite, _MODEL)[: told.forms]
    pairs = list_pairs(told.suite, models, work / "starts")
    return measure_starts(pairs, rounds=told.rounds, home=work, say=_say)


def _choosing(told: _Told, work: Path) -> object:
    pairs = list_pairs(told.suite, pick(told.suite, _MODEL)[:1], work / "choosing")
    rounds = max(1, told.rounds // 3)
    return measure_choosing(pairs[0], rounds=rounds, work=work / "choosing", say=_say)


def _station(told: _Told, work: Path) -> object:
    sealed = pick(told.suite, _MODEL)[0]
    return measure_station(told.suite, sealed, rounds=told.rounds, work=work / "station", say=_say)


def _growth(told: _Told, work: Path) -> object:
    pairs = list_pairs(told.suite, pick(told.suite, _SMALL_MODEL)[:1], work / "growth")
    plain = [pair for pair in pairs if pair.start == "plain"]
    return measure_growth(plain, frames=told.frames, home=work, say=_say)


_MEASURES: Final[dict[str, Callable[[_Told, Path], object]]] = {
    "sizes": _sizes,
    "imports": _imports,
    "starts": _starts,
    "choosing": _choosing,
    "station": _station,
    "growth": _growth,
}


def pick(suite: Suite, model: str) -> list[Sealed]:
    """All forms of a model, or of the suite's first where it has none of this name."""
    names = [sealed.model for sealed in suite.sealed]
    wanted = model if model in names else names[0]
    return [sealed for sealed in suite.sealed if sealed.model == wanted]


def _say(words: str) -> None:
    click.echo(words, err=True)
