"""The wiring to lightning. Networks and losses know nothing of it.

Resume is bit-identical on a CPU because nothing is drawn from a state that grows: the order of
images comes from (seed, epoch), every draw of a step from (seed, step), and both are counted in
the checkpoint.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from lineside_trainer.data import Augmentation, Batch, Batches, augment_batch
from lineside_trainer.data.draws import SharedGenerator
from lineside_trainer.durable import write_tensors
from lineside_trainer.errors import TrainerError
from lineside_trainer.experiment import FitSettings, RunSettings
from lineside_trainer.learning.descent import make_optimizer, plateau_rate, rate_factor
from lineside_trainer.learning.learner import Learner
from lineside_trainer.learning.processes import mean_of_all, tell_all, this_place
from lineside_trainer.learning.progress import Progress
from lineside_trainer.runs.logbook import Logbook, Row

LAST: Final = "last.ckpt"
BEST: Final = "best.pt"
METRICS: Final = "metrics.csv"
OURS: Final = "lineside"
"""Key of our own state in a checkpoint; the others are lightning's."""

_STEPS_A_SEED: Final = 1_000_003  # a prime, so that (seed, step) and (seed + 1, step') rarely meet
_RANKS_A_SEED: Final = 2_147_483_647


@dataclass(frozen=True, kw_only=True)
class FitData:
    """What a fit reads.

    Attributes:
        training: shuffled; an epoch a pass.
        judging: in order; its mean `Learner.judge` chooses the epoch that is kept.
        image_size_hw: height and width in pixels.
        digest: of the images; a checkpoint goes on only with the same.
    """

    training: Batches
    judging: Batches
    image_size_hw: tuple[int, int]
    digest: str


class FitModule(LightningModule):
    """A learner, its averaged twin, its batches and its logbook: all that a checkpoint holds."""

    loss_sum: Tensor

    def __init__(
        self,
        learner: Learner,
        data: FitData,
        *,
        settings: FitSettings,
        augment: Augmentation,
        seed: int,
        bf16: bool,
    ) -> None:
        super().__init__()
        self.learner = learner
        self.averaged = copy.deepcopy(learner).requires_grad_(False) if settings.ema else None
        self.register_buffer("loss_sum", torch.zeros((), dtype=torch.float64), persistent=True)
        self.logbook = Logbook()
        self._data = data
        self._settings = settings
        self._augment = augment
        self._seed = seed
        self._bf16 = bf16
        self.place = this_place()

    @property
    def judged(self) -> Learner:
        """Whose weights are judged and kept."""
        return self.learner if self.averaged is None else self.averaged

    @property
    def steps_an_epoch(self) -> int:
        """Optimiser steps."""
        return len(self._data.training)

    @property
    def steps(self) -> int:
        """Of the whole fit."""
        return self.steps_an_epoch * self._settings.epochs

    @property
    def stale(self) -> bool:
        """No epoch has been better for `patience` epochs: going on is given up."""
        rows, patience = self.logbook.rows, self._settings.patience
        return 0 < patience <= (rows[-1].epoch - self.logbook.best_epoch if rows else 0)

    def train_dataloader(self) -> Batches:
        return self._data.training

    def configure_optimizers(self) -> Any:
        optimizer = make_optimizer(self.learner.layers(), self._settings)
        if self._settings.schedule == "plateau":
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"]
            return optimizer
        steps, warmup_share = self.steps, self._settings.warmup_share
        schedule = LambdaLR(optimizer, lambda step: rate_factor(step, steps, warmup_share))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        if self._settings.schedule == "plateau":
            # Of the logbook alone, which a checkpoint holds: nothing else is there to be resumed.
            judgements = [row.validation for row in self.logbook.rows]
            share = plateau_rate(judgements, self._settings)
            for group in self.trainer.optimizers[0].param_groups:
                group["lr"] = group["initial_lr"] * share

    def training_step(self, batch: Batch, _: int) -> Tensor:
        step_seed = self._seed * _STEPS_A_SEED + self.global_step
        rank, world_size = self.place.rank, self.place.size
        # For layers that draw for themselves; they know nothing of other processes' images.
        torch.manual_seed(step_seed + _RANKS_A_SEED * rank)
        generator = SharedGenerator.seeded(step_seed, rank=rank, world_size=world_size)
        images_nchw = batch.images_nhwc.permute(0, 3, 1, 2)
        augmented = augment_batch(images_nchw, self._augment, generator).permute(0, 2, 3, 1)
        # Lightning's own autocast refuses fused AdamW with clipping, and casts weights each time.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
            loss = self.learner.loss(augmented, batch.targets, generator)
        self.loss_sum += loss.detach()
        return loss

    def on_after_backward(self) -> None:
        self.learner.after_backward()

    def share_loss(self) -> None:
        """Let the sum of losses be that of all processes' images, as each of them must save it."""
        mean_of_all(self.loss_sum)

    def average(self) -> None:
        """Move the twin towards the learner; slower with every step, as far as `ema` says.

        Batch norm's running figures move along: the twin never sees a batch of its own.
        """
        if self.averaged is None:
            return
        done = self.global_step
        past = min(self._settings.ema, (1 + done) / (10 + done))
        pairs = zip(self.averaged.parameters(), self.learner.parameters(), strict=True)
        for twin, own in pairs:
            twin.lerp_(own.detach(), 1.0 - past)
        figures = zip(self.averaged.buffers(), self.learner.buffers(), strict=True)
        for kept, seen in figures:
            if kept.is_floating_point():
                kept.lerp_(seen, 1.0 - past)
            else:
                kept.copy_(seen)

    @torch.no_grad()
    def judge(self) -> float:
        """Mean judgement over the judging images, in fp32, with the same draws every time."""
        judged = self.judged.eval()
        generator = torch.Generator().manual_seed(self._seed)
        figures = [
            judged.judge(
                batch.images_nhwc.to(self.device), batch.targets.to(self.device), generator
            ).double()
            for batch in self._data.judging
        ]
        judged.train()
        return float(torch.cat(figures).mean())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[OURS] = {"digest": self._data.digest, "logbook": self.logbook.state_dict()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        ours = checkpoint[OURS]
        if ours["digest"] != self._data.digest:
            raise TrainerError(
                "the images have changed since the checkpoint was made "
                f"(SHA-256 {ours['digest'][:16]}…, now {self._data.digest[:16]}…); "
                "bring the old ones back, or begin a new run"
            )
        self.logbook.load_state_dict(ours["logbook"])


class Keeper:
    """At each epoch's end: judge, write down, keep the best, save where to go on.

    All of it happens when the epoch's last step ends, because lightning goes on exactly from
    there; its own validation loop and end-of-epoch hooks run twice or never after a resume.
    """

    def __init__(self, folder: Path, run: RunSettings, progress: Progress) -> None:
        self._folder = folder
        self._run = run
        self._saved_s = time.monotonic()
        self._progress = progress
        self._epoch_started_s = time.monotonic()
        self._images = 0

    def begin(self, module: FitModule) -> None:
        """Training starts, perhaps in the middle."""
        self._progress.start(module.steps, module.global_step)
        if module.stale:  # gone on with after it had stopped early
            module.trainer.should_stop = True
        self._epoch_started_s = time.monotonic()

    def after_step(self, module: FitModule, images: int) -> bool:
        """True when `last.ckpt` is due.

        Raises:
            TrainerError: the loss is no number any more, or the learner sees no use in going on.
            StorageError: the disk is full, read-only or gone.
        """
        module.average()
        self._progress.step()
        self._images += images * module.place.size
        step = module.global_step
        ended = step % module.steps_an_epoch == 0
        if ended:
            self._end_epoch(module, step)
        stops = ended and module.stale
        if stops:
            module.trainer.should_stop = True
        due = self._is_due(ended=ended, step=step, last=stops or step == module.steps)
        if ended:  # what hangs on clocks and on judging is the first process's to say
            stop = module.trainer.should_stop
            due, module.trainer.should_stop = map(bool, tell_all([int(due), int(stop)]))
        if due:
            module.share_loss()
            self._saved_s = time.monotonic()
        return due

    def _is_due(self, *, ended: bool, step: int, last: bool) -> bool:
        every_steps = self._run.checkpoint_every_steps
        if last or (every_steps > 0 and step % every_steps == 0):
            return True
        return ended and time.monotonic() - self._saved_s >= self._run.checkpoint_every_s

    def _end_epoch(self, module: FitModule, step: int) -> None:
        module.share_loss()
        loss = float(module.loss_sum) / module.steps_an_epoch
        if not math.isfinite(loss):
            raise TrainerError(
                f"the loss is {loss} after {step} steps: lower --lr, or raise fit.warmup_share"
            )
        if module.place.is_first:
            self._write_down(module, step, loss)
        module.loss_sum.zero_()
        self._images = 0
        self._epoch_started_s = time.monotonic()

    def _write_down(self, module: FitModule, step: int, loss: float) -> None:
        trained_s = time.monotonic() - self._epoch_started_s
        row = Row(
            epoch=step // module.steps_an_epoch - 1,
            step=step,
            training_loss=loss,
            validation=module.judge(),
            lr=module.trainer.optimizers[0].param_groups[-1]["lr"],
            seconds=time.monotonic() - self._epoch_started_s,
            images_per_s=self._images / max(trained_s, 1e-9),
            vitals=module.judged.vitals(),
        )
        if module.logbook.add(row, newest=module.judged.keeps_last):
            weights = {name: t.cpu() for name, t in module.judged.kept.state_dict().items()}
            write_tensors(self._folder / BEST, {"weights": weights, "epoch": row.epoch})
        module.logbook.write_csv(self._folder / METRICS)
        self._progress.epoch(row)
        module.judged.heed(module.logbook.rows)
