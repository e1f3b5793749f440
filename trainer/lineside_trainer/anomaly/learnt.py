"""An autoencoder that an earlier run has learnt, for another of its scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from lineside_trainer.durable import read_tensors, read_weights
from lineside_trainer.errors import ExperimentError, TrainerError
from lineside_trainer.experiment import Experiment, Setting, Table
from lineside_trainer.experiment_file import (
    convert_experiment,
    merge_tables,
    plain_table,
    read_experiment,
)
from lineside_trainer.learning.fit import FitResult
from lineside_trainer.learning.loop import BEST, LAST, OURS
from lineside_trainer.models import AUTOENCODERS
from lineside_trainer.prepared import Prepared
from lineside_trainer.runs.logbook import Logbook
from lineside_trainer.runs.results import TrainResult
from lineside_trainer.runs.runfolder import EXPERIMENT, RESULT, read_document
from lineside_trainer.tasks import ANOMALY
from lineside_trainer.tasks.autoencoding import AutoencoderLearner

SETTING: Final = "train.anomaly.run"


def rescored(
    run: Path, *, score: str | None, gamma: float | None, limit: float | None
) -> Experiment:
    """The experiment of a finished run, to be judged by another score.

    Args:
        run: its folder.
        score: "recon", "elbo" or "gradcon"; None leaves it as it was.
        gamma: of GradCon; None likewise.
        limit: of the score; None lets validation choose it.

    Raises:
        ExperimentError: no finished run of one autoencoder, or a setting that cannot be.
    """
    missing = [name for name in (EXPERIMENT, RESULT) if not (run / name).exists()]
    if missing:
        raise ExperimentError(
            f"{run}: no finished run ({missing[0]} is missing); name the --out of a finished "
            "`lineside train --task anomaly`"
        )
    before = read_experiment(run / EXPERIMENT, {})
    if before.train.task != ANOMALY or before.model.arch not in AUTOENCODERS:
        raise ExperimentError(
            f"{run}: of task {before.train.task} and network {before.model.arch}; only an "
            f"autoencoder ({', '.join(AUTOENCODERS)}) of --task anomaly has several scores"
        )
    if before.run.seeds > 1:
        raise ExperimentError(
            f"{run}: holds {before.run.seeds} runs, a seed each; name the folder of one of them"
        )
    replace = msgspec.structs.replace
    blank = replace(before, train=replace(before.train, limit=None))
    learnt = before.train.anomaly.run or str(run.resolve())
    anomaly: Table = _given({"score": score, "gamma": gamma}) | {"run": learnt}
    told: Table = {"train": _given({"limit": limit}) | {"anomaly": anomaly}}
    # Through conversion, for a score, a gamma or a limit that cannot be.
    return convert_experiment(merge_tables(plain_table(blank), told), source="command line")


def _given(settings: Mapping[str, Setting | None]) -> dict[str, Setting | Table]:
    return {name: value for name, value in settings.items() if value is not None}


def take_over(learner: AutoencoderLearner, run: Path, prepared: Prepared) -> FitResult:
    """Load what a run has learnt.

    Args:
        learner: changed in place.
        run: folder of the finished run.
        prepared: must be the very data and split that it learnt from.

    Returns:
        How it learnt then.

    Raises:
        ExperimentError: other images, another split, or another network.
        TrainerError: the run is damaged.
    """
    before = read_document(run / RESULT, TrainResult)
    if before.run.data_sha256 != prepared.digest:
        raise ExperimentError(
            f"{SETTING}: {run} learnt from other images or another split (SHA-256 "
            f"{before.run.data_sha256[:16]}…, now {prepared.digest[:16]}…): bring the old ones back"
        )
    if before.arch != learner.autoencoder.arch:
        raise ExperimentError(
            f"{SETTING}: {run} is a {before.arch}, model.arch says {learner.autoencoder.arch}"
        )
    book = Logbook()
    with _of_this_run(run / BEST):
        learner.kept.load_state_dict(read_weights(run / BEST))
    with _of_this_run(run / LAST):
        book.load_state_dict(read_tensors(run / LAST)[OURS]["logbook"])
    return FitResult(
        rows=tuple(book.rows),
        best_epoch=book.best_epoch,
        best_value=book.best_value,
        device=before.run.device,
        precision=before.run.precision,
    )


@contextmanager
def _of_this_run(file: Path) -> Iterator[None]:
    """A whole file of another run holds other names and shapes, as what fills the learner with it
    finds out."""
    try:
        yield
    except (RuntimeError, KeyError, TypeError) as error:
        raise TrainerError(
            f"{file}: is not this run's own: it holds other tensors than {EXPERIMENT} beside it "
            "describes; bring the right one back, or train again"
        ) from error
