"""What a run takes over from the finished runs that it names, where it is not told otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from lineside_trainer.ancestry import initial, slimming, teaching
from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import Experiment, Table, Verb
from lineside_trainer.experiment_file import (
    merge_tables,
    plain_table,
    read_experiment,
)
from lineside_trainer.runs.runfolder import EXPERIMENT
from lineside_trainer.runs.trained import check_has_labels

SHORT: Final = 0.2
"""Share of the wide run's epochs, and of its rate, that a slim one is tuned again with."""

_OF_A_TEACHER: Final = ("task", "target", "unit", "good")
_OF_ITS_OWN: Final = ("init", "teacher", "slim")


def handed_on(asked: Experiment, verb: Verb) -> Table:
    """Settings of the runs named by `init`, `train.teacher.run` and `train.slim.run`.

    Raises:
        ExperimentError: there is no such run, or one that has no labels to hand on.
    """
    table: Table = {}
    if verb == "train" and asked.train.teacher.run:
        table = _from_teacher(asked, Path(asked.train.teacher.run))
    if verb == "train" and asked.train.slim.run:
        table = merge_tables(table, _from_wide(Path(asked.train.slim.run)))
    return merge_tables(table, initial.inherited_settings(asked, verb))


def _from_teacher(asked: Experiment, folder: Path) -> Table:
    """What is seen and said, and on the same images the split; a student's network is its own."""
    before = _read(folder, teaching.SETTING)
    train = plain_table(before.train)
    return {
        "data": initial.shared_data(asked, before),
        "train": {name: train[name] for name in _OF_A_TEACHER if name in train},
    }


def _from_wide(folder: Path) -> Table:
    """Everything but what it built on, and a fifth of its epochs and of its rate: slimming only
    has to mend what the cut has hurt."""
    before = _read(folder, slimming.SETTING)
    fit = before.train.fit
    short = {"epochs": max(1, round(SHORT * fit.epochs)), "lr": SHORT * fit.lr}
    train = {k: v for k, v in plain_table(before.train).items() if k not in _OF_ITS_OWN}
    model = msgspec.structs.replace(before.model, weights="", download=False)
    return {
        "data": {k: v for k, v in plain_table(before.data).items() if k != "split_seeds"},
        "model": plain_table(model),
        "train": merge_tables(train, {"fit": short}),
        "run": {"seed": before.run.seed},  # which labels a share leaves depends on it
    }


def _read(folder: Path, setting: str) -> Experiment:
    path = folder / EXPERIMENT
    if not path.exists():
        raise ExperimentError(
            f"{setting}: {folder} is no run ({EXPERIMENT} is missing); "
            "name the --out folder of a finished `lineside train`"
        )
    before = read_experiment(path, {})
    check_has_labels(before, folder, setting)
    return before
