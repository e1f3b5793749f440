"""One experiment with several seeds: each a run in a folder of its own, then mean and spread."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import click
import msgspec

from lineside.durable import make_folder, write_durably
from lineside.errors import LinesideError, StorageError
from lineside_trainer.errors import ExperimentError, TrainerError
from lineside_trainer.experiment import Experiment
from lineside_trainer.learning.processes import find_place
from lineside_trainer.pretraining import pretrain
from lineside_trainer.runs.results import (
    PretrainResult,
    PretrainSeedsResult,
    Run,
    SeedRun,
    Spread,
    TrainResult,
    TrainSeedsResult,
)
from lineside_trainer.runs.runfolder import (
    CANDIDATE,
    RESULT,
    claimed_run,
    read_document,
    write_document,
)
from lineside_trainer.telling.seeds_report import report_pretrain_seeds, report_train_seeds
from lineside_trainer.tuning import train

Result = TypeVar("Result", PretrainResult, TrainResult)

MOST_SEED: Final = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Member:
    """One seed.

    Attributes:
        folder: name inside the common one.
        experiment: its own settings, with one seed.
    """

    folder: str
    experiment: Experiment


def seed_folder(seed: int) -> str:
    """Name of a seed's folder."""
    return f"seed{seed}"


def members(experiment: Experiment) -> tuple[Member, ...]:
    """What each seed is told: its seed, its split's seed, and its own pre-training where there is
    one for each.

    Raises:
        ExperimentError: split seeds that are not one a seed, or that nothing would be split by.
    """
    run, data = experiment.run, experiment.data
    if run.nodes > 1 or find_place(os.environ).size > 1:
        raise ExperimentError(
            "run.seeds: several machines learn one seed together; call it once a seed, with --seed "
            "and an --out for each"
        )
    splits = data.split_seeds or (data.split_seed,) * run.seeds
    if len(splits) != run.seeds:
        raise ExperimentError(
            f"data.split_seeds: {len(splits)} for run.seeds = {run.seeds}; name one for each seed, "
            "or leave it away for one split"
        )
    if data.split_seeds and data.split_column:
        raise ExperimentError(
            f"data.split_seeds: the split stands in column {data.split_column!r}, seeds cannot "
            "change it; leave one of them away"
        )
    if run.seed + run.seeds - 1 > MOST_SEED:
        raise ExperimentError(f"run.seed: {run.seed} and {run.seeds - 1} more pass {MOST_SEED}")
    return tuple(
        _member(experiment, run.seed + number, split) for number, split in enumerate(splits)
    )


def _member(experiment: Experiment, seed: int, split_seed: int) -> Member:
    replace = msgspec.structs.replace
    init = experiment.train.init
    own = Path(init) / seed_folder(seed)
    if init and not own.exists() and _is_of_seeds(Path(init)):
        raise ExperimentError(
            f"train.init: {init} holds a pre-training for each of its seeds, and none for seed "
            f"{seed}; give both runs the same --seed and --seeds, or name one seed's folder"
        )
    told = replace(
        experiment,
        data=replace(experiment.data, split_seed=split_seed, split_seeds=()),
        run=replace(experiment.run, seed=seed, seeds=1),
    )
    if init and own.exists():
        told = replace(told, train=replace(told.train, init=str(own)))
    return Member(folder=seed_folder(seed), experiment=told)


def _is_of_seeds(init: Path) -> bool:
    return any(path.is_dir() for path in init.glob("seed*"))


def train_seeds(experiment: Experiment, out: Path, *, resume: bool) -> TrainSeedsResult:
    """Tune once with each of `run.seeds` seeds; offer the one that is best on validation.

    Args:
        experiment: as for `tuning.train`.
        out: the common folder; runs go to `seed0`, `seed1`, … in it.
        resume: do what is not done yet.

    Raises:
        ExperimentError: settings that cannot be, or a folder that is in use.
        TrainerError: a seed failed; the message names it, the others are done.
        StorageError: the disk is full, read-only or gone.
    """
    told = members(experiment)
    with claimed_run(out, experiment, resume=resume):
        if (out / RESULT).exists():
            return read_document(out / RESULT, TrainSeedsResult)
        results = run_each(told, out, train)
        result = summarise_training(told, results)
        chosen = out / seed_folder(result.chosen_seed) / results[0].candidate
        _copy_files(chosen, out / CANDIDATE)
        report_train_seeds(out, experiment, result)
        write_document(out / RESULT, result)
        return result


def pretrain_seeds(experiment: Experiment, out: Path, *, resume: bool) -> PretrainSeedsResult:
    """Pre-train once with each of `run.seeds` seeds, for a tuning that has as many.

    Raises:
        As `train_seeds`.
    """
    told = members(experiment)
    with claimed_run(out, experiment, resume=resume):
        if (out / RESULT).exists():
            return read_document(out / RESULT, PretrainSeedsResult)
        results = run_each(told, out, pretrain)
        result = summarise_pretraining(told, results)
        report_pretrain_seeds(out, experiment, result)
        write_document(out / RESULT, result)
        return result


def run_each(told: Sequence[Member], out: Path, run_one: Callable[..., Result]) -> list[Result]:
    """Run or go on with every seed; one that fails does not keep the others from it.

    Raises:
        LinesideError: what ended the very first before it learnt anything: a setting or the data,
            which the others would fail by as well.
        StorageError: the disk is full, read-only or gone.
        TrainerError: some failed; all are named.
    """
    results: list[Result] = []
    failed: dict[str, LinesideError] = {}
    for number, member in enumerate(told, start=1):
        run, data = member.experiment.run, member.experiment.data
        words = f"seed {run.seed} ({number} of {len(told)}), split {data.split_seed}"
        click.echo(words, err=True)
        try:
            results.append(run_one(member.experiment, out / member.folder, resume=True))
        except StorageError:
            raise
        except LinesideError as error:
            if number == 1 and not (out / member.folder).exists():
                raise
            failed[member.folder] = error
            click.echo(f"{words}: failed: {error}", err=True)
    if failed:
        listed = "; ".join(f"{folder}: {error}" for folder, error in failed.items())
        raise TrainerError(
            f"{out}: {len(failed)} of {len(told)} seeds failed, so there is no mean to report "
            f"({listed}); mend the cause and go on with --resume, which runs only what is missing"
        )
    return results


def spread(values: Sequence[float]) -> Spread:
    """Mean, sample standard deviation and ends of at least one value."""
    return Spread(
        mean=statistics.fmean(values),
        std=statistics.stdev(values) if len(values) > 1 else None,
        least=min(values),
        most=max(values),
        runs=len(values),
    )


def summarise_training(told: Sequence[Member], results: Sequence[TrainResult]) -> TrainSeedsResult:
    """Mean and spread; the choice looks at validation alone."""
    first = results[0]
    judged = [result.run.validation.best for result in results]
    chosen = judged.index(min(judged))
    return TrainSeedsResult(
        task=first.task,
        arch=first.arch,
        target=first.target,
        unit=first.unit,
        metric=first.metric,
        lower_is_better=first.lower_is_better,
        judged_by=first.judged_by,
        test=_spreads([{n: f.value for n, f in r.test.items()} for r in results]),
        baseline=_spreads([{n: f.value for n, f in r.baseline.items()} for r in results]),
        baseline_name=first.baseline_name,
        better_than_baseline=sum(result.better_than_baseline for result in results),
        validation=spread(judged),
        chosen_seed=results[chosen].run.seed,
        candidate=CANDIDATE,
        init=told[0].experiment.train.init if _one_init(told) else _above(told),
        weights=first.weights,
        runs=tuple(
            _seed_run(
                member,
                result.run,
                test={name: figure.value for name, figure in result.test.items()},
                better=result.better_than_baseline,
            )
            for member, result in zip(told, results, strict=True)
        ),
        notes=_notes(told, [result.run for result in results]),
        transductive=any(result.run.transductive for result in results),
        parameters=first.run.parameters,
        machine=first.run.machine,
        command=first.run.command,
    )


def summarise_pretraining(
    told: Sequence[Member], results: Sequence[PretrainResult]
) -> PretrainSeedsResult:
    """Mean and spread of what was kept."""
    first = results[0]
    runs = [result.run for result in results]
    return PretrainSeedsResult(
        method=first.method,
        arch=first.arch,
        judged_by=first.judged_by,
        validation=spread([run.validation.best for run in runs]),
        runs=tuple(
            _seed_run(member, run, test={}, better=None)
            for member, run in zip(told, runs, strict=True)
        ),
        notes=_common_notes(runs),
        transductive=any(run.transductive for run in runs),
        parameters=first.run.parameters,
        machine=first.run.machine,
        command=first.run.command,
    )


def _seed_run(member: Member, run: Run, *, test: dict[str, float], better: bool | None) -> SeedRun:
    return SeedRun(
        seed=run.seed,
        split_seed=run.split_seed,
        folder=member.folder,
        validation=run.validation.best,
        test=test,
        better_than_baseline=better,
        epochs=run.epochs,
        seconds=run.seconds,
    )


def _spreads(figures: Sequence[dict[str, float]]) -> dict[str, Spread]:
    """By metric; one that some run leaves undefined has no mean over all of them."""
    names = [name for name in figures[0] if all(name in found for found in figures)]
    return {name: spread([found[name] for found in figures]) for name in names}


def _one_init(told: Sequence[Member]) -> bool:
    return len({member.experiment.train.init for member in told}) == 1


def _above(told: Sequence[Member]) -> str:
    return str(Path(told[0].experiment.train.init).parent)


def _notes(told: Sequence[Member], runs: Sequence[Run]) -> tuple[str, ...]:
    own = [
        "the candidate is that of the seed with the best validation figure; its test figure is one "
        "of those below, and the mean is what a new seed can be expected to reach"
    ]
    if len({run.split_seed for run in runs}) > 1:
        own.append(
            "each seed has its own split: the spread holds the choice of test images too, and the "
            "validation figures that the candidate was chosen by are of different images"
        )
    if told[0].experiment.train.init and _one_init(told):
        own.append(
            "all seeds start from one pre-training: how pre-trainings differ by their seed is not "
            "in the spread"
        )
    return (*own, *_common_notes(runs))


def _common_notes(runs: Sequence[Run]) -> tuple[str, ...]:
    """What every run's report says; what only some say stands in theirs."""
    return tuple(note for note in runs[0].notes if all(note in run.notes for run in runs))


def _copy_files(source: Path, target: Path) -> None:
    make_folder(target)
    for path in sorted(source.iterdir()):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise TrainerError(f"{path}: {error.strerror}; it was written a moment ago") from error
        write_durably(target / path.name, [content])
