"""`lineside pretrain`, without its command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from lineside_trainer.data import write_split
from lineside_trainer.device import choose_device
from lineside_trainer.evaluate.figures import draw_curves, draw_pictures
from lineside_trainer.evaluate.report import Picture, Report, write_report
from lineside_trainer.experiment import Experiment, encode_experiment
from lineside_trainer.fit import FitResult, fit
from lineside_trainer.initial import save_encoder, seen_images
from lineside_trainer.prepared import IntArray, Prepared, prepare_data
from lineside_trainer.pretrain import Method, build_method
from lineside_trainer.progress import Progress
from lineside_trainer.results import PretrainResult
from lineside_trainer.runfolder import (
    FIGURES,
    REPORT,
    RESULT,
    SPLIT,
    begin_run,
    read_document,
    write_document,
)
from lineside_trainer.summary import summarise

RECONSTRUCTIONS = "reconstructions.png"
CURVES = "curves.png"
_EXAMPLES = 8
_TRANSDUCTIVE = "TRANSDUCTIVE: pre-training saw every image, also those that runs are judged on"


def pretrain(experiment: Experiment, out: Path, *, resume: bool) -> PretrainResult:
    """Pre-train on the training fold and write the run's folder.

    Args:
        experiment: `data`, `model`, `pretrain` and `run` count.
        out: the run's folder.
        resume: go on where it stopped; a finished run is left as it is.

    Raises:
        ExperimentError: settings that cannot be, or a folder that is in use.
        DataError: images that cannot be used.
        TrainerError: it went wrong on the way.
    """
    begin_run(out, experiment, resume=resume)
    if (out / RESULT).exists():
        return read_document(out / RESULT, PretrainResult)
    prepared = prepare_data(experiment, target=None, folder=out)
    write_split(out / SPLIT, prepared.split, prepared.table)
    settings, run = experiment.pretrain, experiment.run
    training, judging = _rows(prepared, transductive=settings.transductive)
    torch.manual_seed(run.seed)
    learner = build_method(experiment, prepared.grid, prepared.normalise())
    data = prepared.batches(
        training, judging, settings=settings.fit, seed=run.seed, device=choose_device(run)
    )
    with Progress(f"pre-training ({settings.method})", settings.fit.epochs) as progress:
        fitted = fit(
            learner,
            data,
            settings=settings.fit,
            augment=settings.augment,
            run=run,
            folder=out,
            resume=resume,
            progress=progress,
        )
    seen = np.union1d(training, judging)
    save_encoder(
        out, learner.encoder, seen_images(prepared, seen, transductive=settings.transductive)
    )
    result = PretrainResult(
        method=settings.method,
        arch=experiment.model.arch,
        run=summarise(
            prepared,
            learner,
            fitted,
            experiment=experiment,
            settings=settings.fit,
            counts={"pre-training": len(training), "judging": len(judging)},
            notes=(_TRANSDUCTIVE,) if settings.transductive else (),
            transductive=settings.transductive,
        ),
    )
    _report(out, experiment, result, prepared, learner, fitted)
    write_document(out / RESULT, result)
    return result


def _rows(prepared: Prepared, *, transductive: bool) -> tuple[IntArray, IntArray]:
    """Training and judging rows. Both are of the training fold: its quantisation samples, which
    no step learns from, choose the epoch, so that validation images stay unseen."""
    split = prepared.split
    if transductive:
        return np.arange(len(prepared.table)), split.indices["quantisation"]
    return split.indices["training"], split.indices["quantisation"]


def _report(
    out: Path,
    experiment: Experiment,
    result: PretrainResult,
    prepared: Prepared,
    learner: Method,
    fitted: FitResult,
) -> None:
    figures = out / FIGURES
    curves = figures / CURVES
    draw_curves(curves, fitted.rows, best_epoch=fitted.best_epoch, validation="masked MSE")
    pictures = [Picture(file=curves, caption="Losses over epochs.")]
    rows = torch.from_numpy(prepared.split.indices["quantisation"][:_EXAMPLES])
    generator = torch.Generator().manual_seed(experiment.run.seed)
    with torch.no_grad():
        examples = learner.eval().examples(prepared.store.rows(rows).cpu(), generator)
    if examples:
        draw_pictures(figures / RECONSTRUCTIONS, examples)
        caption = "Masked and reconstructed images that no step learnt from."
        pictures.append(Picture(file=figures / RECONSTRUCTIONS, caption=caption))
    run = result.run
    report = Report(
        title=f"Pre-training: {result.method}, {result.arch}",
        figures={
            "reconstruction error (masked MSE, 1 = variance of the pixels)": (
                f"{run.validation.best:.4g} (first epoch {run.validation.first:.4g})"
            ),
            "images learnt from": f"{run.counts['pre-training']} of {run.images}",
            "epochs": f"{run.epochs}, kept {run.validation.best_epoch + 1}",
        },
        pictures=tuple(pictures),
        run=run,
        experiment=encode_experiment(experiment),
        more={},
    )
    write_report(out / REPORT, report)
