"""The report of a pre-training run."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch

from lineside.durable import make_folder
from lineside_trainer.evaluate.figures import draw_curves, draw_pictures, draw_vital
from lineside_trainer.evaluate.report import Picture, Report, write_report
from lineside_trainer.experiment import Experiment
from lineside_trainer.experiment_file import (
    encode_experiment,
)
from lineside_trainer.learning.fit import FitResult
from lineside_trainer.prepared import Prepared
from lineside_trainer.pretrain import Method
from lineside_trainer.runs.results import PretrainResult
from lineside_trainer.runs.runfolder import FIGURES, REPORT

EXAMPLES: Final = "examples.png"
CURVES: Final = "curves.png"
_PICTURES: Final = 8
_CURVES_CAPTION: Final = (
    "Losses over epochs; validation is on the training fold's quantisation samples, "
    "from which no step learns."
)


def report_pretraining(
    out: Path,
    experiment: Experiment,
    result: PretrainResult,
    prepared: Prepared,
    learner: Method,
    fitted: FitResult,
) -> None:
    """Draw the figures and write the page.

    Args:
        out: the run's folder.
        experiment: all settings.
        result: what the page says.
        prepared: for examples.
        learner: with the weights that were kept.
        fitted: the curves.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    run = result.run
    make_folder(out / FIGURES)
    curves = out / FIGURES / CURVES
    judged = learner.judged_by
    draw_curves(curves, fitted.rows, best_epoch=fitted.best_epoch, validation=judged)
    report = Report(
        title=f"Pre-training: {result.method}, {result.arch}",
        figures={
            learner.judged_in_words: (
                f"{run.validation.best:.4g} (first epoch {run.validation.first:.4g})"
            ),
            **_vitals(learner, fitted),
            "images learnt from": f"{run.counts['pre-training']} of {run.images}",
            "epochs": f"{run.epochs}, kept {run.validation.best_epoch + 1}",
        },
        pictures=(
            Picture(file=curves, caption=_CURVES_CAPTION),
            *_vital_curves(out / FIGURES, learner, fitted),
            *_examples(out / FIGURES / EXAMPLES, prepared, learner, experiment.run.seed),
        ),
        run=run,
        experiment=encode_experiment(experiment),
        more={},
    )
    write_report(out / REPORT, report)


def _vitals(learner: Method, fitted: FitResult) -> dict[str, str]:
    kept = fitted.rows[fitted.best_epoch].vitals
    return {
        name: f"{kept[name]:.4g} (healthy: about {healthy:.4g})"
        for name, healthy in learner.healthy.items()
        if name in kept
    }


def _vital_curves(figures: Path, learner: Method, fitted: FitResult) -> tuple[Picture, ...]:
    pictures = []
    for name, healthy in learner.healthy.items():
        path = figures / f"{name}.png"
        draw_vital(path, fitted.rows, name=name, healthy=healthy)
        caption = f"{name} over epochs; near the line is healthy, near 0 has collapsed."
        pictures.append(Picture(file=path, caption=caption))
    return tuple(pictures)


def _examples(path: Path, prepared: Prepared, learner: Method, seed: int) -> tuple[Picture, ...]:
    rows = torch.from_numpy(prepared.split.indices["quantisation"][:_PICTURES])
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        examples = learner.eval().examples(prepared.store.rows(rows), generator)
    if not examples:
        return ()
    draw_pictures(path, examples)
    caption = f"{learner.examples_in_words.capitalize()}; no step learnt from these."
    return (Picture(file=path, caption=caption),)
