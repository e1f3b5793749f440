"""The page of a run with several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lineside_trainer.evaluate.page import Drawing, Page, PageTable, write_page
from lineside_trainer.evaluate.spread_figures import Dots, draw_dots
from lineside_trainer.experiment import Experiment
from lineside_trainer.experiment_file import (
    encode_experiment,
)
from lineside_trainer.runs.results import PretrainSeedsResult, SeedRun, Spread, TrainSeedsResult
from lineside_trainer.runs.runfolder import REPORT
from lineside_trainer.telling.tuning_report import show_metric

TRANSDUCTIVE = (
    "Transductive: pre-training saw images that the figures below are measured on (without their "
    "targets). Such figures are not comparable with others."
)


def show_spread(spread: Spread) -> str:
    """A spread in words."""
    if spread.std is None:
        return f"{spread.mean:.4g} (one run)"
    return (
        f"{spread.mean:.4g} ± {spread.std:.2g} "
        f"({spread.runs} seeds: {spread.least:.4g} to {spread.most:.4g})"
    )


def report_train_seeds(out: Path, experiment: Experiment, result: TrainSeedsResult) -> None:
    """Write the page of a tuning.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    name = show_metric(result.metric)
    page = Page(
        title=f"{result.task.capitalize()} of {result.target}, {result.arch}: "
        f"{len(result.runs)} seeds",
        warnings=(TRANSDUCTIVE,) if result.transductive else (),
        tables=(_spread_table(result), _run_table(result), _provenance(result)),
        pictures=(_picture(result, name),),
        texts={"Settings": encode_experiment(experiment)},
    )
    write_page(out / REPORT, page)


def report_pretrain_seeds(out: Path, experiment: Experiment, result: PretrainSeedsResult) -> None:
    """Write the page of a pre-training.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    rows = tuple(
        (str(run.seed), str(run.split_seed), f"{run.validation:.4g}", *_effort(run))
        for run in result.runs
    )
    page = Page(
        title=f"Pre-training ({result.method}), {result.arch}: {len(result.runs)} seeds",
        warnings=(TRANSDUCTIVE,) if result.transductive else (),
        tables=(
            PageTable(
                heading="Each run",
                head=("seed", "split seed", f"{result.judged_by}, kept epoch", "epochs", "seconds"),
                rows=rows,
                notes=(f"over seeds: {show_spread(result.validation)}", *result.notes),
            ),
            _provenance(result),
        ),
        texts={"Settings": encode_experiment(experiment)},
    )
    write_page(out / REPORT, page)


def _spread_table(result: TrainSeedsResult) -> PageTable:
    rows = [(f"test {show_metric(name)}", s) for name, s in result.test.items()]
    rows += [
        (f"{show_metric(name)} of the {result.baseline_name}, same images", s)
        for name, s in result.baseline.items()
    ]
    rows.append((f"validation {result.judged_by}, kept epoch", result.validation))
    start = result.init or result.weights or "noise"
    better = f"{result.better_than_baseline} of {len(result.runs)}"
    return PageTable(
        heading=f"Over {len(result.runs)} seeds",
        head=("figure", "mean", "standard deviation", "least", "most"),
        rows=tuple((name, *_cells(s)) for name, s in rows),
        notes=(
            f"runs whose whole interval is better than the {result.baseline_name}: {better}",
            f"candidate: of seed {result.chosen_seed}, started from {start}",
            *result.notes,
        ),
    )


def _cells(spread: Spread) -> tuple[str, str, str, str]:
    std = "-" if spread.std is None else f"{spread.std:.2g}"
    return f"{spread.mean:.4g}", std, f"{spread.least:.4g}", f"{spread.most:.4g}"


def _run_table(result: TrainSeedsResult) -> PageTable:
    names = list(result.test)
    return PageTable(
        heading="Each run",
        head=(
            *("seed", "split seed", f"validation {result.judged_by}"),
            *(f"test {show_metric(name)}" for name in names),
            *(f"better than the {result.baseline_name}", "epochs", "seconds", "candidate"),
        ),
        rows=tuple(
            (
                *(str(run.seed), str(run.split_seed), f"{run.validation:.4g}"),
                *(f"{run.test[name]:.4g}" for name in names),
                "yes" if run.better_than_baseline else "NO",
                *_effort(run),
                "offered" if run.seed == result.chosen_seed else "",
            )
            for run in result.runs
        ),
    )


def _effort(run: SeedRun) -> tuple[str, str]:
    return str(run.epochs), f"{run.seconds:.0f}"


def _provenance(result: TrainSeedsResult | PretrainSeedsResult) -> PageTable:
    return PageTable(
        heading="Provenance",
        head=("what", "found"),
        rows=(
            ("command", result.command),
            ("machine", result.machine),
            ("parameters", f"{result.parameters:,}"),
            ("each run", ", ".join(run.folder for run in result.runs)),
        ),
    )


def _picture(result: TrainSeedsResult, name: str) -> Drawing:
    values = [run.test[result.metric] for run in result.runs]
    dots: Sequence[Dots] = (Dots(label=f"seeds {_seeds(result)}", values=tuple(values)),)
    trivial = result.baseline.get(result.metric)
    line = None if trivial is None else (result.baseline_name, trivial.mean)
    return Drawing(
        png=draw_dots(dots, title=f"test {name}", line=line),
        caption=f"Test {name} of each seed, with mean and standard deviation.",
    )


def _seeds(result: TrainSeedsResult) -> str:
    return f"{result.runs[0].seed} to {result.runs[-1].seed}"
