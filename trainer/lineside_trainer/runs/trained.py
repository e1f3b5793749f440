"""A finished `lineside train`, read back: its network, and the proof that it saw no image that
another run will be judged on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from torch import Tensor

from lineside.candidate import CONTRACT
from lineside.contract import ClassificationHead, Contract, InputSpec, decode_contract
from lineside_trainer.ancestry.initial import SeenImages
from lineside_trainer.data.split import read_set_names
from lineside_trainer.durable import read_weights
from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import Experiment
from lineside_trainer.experiment_file import (
    read_experiment,
)
from lineside_trainer.learning.loop import BEST
from lineside_trainer.models import Normalise
from lineside_trainer.prepared import Prepared
from lineside_trainer.runs.results import TrainedRun, TrainResult
from lineside_trainer.runs.runfolder import (
    CANDIDATE,
    EXPERIMENT,
    RESULT,
    SEEN,
    SPLIT,
    file_sha256,
    read_document,
    write_document,
)
from lineside_trainer.tasks import ANOMALY, Task, build_task

LEARNT_FROM: Final = ("training", "quantisation")
CHOSEN_ON: Final = ("validation", "golden")
CHOSEN_BY_NONE: Final = ("assurance", "test")
_NAMED_IN_ERRORS: Final = 3


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A finished tuning run.

    Attributes:
        folder: of the run.
        experiment: its settings.
        result: its figures.
        contract: of its candidate.
        weights: of its best epoch.
        sha256: of the file they are from.
    """

    folder: Path
    experiment: Experiment
    result: TrainResult
    contract: Contract
    weights: dict[str, Tensor]
    sha256: str

    @property
    def identity(self) -> TrainedRun:
        """For results and provenance."""
        return TrainedRun(
            run=str(self.folder),
            sha256=self.sha256,
            arch=self.result.arch,
            parameters=self.result.run.parameters,
            metric=self.result.metric,
            test=self.result.test[self.result.metric].value,
        )

    def task(self) -> Task:
        """The learner with the run's weights, in eval mode; no parameter wants a gradient."""
        mean = (0.0,) * self.contract.input.channels  # all of these come with the weights
        head = self.contract.head
        classes = head.classes if isinstance(head, ClassificationHead) else ()
        targets = np.arange(max(2, len(classes)), dtype=np.float64)
        task = build_task(
            self.experiment, self.contract.input, Normalise(mean, mean), targets, classes
        )
        task.load_state_dict(self.weights)
        return task.eval().requires_grad_(False)


def read_trained(folder: Path, setting: str) -> Trained:
    """Read a run.

    Args:
        folder: `--out` of a finished `lineside train`.
        setting: whose value `folder` is, for errors.

    Raises:
        ExperimentError: it is no such run, or not finished.
        TrainerError: it is damaged.
    """
    contract = folder / CANDIDATE / CONTRACT
    missing = [p for p in (folder / EXPERIMENT, folder / RESULT, contract) if not p.exists()]
    if missing:
        raise ExperimentError(
            f"{setting}: {folder} is no finished run ({missing[0].relative_to(folder)} is "
            "missing); name the --out folder of a finished `lineside train`"
        )
    experiment = read_experiment(folder / EXPERIMENT, {})
    check_has_labels(experiment, folder, setting)
    return Trained(
        folder=folder,
        experiment=experiment,
        result=read_document(folder / RESULT, TrainResult),
        contract=decode_contract(contract.read_bytes(), source=str(contract)),
        weights=read_weights(folder / BEST),
        sha256=file_sha256(folder / BEST),
    )


def check_has_labels(experiment: Experiment, folder: Path, setting: str) -> None:
    """Refuse a run of good parts alone where a head for labels is asked for.

    Args:
        experiment: of the run.
        folder: of the run, for errors.
        setting: whose value `folder` is.

    Raises:
        ExperimentError: it is one.
    """
    if experiment.train.task == ANOMALY:
        raise ExperimentError(
            f"{setting}: {folder} learnt from good parts alone (--task anomaly), so it has no head "
            "for labels; its maps are in its report, and `lineside inspect --maps` draws them"
        )


def check_same_input(prepared: Prepared, trained: Trained, setting: str) -> None:
    """Both networks are shown the same pixels.

    Raises:
        ExperimentError: the run takes another size or another number of channels.
    """
    ours, theirs = prepared.input, trained.contract.input
    if (ours.size_hw, ours.channels) != (theirs.size_hw, theirs.channels):
        raise ExperimentError(
            f"{setting}: {trained.folder} takes images of {_words(theirs)}, this run's are "
            f"{_words(ours)}; leave --image-size and data.channels away, and they are taken over"
        )


def check_same_words(ours: Contract, trained: Trained, setting: str) -> None:
    """Both networks say the same kind of thing, in the same order.

    Raises:
        ExperimentError: another target, unit, or other classes.
    """
    theirs = trained.contract
    if (ours.outputs, ours.head) != (theirs.outputs, theirs.head):
        raise ExperimentError(
            f"{setting}: {trained.folder} says {theirs.head} with {theirs.outputs}, this run is to "
            f"say {ours.head} with {ours.outputs}; give both the same --task, --target and --unit"
        )


def check_learnt_elsewhere(prepared: Prepared, trained: Trained, setting: str) -> tuple[str, ...]:
    """Prove, by content, that the run learnt from no image that this one is judged on, nor chose
    its epoch on one that this one is tested on.

    What a run learnt from is its training fold, and what the runs learnt from that it built on.

    Returns:
        Notes for the report; empty where all is well.

    Raises:
        ExperimentError: it did, and was not marked as transductive.
        TrainerError: its images cannot be read any more, so nothing can be proved.
    """
    learnt = _learnt_from(trained.folder, trained.experiment)
    known = _known_rows(prepared, learnt, _hashes(trained.folder, trained.experiment, CHOSEN_ON))
    if not known:
        return ()
    if trained.result.run.transductive:
        return (
            f"TRANSDUCTIVE: {trained.folder} saw {len(known)} of the images that this run is "
            "judged on (without their targets)",
        )
    own = {_hash(prepared, row) for row in prepared.split.fold("training").tolist()}
    leaked = [row for row in known if _hash(prepared, row) not in own]
    if leaked:
        files = ", ".join(prepared.table.records[row].name for row in leaked[:_NAMED_IN_ERRORS])
        raise ExperimentError(
            f"{setting}: {trained.folder} learnt from, or was chosen on, {len(leaked)} images that "
            f"this run is judged on ({files}, …): give both runs the same --group, "
            "--split-column and data.split_seed"
        )
    return (
        f"{len(known)} images that this run is judged on are copies, byte for byte, of training "
        "images",
    )


def _known_rows(prepared: Prepared, learnt: set[str], chosen: set[str]) -> list[int]:
    """Rows this run is judged on whose files are in `learnt`; those of the sets that nothing may
    be chosen on, also in `chosen`."""
    known = []
    for name in (*CHOSEN_ON, *CHOSEN_BY_NONE):
        forbidden = learnt | chosen if name in CHOSEN_BY_NONE else learnt
        rows = prepared.split.indices[name].tolist()
        known += [row for row in rows if _hash(prepared, row) in forbidden]
    return known


def _learnt_from(folder: Path, experiment: Experiment) -> set[str]:
    found = _hashes(folder, experiment, LEARNT_FROM)
    settings = experiment.train
    if settings.init:
        found |= set(read_document(Path(settings.init) / SEEN, SeenImages).files)
    for earlier in (settings.teacher.run, settings.slim.run):
        if earlier:
            before = read_experiment(Path(earlier) / EXPERIMENT, {})
            found |= _learnt_from(Path(earlier), before)
    return found


def _hashes(folder: Path, experiment: Experiment, sets: tuple[str, ...]) -> set[str]:
    names = read_set_names(folder / SPLIT)
    data = Path(experiment.data.folder)
    return {file_sha256(data / name) for key in sets for name in names[key]}


def keep_identity(path: Path, trained: Trained, setting: str) -> None:
    """Write down which weights were used; a resumed run must find the same.

    Raises:
        ExperimentError: the run has changed since.
        StorageError: the disk is full, read-only or gone.
    """
    if path.exists():
        before = read_document(path, TrainedRun)
        if before.sha256 != trained.sha256:
            raise ExperimentError(
                f"{setting}: the weights of {trained.folder} have changed since this run began "
                f"(SHA-256 {before.sha256[:16]}…, now {trained.sha256[:16]}…); bring the old ones "
                "back, or begin a new run"
            )
        return
    write_document(path, trained.identity)


def _hash(prepared: Prepared, row: int) -> str:
    return file_sha256(prepared.table.records[row].file)


def _words(spec: InputSpec) -> str:
    height, width = spec.size_hw
    return f"{height}x{width} px (height x width) with {spec.channels} channel(s)"
