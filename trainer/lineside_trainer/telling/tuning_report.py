"""The report of a tuning run."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lineside.durable import make_folder, write_durably
from lineside_trainer.candidate import CandidateCheck
from lineside_trainer.errors import TrainerError
from lineside_trainer.evaluate.figures import draw_curves
from lineside_trainer.evaluate.report import Picture, Report, write_report
from lineside_trainer.experiment import Experiment
from lineside_trainer.experiment_file import (
    encode_experiment,
)
from lineside_trainer.learning.fit import FitResult
from lineside_trainer.runs.results import Figure, PretrainResult, TrainResult
from lineside_trainer.runs.runfolder import FIGURES, REPORT, RESULT, read_document
from lineside_trainer.telling.pretraining_report import CURVES, EXAMPLES

_IN_WORDS: Final = {"mse": "MSE", "mae": "MAE", "auroc": "AUROC", "f1": "F1"}


def report_tuning(
    out: Path,
    experiment: Experiment,
    result: TrainResult,
    fitted: FitResult,
    pictures: tuple[Picture, ...],
    check: CandidateCheck,
    more: dict[str, dict[str, str]],
) -> None:
    """Draw the figures and write the page.

    Args:
        out: the run's folder.
        experiment: all settings.
        result: what the page says.
        fitted: the curves.
        pictures: of the test samples, first on the page.
        check: of the exported program.
        more: further tables by heading.

    Raises:
        StorageError: the disk is full, read-only or gone.
        TrainerError: the figures of the pre-training cannot be read any more.
    """
    make_folder(out / FIGURES)
    curves = out / FIGURES / CURVES
    draw_curves(curves, fitted.rows, best_epoch=fitted.best_epoch, validation=result.judged_by)
    report = Report(
        title=f"{result.task.capitalize()} of {result.target}, {result.arch}",
        figures=_first_table(result),
        pictures=(
            *pictures,
            Picture(file=curves, caption="Losses over epochs."),
            *pretraining_pictures(out / FIGURES, result.init),
        ),
        run=result.run,
        experiment=encode_experiment(experiment),
        more=_more_tables(result, check) | more,
    )
    write_report(out / REPORT, report)


def _first_table(result: TrainResult) -> dict[str, str]:
    run, trivial = result.run, result.baseline_name
    return {
        **{f"test {show_metric(name)}": show_figure(f) for name, f in result.test.items()},
        **{
            f"{show_metric(name)} of the {trivial}, same images": show_figure(figure)
            for name, figure in result.baseline.items()
        },
        f"{show_metric(result.metric)}: interval is better than the {trivial}": (
            "yes" if result.better_than_baseline else "NO"
        ),
        "training loss, first to last epoch": (
            f"{run.training_loss.first:.4g} → {run.training_loss.last:.4g}"
        ),
        f"validation {result.judged_by}, best epoch": (
            f"{run.validation.best:.4g} (epoch {run.validation.best_epoch + 1} of {run.epochs})"
        ),
        "started from": result.init or "noise",
        **_forerunners(result),
    }


def _forerunners(result: TrainResult) -> dict[str, str]:
    earlier = {"teacher": result.teacher, "slimmed from": result.slimmed_from}
    return {
        name: f"{run.run}, {run.arch}, {run.parameters / 1e6:.3g} M parameters, test "
        f"{show_metric(run.metric)} {run.test:.4g}, SHA-256 {run.sha256[:16]}…"
        for name, run in earlier.items()
        if run
    }


def tell_candidate(check: CandidateCheck) -> dict[str, dict[str, str]]:
    """How the exported program compares with the network, as a table."""
    told = (
        f"differ by {check.max_abs_difference:.3g} at most on {check.samples} validation "
        f"images (tolerance {check.tolerance_abs:.3g})"
    )
    return {"Candidate": {"program against network": told}}


def _more_tables(result: TrainResult, check: CandidateCheck) -> dict[str, dict[str, str]]:
    tables = tell_candidate(check)
    if result.test_by_part:
        heading = f"Test {show_metric(result.metric)} by part"
        tables[heading] = {part: f"{value:.4g}" for part, value in result.test_by_part.items()}
    return tables


def pretraining_pictures(figures: Path, init: str) -> tuple[Picture, ...]:
    """What the report of a run's pre-training shows: copies, so that this run's folder can be sent
    away alone; none where it started from noise.

    Raises:
        TrainerError: they cannot be read any more.
    """
    if not init:
        return ()
    before = read_document(Path(init) / RESULT, PretrainResult)
    captions = {
        CURVES: f"Pre-training ({before.method}): losses over {before.run.epochs} epochs.",
        EXAMPLES: f"Pre-training ({before.method}): examples.",
    }
    pictures = []
    for name, caption in captions.items():
        source = Path(init) / FIGURES / name
        if source.exists():
            copy = figures / f"pretraining_{name}"
            write_durably(copy, [_read_picture(source)])
            pictures.append(Picture(file=copy, caption=caption))
    return tuple(pictures)


def _read_picture(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TrainerError(f"{path}: {error.strerror}; needed for the report") from error


def show_metric(name: str) -> str:
    """What people call a metric of `result.json`."""
    kind, _, of = name.partition(":")
    words = _IN_WORDS.get(kind, kind.replace("_", " "))
    return f"{words} of {of}" if of else words


def show_figure(figure: Figure) -> str:
    """A figure with its interval, in words."""
    if figure.low is None or figure.high is None:
        return f"{figure.value:.4g} (no interval: one {figure.drawn_by})"
    return (
        f"{figure.value:.4g} ({figure.confidence:.0%} interval by {figure.drawn_by}: "
        f"{figure.low:.4g} to {figure.high:.4g})"
    )
