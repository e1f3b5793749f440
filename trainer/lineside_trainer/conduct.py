"""One run from claim to result, in one process or in several that learn together."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import Experiment
from lineside_trainer.learning.device import choose_device
from lineside_trainer.learning.launch import launch
from lineside_trainer.learning.processes import (
    Helped,
    Place,
    check_gpus,
    find_place,
    join,
    leave_at_exit,
    wait_for_others,
)
from lineside_trainer.runs.runfolder import RESULT, claimed_run, read_document
from lineside_trainer.tasks import ANOMALY

Document = TypeVar("Document", bound=msgspec.Struct)


def conduct(
    verb: Literal["pretrain", "train"],
    experiment: Experiment,
    out: Path,
    *,
    resume: bool,
    kind: type[Document],
    work: Callable[[], Document],
) -> Document:
    """Do the work in every process; the first alone claims, judges, saves and reports.

    Args:
        verb: whose settings count.
        experiment: all of them.
        out: the run's folder, which all processes must see.
        resume: go on where it stopped; a finished run is left as it is.
        kind: of the result.
        work: from images to the result, in a folder that is claimed.

    Raises:
        ExperimentError: settings that cannot be, or a folder that is in use.
        LinesideError: whatever the work raises, in whichever process.
    """
    asked, place = experiment.run, find_place(os.environ)
    if place.size == 1:
        _check_alone(experiment)
    check_shares(verb, experiment, max(place.size, asked.devices))
    if place.size == 1 and asked.devices > 1:
        launch(verb, experiment, out, resume=resume, processes=asked.devices)
        return read_document(out / RESULT, kind)
    return _take_part(join(asked), experiment, out, resume=resume, kind=kind, work=work)


def check_shares(verb: Literal["pretrain", "train"], experiment: Experiment, size: int) -> None:
    """Each process takes equally many images of a batch.

    Raises:
        ExperimentError: they cannot, or need not.
    """
    if size > 1 and verb == "train" and experiment.train.probe:
        raise ExperimentError(
            "run.devices: a linear probe learns in seconds and in one process; leave it away"
        )
    if size > 1 and verb == "train" and experiment.train.task == ANOMALY:
        raise ExperimentError(
            "run.devices: --task anomaly learns in one process: GradCon averages the gradients of "
            "whole batches, and a memory of good patches takes seconds; leave it away"
        )
    fit = experiment.pretrain.fit if verb == "pretrain" else experiment.train.fit
    if fit.batch_size % size:
        fitting = max(size, fit.batch_size // size * size)
        raise ExperimentError(
            f"{verb}.fit.batch_size: {fit.batch_size} images cannot be shared evenly by {size} "
            f"processes; take a multiple, e.g. --batch-size {fitting}"
        )


def _check_alone(experiment: Experiment) -> None:
    asked = experiment.run
    if asked.nodes > 1:
        raise ExperimentError(
            f"run.nodes: {asked.nodes} machines are asked for, and this process is alone; let "
            "torchrun or srun call the same command on each (docs/training.md, several machines)"
        )
    if asked.devices > 1 and choose_device(asked) == "cuda":
        check_gpus(asked.devices)


def _take_part(
    place: Place,
    experiment: Experiment,
    out: Path,
    *,
    resume: bool,
    kind: type[Document],
    work: Callable[[], Document],
) -> Document:
    claim = claimed_run(out, experiment, resume=resume)
    with claim if place.is_first else contextlib.nullcontext():
        wait_for_others()
        if (out / RESULT).exists():
            return read_document(out / RESULT, kind)
        # Nobody may find a result that was not there when another looked.
        wait_for_others()
        with contextlib.suppress(Helped):
            work()
    wait_for_others()
    leave_at_exit()
    return read_document(out / RESULT, kind)
