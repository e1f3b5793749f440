"""Tuned runs that a new one builds on: a teacher, a wider network that it is cut from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lineside.contract import Contract
from lineside_trainer.ancestry import slimming, teaching
from lineside_trainer.experiment import Experiment, TrainSettings
from lineside_trainer.learning.learner import Learner
from lineside_trainer.learning.lesson import Lesson
from lineside_trainer.learning.processes import this_place
from lineside_trainer.prepared import Prepared
from lineside_trainer.runs.results import TrainedRun
from lineside_trainer.runs.runfolder import SLIMMED_FROM, TEACHER
from lineside_trainer.runs.trained import (
    Trained,
    check_learnt_elsewhere,
    check_same_input,
    check_same_words,
    keep_identity,
    read_trained,
)
from lineside_trainer.tasks import Task

_FILES: Final = {teaching.SETTING: TEACHER, slimming.SETTING: SLIMMED_FROM}


@dataclass(frozen=True, kw_only=True)
class Forerunners:
    """None where no such run is named."""

    teacher: Trained | None
    wide: Trained | None

    @property
    def by_setting(self) -> dict[str, Trained]:
        """Those there are."""
        named = {teaching.SETTING: self.teacher, slimming.SETTING: self.wide}
        return {setting: trained for setting, trained in named.items() if trained}

    @property
    def teacher_run(self) -> TrainedRun | None:
        """For the result."""
        return self.teacher.identity if self.teacher else None

    @property
    def wide_run(self) -> TrainedRun | None:
        """For the result."""
        return self.wide.identity if self.wide else None

    @property
    def transductive(self) -> bool:
        """One of them saw images that runs are judged on."""
        return any(trained.result.run.transductive for trained in self.by_setting.values())

    def check(self, prepared: Prepared) -> tuple[str, ...]:
        """See `trained.check_same_input` and `trained.check_learnt_elsewhere`."""
        notes: list[str] = []
        for setting, trained in self.by_setting.items():
            check_same_input(prepared, trained, setting)
            notes += check_learnt_elsewhere(prepared, trained, setting)
        return tuple(notes)

    def lead(
        self,
        task: Task,
        contract: Contract,
        prepared: Prepared,
        lesson: Lesson,
        experiment: Experiment,
        out: Path,
    ) -> Learner:
        """Give a slim task the wide one's weights, and any task its teacher.

        Args:
            task: changed in place.
            contract: what it promises.
            prepared: the images.
            lesson: what is learnt from.
            experiment: all settings.
            out: the run's folder, where it is kept who led.

        Returns:
            The task, or the task with its teacher.

        Raises:
            ExperimentError: they say other things or are of another kind than the task, or have
                changed since the run began.
        """
        for setting, trained in self.by_setting.items():
            check_same_words(contract, trained, setting)
            if this_place().is_first:
                keep_identity(out / _FILES[setting], trained, setting)
        if self.wide:
            slimming.keep_important(task, self.wide, prepared, lesson.training, experiment.model)
        if not self.teacher:
            return task
        settings = experiment.train.teacher
        return teaching.teach(task, self.teacher, prepared, settings=settings, run=experiment.run)


def read_forerunners(settings: TrainSettings) -> Forerunners:
    """Read what `train.teacher.run` and `train.slim.run` name.

    Raises:
        ExperimentError: no such runs, or settings that contradict them.
        TrainerError: they are damaged.
    """
    teaching.check_teaching(settings)
    slimming.check_slimming(settings)
    teacher, wide = settings.teacher.run, settings.slim.run
    return Forerunners(
        teacher=read_trained(Path(teacher), teaching.SETTING) if teacher else None,
        wide=read_trained(Path(wide), slimming.SETTING) if wide else None,
    )
