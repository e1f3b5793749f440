"""A study's figures as tables: Markdown and text for people, CSV and JSON for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lineside.cli.table import format_table
from lineside.durable import write_durably
from lineside_trainer.runs.runfolder import write_document
from lineside_trainer.study.document import Line, OverSeeds, PieceFigures, StudyFigures
from lineside_trainer.study.paired import Difference

MARKDOWN: Final = "table.md"
CSV: Final = "table.csv"
JSON: Final = "study.json"

_NONE: Final = "–"
_SHOWN_TOO: Final = ("accuracy", "balanced_accuracy")


@dataclass(frozen=True, kw_only=True)
class _Column:
    head: str
    cell: Callable[[Line], str]


def write_tables(out: Path, figures: StudyFigures) -> None:
    """Write all three anew.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    write_document(out / JSON, figures)
    write_durably(out / CSV, [_csv(figures).encode()])
    write_durably(out / MARKDOWN, [_markdown(figures).encode()])


def show_table(figures: StudyFigures) -> str:
    """For a terminal: the table, then what is missing."""
    columns = _columns(figures)
    rows = [[column.cell(line) for column in columns] for line in figures.lines]
    text = format_table([c.head for c in columns], rows, right=range(1, len(columns)))
    notes = _notes(figures)
    return "\n".join([text, *(f"{label}: {note}" for label, note in notes)])


def _markdown(figures: StudyFigures) -> str:
    columns = _columns(figures)
    blocks = [
        f"# {figures.title}",
        *([figures.about] if figures.about else []),
        "\n".join(f"- {line}" for line in _how(figures)),
        _markdown_table(columns, figures.lines),
    ]
    notes = _notes(figures)
    if notes:
        blocks += ["What is not there:", "\n".join(f"- {label}: {note}" for label, note in notes)]
    validated = [line for line in figures.lines if line.validation]
    if validated:
        blocks += [
            "## Validation",
            "Choosing happens on these figures, never on those above.",
            _markdown_table(_validation_columns(figures), validated),
        ]
    return "\n\n".join(blocks) + "\n"


def _markdown_table(columns: Sequence[_Column], lines: Sequence[Line]) -> str:
    align = ["---", *["---:"] * (len(columns) - 1)]
    rows = [[_escaped(column.cell(line)) for column in columns] for line in lines]
    every = [[column.head for column in columns], align, *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in every)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


def _columns(figures: StudyFigures) -> list[_Column]:
    shares = {line.label_share for line in figures.lines}
    columns = [_Column(head="model", cell=lambda line: line.label)]
    if len(shares) > 1:
        columns.append(_Column(head="labels", cell=lambda line: f"{line.label_share:.0%}"))
    columns += [
        _Column(head="params", cell=_parameters),
        _Column(head=f"test {_words(figures.metric)}", cell=lambda line: show_spread(line.test)),
        *_other_columns(figures),
        _Column(
            head=f"÷ {figures.baseline_name}",
            cell=lambda line: show_spread(line.ratio, digits=3),
        ),
        _Column(head="Δ to best", cell=_to_best),
    ]
    if figures.reference:
        columns.append(
            _Column(
                head=f"less {_reference(figures)} (95 %)",
                cell=lambda line: _difference(line.to_reference),
            )
        )
    return [*columns, _Column(head="minutes", cell=_minutes), _Column(head="seeds", cell=_seeds)]


def _words(metric: str) -> str:
    return metric.replace("_", " ")


def _other_columns(figures: StudyFigures) -> list[_Column]:
    """Accuracies, where the task has them; all metrics are in `study.json`."""
    known = {name for line in figures.lines for name in line.others}
    return [_other_column(name) for name in _SHOWN_TOO if name in known]


def _other_column(name: str) -> _Column:
    return _Column(
        head=_words(name), cell=lambda line: show_spread(line.others.get(name), digits=3)
    )


def _validation_columns(figures: StudyFigures) -> list[_Column]:
    shares = {line.label_share for line in figures.lines}
    columns = [_Column(head="model", cell=lambda line: line.label)]
    if len(shares) > 1:
        columns.append(_Column(head="labels", cell=lambda line: f"{line.label_share:.0%}"))
    return [
        *columns,
        _Column(
            head=f"validation {_words(figures.metric)}",
            cell=lambda line: show_spread(line.validation),
        ),
    ]


def _reference(figures: StudyFigures) -> str:
    labels = [line.label for line in figures.lines if line.name == figures.reference]
    return labels[0] if labels else figures.reference


def show_spread(spread: OverSeeds | None, digits: int = 4) -> str:
    """Mean ± deviation over seeds."""
    if spread is None:
        return _NONE
    if spread.std is None:
        return f"{spread.mean:.{digits}f}"
    return f"{spread.mean:.{digits}f} ± {spread.std:.{digits}f}"


def _parameters(line: Line) -> str:
    if not line.parameters:
        return _NONE
    # A linear probe trains some thousands.
    if line.parameters < 100_000:
        return f"{line.parameters / 1e3:.1f} k"
    return f"{line.parameters / 1e6:.1f} M"


def _to_best(line: Line) -> str:
    if line.to_best_percent is None:
        return _NONE
    return f"{line.to_best_percent:.1f} %"


def _difference(found: Difference | None) -> str:
    if found is None:
        return _NONE
    star = "" if found.drawn_by == "part" else f" by {found.drawn_by}"
    return f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f}{star})"


def _minutes(line: Line) -> str:
    if not line.seeds:
        return _NONE
    if not line.pretraining_minutes:
        return f"{line.tuning_minutes:.1f}"
    return f"{line.pretraining_minutes:.1f} + {line.tuning_minutes:.1f}"


def _seeds(line: Line) -> str:
    return str(len(line.seeds))


def _notes(figures: StudyFigures) -> list[tuple[str, str]]:
    several = len({line.label_share for line in figures.lines}) > 1
    return [
        (f"{line.label}, {line.label_share:.0%} of the labels" if several else line.label, note)
        for line in figures.lines
        for note in [line.note]
        if note
    ]


def _how(figures: StudyFigures) -> list[str]:
    done = [piece for piece in figures.pieces if piece.state == "done"]
    seeds = ", ".join(map(str, figures.seeds))
    paired = ", ".join(map(str, figures.split_seeds))
    lines = [
        f"Seeds {seeds}"
        + (f", split by seeds {paired}" if paired else ", one split")
        + "; mean ± standard deviation over seeds. Minutes: pre-training + tuning of one seed.",
    ]
    if figures.epochs_factor != 1.0:
        lines.append(f"TRIAL: all epochs were multiplied by {figures.epochs_factor:g}.")
    if any(piece.transductive for piece in done):
        lines.append("TRANSDUCTIVE: some rows' pre-training saw images that they are judged on.")
    lines += _drawn(figures)
    lines += _facts(done)
    return [*lines, f"Command: `{figures.command}`"]


def _drawn(figures: StudyFigures) -> list[str]:
    found = [line.to_reference for line in figures.lines if line.to_reference]
    if not found:
        return []
    by = ", ".join(dict.fromkeys(f"{one.drawn} {one.drawn_by}s" for one in found))
    words = (
        "Differences to the reference are paired by test image; their 95 % bootstrap intervals "
        f"draw {by}, seeds together."
    )
    if any(one.drawn_by == "image" for one in found):
        words += " Drawn by image, as parts are few, they leave out how parts differ."
    return [words]


def _facts(done: Sequence[PieceFigures]) -> list[str]:
    hashes = sorted({p.data_sha256[:12] for p in done if p.kind == "train"})
    machines = sorted({p.machine for p in done if p.kind != "trivial"})
    precisions = sorted({p.precision for p in done if p.precision})
    versions = sorted({f"torch {p.versions['torch']}" for p in done if "torch" in p.versions})
    lines = []
    if hashes:
        lines.append(f"Data and split, SHA-256 of each split: {', '.join(hashes)}.")
    if machines:
        where = "; ".join(machines)
        lines.append(f"Machine: {where}; {', '.join(precisions)}; {', '.join(versions)}.")
    return lines


def _csv(figures: StudyFigures) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            *("name", "label", "label_share", "parameters", "metric"),
            *("test_mean", "test_std", "ratio_mean", "ratio_std", "to_best_percent"),
            *("difference", "difference_low", "difference_high", "difference_drawn_by"),
            *("validation_mean", "validation_std", "pretraining_minutes", "tuning_minutes"),
            *("seeds", "test_by_seed", "note"),
        ]
    )
    for line in figures.lines:
        writer.writerow(_csv_row(figures.metric, line))
    return text.getvalue()


def _csv_row(metric: str, line: Line) -> list[object]:
    found = line.to_reference
    difference = [found.value, found.low, found.high, found.drawn_by] if found else [""] * 4
    return [
        *(line.name, line.label, line.label_share, line.parameters, metric),
        *(*_two(line.test), *_two(line.ratio), _blank(line.to_best_percent)),
        *difference,
        *(*_two(line.validation), line.pretraining_minutes, line.tuning_minutes),
        " ".join(map(str, line.seeds)),
        " ".join(f"{value:.6g}" for value in line.test.values) if line.test else "",
        line.note,
    ]


def _two(spread: OverSeeds | None) -> tuple[object, object]:
    return (spread.mean, _blank(spread.std)) if spread else ("", "")


def _blank(value: float | None) -> object:
    return "" if value is None else value
