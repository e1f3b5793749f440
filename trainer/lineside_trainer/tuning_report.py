"""The report of a tuning run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lineside.durable import write_durably
from lineside_trainer.candidate import CandidateCheck
from lineside_trainer.errors import TrainerError
from lineside_trainer.evaluate.figures import draw_curves, draw_predictions, draw_residuals
from lineside_trainer.evaluate.judgement import Judgement
from lineside_trainer.evaluate.report import Picture, Report, write_report
from lineside_trainer.experiment import Experiment, encode_experiment
from lineside_trainer.fit import FitResult
from lineside_trainer.pretraining_report import CURVES, RECONSTRUCTIONS
from lineside_trainer.results import Figure, PretrainResult, TrainResult
from lineside_trainer.runfolder import FIGURES, REPORT, RESULT, make_folder, read_document


@dataclass(frozen=True, kw_only=True)
class Tested:
    """On the test samples.

    Attributes:
        targets: (N,) in the target's unit.
        predicted: (N,) likewise.
        mean: of the training targets, what the mean predictor says.
        judgement: the errors.
    """

    targets: NDArray[np.float64]
    predicted: NDArray[np.float64]
    mean: float
    judgement: Judgement


def report_tuning(
    out: Path,
    experiment: Experiment,
    result: TrainResult,
    fitted: FitResult,
    tested: Tested,
    check: CandidateCheck,
) -> None:
    """Draw the figures and write the page.

    Args:
        out: the run's folder.
        experiment: all settings.
        result: what the page says.
        fitted: the curves.
        tested: the predictions.
        check: of the exported program.

    Raises:
        StorageError: the disk is full, read-only or gone.
        TrainerError: the figures of the pre-training cannot be read any more.
    """
    make_folder(out / FIGURES)
    unit = "" if result.unit == "1" else f" [{result.unit}]"
    name = f"{result.target}{unit}"
    report = Report(
        title=f"{result.task.capitalize()} of {result.target}, {result.arch}",
        figures=_first_table(result),
        pictures=(
            *_own_pictures(out / FIGURES, fitted, tested, name),
            *_pretraining_pictures(out / FIGURES, result.init),
        ),
        run=result.run,
        experiment=encode_experiment(experiment),
        more=_more_tables(result, check),
    )
    write_report(out / REPORT, report)


def _first_table(result: TrainResult) -> dict[str, str]:
    run = result.run
    return {
        "test MSE": show_figure(result.test_mse),
        "mean predictor's MSE on the same images": show_figure(result.mean_predictor_mse),
        "interval lies below the mean predictor": "yes" if result.below_mean_predictor else "NO",
        "training loss, first to last epoch": (
            f"{run.training_loss.first:.4g} → {run.training_loss.last:.4g}"
        ),
        "validation MSE, best epoch": (
            f"{run.validation.best:.4g} (epoch {run.validation.best_epoch + 1} of {run.epochs})"
        ),
        "started from": result.init or "noise",
    }


def _more_tables(result: TrainResult, check: CandidateCheck) -> dict[str, dict[str, str]]:
    tables = {
        "Candidate": {
            "program against network": (
                f"differ by {check.max_abs_difference:.3g} at most on {check.samples} validation "
                f"images (tolerance {check.tolerance_abs:.3g})"
            )
        }
    }
    if result.test_mse_by_part:
        parts = result.test_mse_by_part
        tables["Test MSE by part"] = {part: f"{mse:.4g}" for part, mse in parts.items()}
    return tables


def _own_pictures(
    figures: Path, fitted: FitResult, tested: Tested, name: str
) -> tuple[Picture, ...]:
    curves, predictions = figures / CURVES, figures / "predictions.png"
    residuals = figures / "residuals.png"
    draw_curves(curves, fitted.rows, best_epoch=fitted.best_epoch, validation="MSE")
    draw_predictions(predictions, tested.targets, tested.predicted, name=name)
    draw_residuals(residuals, tested.targets, tested.predicted, name=name)
    return (
        Picture(file=predictions, caption="Predicted against true on the test samples."),
        Picture(file=residuals, caption="Residuals on the test samples."),
        Picture(file=curves, caption="Losses over epochs."),
    )


def _pretraining_pictures(figures: Path, init: str) -> tuple[Picture, ...]:
    """Copies, so that this run's folder can be sent away alone."""
    if not init:
        return ()
    before = read_document(Path(init) / RESULT, PretrainResult)
    captions = {
        CURVES: f"Pre-training ({before.method}): losses over {before.run.epochs} epochs.",
        RECONSTRUCTIONS: "Pre-training: masked and reconstructed images.",
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


def show_figure(figure: Figure) -> str:
    """A figure with its interval, in words."""
    if figure.low is None or figure.high is None:
        return f"{figure.value:.4g} (no interval: one {figure.drawn_by})"
    return (
        f"{figure.value:.4g} ({figure.confidence:.0%} interval by {figure.drawn_by}: "
        f"{figure.low:.4g} to {figure.high:.4g})"
    )
