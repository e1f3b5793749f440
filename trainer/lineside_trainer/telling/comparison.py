"""Finished runs side by side: what they were told, what they reached, and who is better where both
were tested on the very same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from lineside_trainer.errors import TrainerError
from lineside_trainer.experiment import Experiment, Setting
from lineside_trainer.experiment_file import (
    differences,
    read_experiment,
)
from lineside_trainer.runs.predictions import PREDICTIONS, Prediction, read_predictions
from lineside_trainer.runs.results import Figure, Spread, TrainResult, TrainSeedsResult
from lineside_trainer.runs.runfolder import EXPERIMENT, RESULT, read_document
from lineside_trainer.study.paired import Difference
from lineside_trainer.study.paired import compare as compare_paired

_PRETRAINING: Final = "pretrain."

Figures = dict[str, Figure] | dict[str, Spread]


@dataclass(frozen=True, kw_only=True)
class Tested:
    """One seed of a run.

    Attributes:
        folder: of the seed's run.
        result: its figures.
        predictions: on its test images, in order.
    """

    folder: Path
    result: TrainResult
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """A finished `lineside train`, with one seed or several.

    Attributes:
        name: short, and different from the others'.
        folder: of the run.
        experiment: what it was told.
        seeds: what it reached, seed by seed.
        several: of `--seeds`, else None.
    """

    name: str
    folder: Path
    experiment: Experiment
    seeds: tuple[Tested, ...]
    several: TrainSeedsResult | None

    @property
    def result(self) -> TrainResult:
        """Of the first seed: what all seeds share."""
        return self.seeds[0].result

    @property
    def test(self) -> Figures:
        """Figures on the test samples, by metric."""
        return self.several.test if self.several else self.result.test

    @property
    def baseline(self) -> Figures:
        """Of the trivial predictor."""
        return self.several.baseline if self.several else self.result.baseline


class Paired(msgspec.Struct, frozen=True, kw_only=True):
    """A run against the first one.

    Attributes:
        run: its name.
        against: the first one's.
        metric: what is compared.
        difference: its figure less the other's, on the same test images; None where there are no
            such pairs.
        verdict: "better", "worse", or "undecided" where the interval holds zero; "" without one.
        why_not: "" where there is a difference.
    """

    run: str
    against: str
    metric: str
    difference: Difference | None
    verdict: str
    why_not: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All of it.

    Attributes:
        runs: as they were named.
        settings: values that differ, by path, one a run; None where a run has no such setting.
        paired: every other run against the first.
    """

    runs: tuple[ComparedRun, ...]
    settings: dict[str, tuple[Setting | None, ...]]
    paired: tuple[Paired, ...]


def compare_runs(folders: Sequence[Path]) -> Comparison:
    """Read and compare at least two runs; the first is what the others are held against.

    Raises:
        TrainerError: one of them is no finished tuning run.
        ExperimentError: its settings cannot be read.
    """
    names = _short_names(folders)
    runs = tuple(_read_run(name, folder) for name, folder in zip(names, folders, strict=True))
    return Comparison(
        runs=runs,
        settings=_settings(runs),
        paired=tuple(_pair(run, runs[0]) for run in runs[1:]),
    )


def _settings(runs: Sequence[ComparedRun]) -> dict[str, tuple[Setting | None, ...]]:
    """A tuning run's own settings, and those of the pre-trainings where they can still be read."""
    own = differences([run.experiment for run in runs])
    found = {path: values for path, values in own.items() if not path.startswith(_PRETRAINING)}
    before = [_pretraining(run) for run in runs]
    known = [experiment for experiment in before if experiment is not None]
    for path, values in differences(known).items() if known else ():
        if path.startswith(_PRETRAINING):
            left = iter(values)
            found[path] = tuple(None if one is None else next(left) for one in before)
    return found


def _pretraining(run: ComparedRun) -> Experiment | None:
    init = run.experiment.train.init
    path = Path(init) / EXPERIMENT
    return read_experiment(path, {}) if init and path.exists() else None


class _Kind(msgspec.Struct, frozen=True):
    """What tells one `result.json` from another."""

    metric: str = ""
    chosen_seed: int | None = None


def _read_run(name: str, folder: Path) -> ComparedRun:
    kind = read_document(folder / RESULT, _Kind)
    if not kind.metric:
        raise TrainerError(
            f"{folder}: is no tuning run, so it has no test figures to compare; name --out folders "
            "of finished `lineside train` runs"
        )
    experiment = read_experiment(folder / EXPERIMENT, {})
    if kind.chosen_seed is None:
        return ComparedRun(
            name=name,
            folder=folder,
            experiment=experiment,
            seeds=(_read_tested(folder),),
            several=None,
        )
    several = read_document(folder / RESULT, TrainSeedsResult)
    return ComparedRun(
        name=name,
        folder=folder,
        experiment=experiment,
        seeds=tuple(_read_tested(folder / run.folder) for run in several.runs),
        several=several,
    )


def _read_tested(folder: Path) -> Tested:
    predictions = read_predictions(folder / PREDICTIONS)
    return Tested(
        folder=folder,
        result=read_document(folder / RESULT, TrainResult),
        predictions=tuple(one for one in predictions if one.set == "test"),
    )


def _short_names(folders: Sequence[Path]) -> list[str]:
    """As few last parts of each path as tell all of them apart."""
    paths = [folder.resolve() for folder in folders]
    for length in range(1, max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{path} ({number})" for number, path in enumerate(paths, start=1)]


def _pair(run: ComparedRun, first: ComparedRun) -> Paired:
    metric, why_not = first.result.metric, _why_apart(run, first)
    difference = None
    if not why_not:
        pairs = _same_tests(run, first)
        ours = {number: a.predictions for number, (a, _) in enumerate(pairs)}
        theirs = {number: b.predictions for number, (_, b) in enumerate(pairs)}
        difference = compare_paired(metric, ours, theirs)
        if not pairs:
            why_not = "tested on other images; give both the same data, --group and --split-seed"
        elif difference is None:
            why_not = f"too few test images for an interval, or none of {metric.replace('_', ' ')}"
    return Paired(
        run=run.name,
        against=first.name,
        metric=metric,
        difference=difference,
        verdict=_verdict(difference, lower_is_better=first.result.lower_is_better),
        why_not=why_not,
    )


def _verdict(difference: Difference | None, *, lower_is_better: bool) -> str:
    if difference is None:
        return ""
    if difference.low <= 0.0 <= difference.high:
        return "undecided"
    return "better" if (difference.high < 0.0) is lower_is_better else "worse"


def _why_apart(run: ComparedRun, first: ComparedRun) -> str:
    ours, theirs = run.result, first.result
    for what in ("task", "target", "unit", "metric"):
        if getattr(ours, what) != getattr(theirs, what):
            return f"another {what}: {getattr(ours, what)}, not {getattr(theirs, what)}"
    return ""


def _same_tests(run: ComparedRun, first: ComparedRun) -> list[tuple[Tested, Tested]]:
    """Pairs of seeds that were tested on the same images: the same seed where both have it, else
    whichever is left. Each seed is in one pair at most."""
    free = list(first.seeds)
    pairs: list[tuple[Tested, Tested]] = []
    known = {theirs.result.run.seed for theirs in free}
    for ours in sorted(run.seeds, key=lambda ours: ours.result.run.seed not in known):
        fit = [theirs for theirs in free if _same_images(ours, run, theirs, first)]
        fit.sort(key=lambda theirs: theirs.result.run.seed != ours.result.run.seed)
        if fit:
            free.remove(fit[0])
            pairs.append((ours, fit[0]))
    return pairs


def _same_images(ours: Tested, run: ComparedRun, theirs: Tested, first: ComparedRun) -> bool:
    """The same files with the same truth, of the same data.

    The data's hash is over pixels as the network sees them; where networks see other sizes, the
    same folder does, as a folder's files are what they are for both.
    """
    if [_truth(one) for one in ours.predictions] != [_truth(one) for one in theirs.predictions]:
        return False
    same_hash = ours.result.run.data_sha256 == theirs.result.run.data_sha256
    return same_hash or run.experiment.data.folder == first.experiment.data.folder


def _truth(one: Prediction) -> tuple[str, str, str]:
    return one.file, one.part, one.said.target
