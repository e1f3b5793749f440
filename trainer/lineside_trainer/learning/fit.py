"""Run the loop: lightning's trainer, set up to be quiet, exact and durable."""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from lineside_trainer.data import Augmentation, Batch
from lineside_trainer.durable import read_tensors, read_weights, write_tensors
from lineside_trainer.errors import ExperimentError, TrainerError
from lineside_trainer.experiment import FitSettings, RunSettings
from lineside_trainer.learning.device import choose_device, choose_precision, memory_advice
from lineside_trainer.learning.learner import Learner
from lineside_trainer.learning.loop import BEST, LAST, OURS, FitData, FitModule, Keeper
from lineside_trainer.learning.processes import (
    Helped,
    Place,
    cluster_environment,
    lost_peer,
    this_place,
)
from lineside_trainer.learning.progress import Progress
from lineside_trainer.models import use_fused_attention
from lineside_trainer.runs.logbook import Row


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """How a fit ended.

    Attributes:
        rows: one an epoch.
        best_epoch: which one was kept, from 0.
        best_value: its mean judgement.
        device: "cpu" or "cuda".
        precision: "fp32" or "bf16".
    """

    rows: tuple[Row, ...]
    best_epoch: int
    best_value: float
    device: str
    precision: str


def fit(
    learner: Learner,
    data: FitData,
    *,
    settings: FitSettings,
    augment: Augmentation,
    run: RunSettings,
    folder: Path,
    resume: bool,
    progress: Progress,
) -> FitResult:
    """Train; the learner ends on the CPU with the best epoch's weights, which `best.pt` holds too.

    Args:
        learner: changed in place.
        data: what it learns from.
        settings: how.
        augment: what training images go through.
        run: where.
        folder: `last.ckpt`, `best.pt` and `metrics.csv` go there.
        resume: go on from `last.ckpt` where there is one.
        progress: hears of every step.

    Raises:
        Helped: this process is not the first, and is done.
        ExperimentError: the network cannot learn in several processes.
        OutOfMemoryError: with advice.
        TrainerError: the loss is no number any more, or the checkpoint is damaged or of other data.
        StorageError: a checkpoint cannot be written.
        KeyboardInterrupt: the user stopped it; the last checkpoint stays.
    """
    device = choose_device(run)
    precision = choose_precision(run, device)
    use_fused_attention(learner, fused=device == "cuda")
    bf16 = precision == "bf16"
    place = this_place()
    check_shareable(learner, place, device)
    module = FitModule(learner, data, settings=settings, augment=augment, seed=run.seed, bf16=bf16)
    keeper = Keeper(folder, run, progress)
    trainer = _make_trainer(settings, device, place, _KeeperCallback(keeper, folder))
    size_hw = data.image_size_hw
    checkpoint = folder / LAST if resume and (folder / LAST).exists() else None
    with (
        memory_advice(batch_size=settings.batch_size, image_size_hw=size_hw, precision=precision),
        lost_peer(),
    ):
        _run(trainer, module, checkpoint)
    if not place.is_first:
        raise Helped
    learner.kept.load_state_dict(read_weights(folder / BEST))
    book = module.logbook
    return FitResult(
        rows=tuple(book.rows),
        best_epoch=book.best_epoch,
        best_value=book.best_value,
        device=device,
        precision=precision,
    )


def check_shareable(learner: nn.Module, place: Place, device: str) -> None:
    """Refuse what several processes would not learn as one does.

    Raises:
        ExperimentError: batch norm on CPUs: each process would normalise by its own share; or a
            learner that says why it learns alone.
    """
    if place.size > 1 and isinstance(learner, Learner) and learner.alone:
        raise ExperimentError(
            f"run.devices: {learner.alone}, so it learns in one process: leave --devices away"
        )
    normed = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in learner.modules())
    if place.size > 1 and normed and device == "cpu":
        raise ExperimentError(
            "run.devices: this network has batch norm, which torch shares between processes on "
            "GPUs only; on a CPU take one process, or a network without it (a ViT, Swin)"
        )


class _KeeperCallback(Callback):
    """Hands lightning's events to the keeper."""

    def __init__(self, keeper: Keeper, folder: Path) -> None:
        self._keeper = keeper
        self._last = folder / LAST

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        module = _as_fit(pl_module)
        if module.place.size > 1 and threading.current_thread() is threading.main_thread():
            # Lightning's own handler waits for processes that may have ended.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._keeper.begin(module)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,  # noqa: ARG002
        batch: Batch,
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        if self._keeper.after_step(_as_fit(pl_module), len(batch.positions)):
            trainer.save_checkpoint(self._last)


def _as_fit(module: LightningModule) -> FitModule:
    assert isinstance(module, FitModule), "the callback belongs to our module alone"
    return module


class _DurableCheckpoints(TorchCheckpointIO):
    """Lightning's own are renamed into place but not flushed first, and read with its errors."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: Any = None,  # noqa: ARG002
    ) -> None:
        write_tensors(Path(path), checkpoint)

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Any = None,  # noqa: ARG002
        weights_only: bool | None = True,  # noqa: ARG002
    ) -> dict[str, Any]:
        content = read_tensors(Path(path))
        if OURS not in content:
            raise TrainerError(f"{path}: not a checkpoint of this trainer; begin a new run")
        return content


def _make_trainer(settings: FitSettings, device: str, place: Place, callback: Callback) -> Trainer:
    many = place.size > 1
    with _quiet():
        return Trainer(
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=place.local_size,
            num_nodes=place.nodes,
            # Our own buffers differ from process to process; batch norm's agree by themselves.
            strategy=DDPStrategy(broadcast_buffers=False) if many else "auto",
            sync_batchnorm=many and device == "cuda",
            precision="32-true",
            max_epochs=settings.epochs,
            gradient_clip_val=settings.grad_clip or None,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            callbacks=[callback],
            plugins=[_DurableCheckpoints(), cluster_environment(place)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )


def _run(trainer: Trainer, module: FitModule, checkpoint: Path | None) -> None:
    with _quiet():
        try:
            trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
        except SystemExit as stop:
            # Lightning turns Ctrl-C into an exit; the command line has its own words and status.
            raise KeyboardInterrupt from stop


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's advice is about loaders and loggers that we leave out on purpose."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
