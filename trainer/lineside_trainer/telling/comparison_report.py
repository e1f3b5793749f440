"""How a comparison is shown: tables for a terminal, a document for programs, a page for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from lineside_trainer.evaluate.page import Drawing, Page, PageTable, write_page
from lineside_trainer.evaluate.spread_figures import Dots, draw_dots
from lineside_trainer.runs.provenance import command
from lineside_trainer.runs.results import Figure, Spread
from lineside_trainer.telling.comparison import ComparedRun, Comparison, Paired
from lineside_trainer.telling.seeds_report import TRANSDUCTIVE, show_spread
from lineside_trainer.telling.tuning_report import show_figure, show_metric

_NONE: Final = "-"
_READING: Final = (
    "a difference is of the metric on the same test images, seed by seed; its interval draws parts "
    "(images where parts are few) and leaves out how trainings differ by their seed: that takes "
    "--seeds. Of twenty comparisons without any difference, one ends in a verdict all the same"
)


def comparison_tables(comparison: Comparison) -> tuple[PageTable, ...]:
    """Settings that differ, figures, and differences; empty ones are left out."""
    tables = (
        _settings_table(comparison),
        _figures_table(comparison),
        _paired_table(comparison.paired),
    )
    return tuple(table for table in tables if table.rows)


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """For programs: plain values."""
    return {
        "runs": [_run_document(run) for run in comparison.runs],
        "settings": {path: list(values) for path, values in comparison.settings.items()},
        "paired": msgspec.to_builtins(comparison.paired),
        "command": command(),
    }


def write_comparison(path: Path, comparison: Comparison) -> None:
    """The page, with a plot of the first run's primary metric.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    names = [run.name for run in comparison.runs]
    seen = any(tested.result.run.transductive for run in comparison.runs for tested in run.seeds)
    page = Page(
        title=f"{', '.join(names[1:])} against {names[0]}",
        warnings=(TRANSDUCTIVE,) if seen else (),
        tables=comparison_tables(comparison),
        pictures=(_picture(comparison),),
        texts={"Command": command()},
    )
    write_page(path, page)


def _run_document(run: ComparedRun) -> dict[str, Any]:
    return {
        "name": run.name,
        "folder": str(run.folder),
        "metric": run.result.metric,
        "test": msgspec.to_builtins(run.test),
        "baseline": msgspec.to_builtins(run.baseline),
        "seeds": [tested.result.run.seed for tested in run.seeds],
        "split_seeds": [tested.result.run.split_seed for tested in run.seeds],
        "validation": [tested.result.run.validation.best for tested in run.seeds],
        "judged_by": run.result.judged_by,
        "parameters": run.result.run.parameters,
        "epochs": [tested.result.run.epochs for tested in run.seeds],
        "seconds": [tested.result.run.seconds for tested in run.seeds],
        "training_images": [_training(tested.result.run.counts) for tested in run.seeds],
        "transductive": run.result.run.transductive,
    }


def _settings_table(comparison: Comparison) -> PageTable:
    return PageTable(
        heading="Settings that differ",
        head=("setting", *(run.name for run in comparison.runs)),
        rows=tuple(
            (path, *(_NONE if value is None else _value(value) for value in values))
            for path, values in comparison.settings.items()
        ),
    )


def _value(value: object) -> str:
    return '""' if value == "" else str(value)


def _figures_table(comparison: Comparison) -> PageTable:
    runs = comparison.runs
    metrics = dict.fromkeys(name for run in runs for name in run.test)
    rows = [
        (f"test {show_metric(name)}", *(_show(run.test.get(name)) for run in runs))
        for name in metrics
    ]
    primary = dict.fromkeys(run.result.metric for run in runs)
    rows += [
        (f"{show_metric(name)} of the trivial predictor", *(_trivial(run, name) for run in runs))
        for name in primary
    ]
    rows += [
        ("validation, kept epoch", *(_validation(run) for run in runs)),
        ("trained parameters", *(f"{run.result.run.parameters:,}" for run in runs)),
        (
            "training images",
            *(_list(_training(t.result.run.counts) for t in run.seeds) for run in runs),
        ),
        ("epochs", *(_list(t.result.run.epochs for t in run.seeds) for run in runs)),
        ("seconds", *(_list(round(t.result.run.seconds) for t in run.seeds) for run in runs)),
        ("started from", *(_start(run) for run in runs)),
        ("transductive", *("YES" if run.result.run.transductive else "no" for run in runs)),
    ]
    return PageTable(
        heading="Figures", head=("figure", *(run.name for run in runs)), rows=tuple(rows)
    )


def _show(figure: Figure | Spread | None) -> str:
    if figure is None:
        return _NONE
    return show_spread(figure) if isinstance(figure, Spread) else show_figure(figure)


def _trivial(run: ComparedRun, metric: str) -> str:
    figure = run.baseline.get(metric)
    if figure is None:
        return _NONE
    return f"{_middle(figure):.4g} ({run.result.baseline_name})"


def _middle(figure: Figure | Spread) -> float:
    return figure.mean if isinstance(figure, Spread) else figure.value


def _validation(run: ComparedRun) -> str:
    if run.several:
        return f"{run.result.judged_by} {show_spread(run.several.validation)}"
    return f"{run.result.judged_by} {run.result.run.validation.best:.4g}"


def _start(run: ComparedRun) -> str:
    above = run.several or run.result
    return above.init or above.weights or "noise"


def _training(counts: dict[str, int]) -> int:
    return counts["training"]


def _list(values: Any) -> str:
    """Each seed's, once where all have the same."""
    return ", ".join(dict.fromkeys(str(value) for value in values))


def _paired_table(paired: tuple[Paired, ...]) -> PageTable:
    return PageTable(
        heading=f"Against {paired[0].against}",
        head=("run", "difference", "interval", "images", "verdict"),
        rows=tuple(_paired_row(one) for one in paired),
        notes=(_READING,),
    )


def _paired_row(one: Paired) -> tuple[str, ...]:
    found = one.difference
    if found is None:
        return one.run, _NONE, _NONE, _NONE, one.why_not
    seeds = f" of {found.seeds} seeds" if found.seeds > 1 else ""
    return (
        one.run,
        f"{show_metric(one.metric)} {found.value:+.4g}",
        f"{found.low:+.4g} to {found.high:+.4g} ({found.confidence:.0%})",
        f"{found.drawn} {found.drawn_by}s drawn{seeds}",
        one.verdict,
    )


def _picture(comparison: Comparison) -> Drawing:
    first = comparison.runs[0].result
    shown = [run for run in comparison.runs if first.metric in run.test]
    trivial = comparison.runs[0].baseline.get(first.metric)
    line = None if trivial is None else (first.baseline_name, _middle(trivial))
    name = show_metric(first.metric)
    return Drawing(
        png=draw_dots([_dots(run, first.metric) for run in shown], title=f"test {name}", line=line),
        caption=(
            f"Test {name}: of one run with its interval, of several seeds with mean and standard "
            "deviation."
        ),
    )


def _dots(run: ComparedRun, metric: str) -> Dots:
    figures = [tested.result.test[metric] for tested in run.seeds if metric in tested.result.test]
    values = tuple(figure.value for figure in figures)
    low, high = figures[0].low, figures[0].high
    if len(values) > 1 or low is None or high is None:
        return Dots(label=run.name, values=values)
    return Dots(label=run.name, values=values, interval=(low, high))
