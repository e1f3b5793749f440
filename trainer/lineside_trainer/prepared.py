"""From `data` settings to what a fit reads: table, split, store, figures of the training fold."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lineside.contract import InputSpec
from lineside_trainer.data import (
    Batches,
    ImageStore,
    Split,
    Table,
    check_numbers,
    read_table,
    split_table,
)
from lineside_trainer.errors import DataError, ExperimentError
from lineside_trainer.experiment import Experiment, FitSettings
from lineside_trainer.learning.loop import FitData
from lineside_trainer.learning.processes import ALONE, Place, this_place, wait_for_others
from lineside_trainer.models import Normalise, check_model
from lineside_trainer.models.vit import SHAPES
from lineside_trainer.tasks import label_kind, least_classes

IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """One data set, ready.

    Attributes:
        table: every usable image.
        split: rows by sample set.
        store: their pixels as the model sees them.
        input: what the model takes.
        channel_mean: of the training fold, 0..255.
        channel_std: likewise.
    """

    table: Table
    split: Split
    store: ImageStore
    input: InputSpec
    channel_mean: tuple[float, ...]
    channel_std: tuple[float, ...]

    @property
    def digest(self) -> str:
        """SHA-256 (64 hex) over pixels, targets and split: what a resumed run must find again."""
        text = f"{self.store.digest} {self.split.data_sha256} {self.split.seed} {self.split.by} "
        text += "\0".join(self.table.classes)
        return hashlib.sha256(text.encode() + self.table.targets.tobytes()).hexdigest()

    @property
    def unused(self) -> dict[str, str]:
        """The reason by file, of what serves nothing, or pre-training alone."""
        entries = (*self.table.rejected, *self.table.unlabelled)
        return {entry.file: entry.reason for entry in entries}

    def normalise(self) -> Normalise:
        """A fresh normalisation layer."""
        return Normalise(self.channel_mean, self.channel_std)

    def labelled(self, name: str) -> IntArray:
        """Rows of a sample set that have a target.

        Raises:
            DataError: there is none.
        """
        rows = self.split.indices[name]
        rows = rows[~np.isnan(self.table.targets[rows])]
        if not len(rows):
            wanted = "class" if self.table.classes else "number"
            raise DataError(
                f"{self.table.folder}: no image of the {name} samples has a {wanted} in column "
                f"{self.table.target!r}; label some, or take another data.split_seed"
            )
        return rows

    def batches(
        self,
        training: IntArray,
        judging: IntArray,
        *,
        taught: IntArray | None = None,
        settings: FitSettings,
        seed: int,
        device: str,
    ) -> FitData:
        """Batches of these rows; targets come along where the table has them.

        Args:
            training: rows to learn from.
            judging: rows that choose the epoch.
            taught: rows besides `training` to learn from, whose targets are withheld.
            settings: of the fit.
            seed: of the order.
            device: where the images are kept.

        Raises:
            DataError: no rows.
        """
        place = this_place()
        store = self.store.to(device)
        targets = None if self.table.target is None else self.table.targets
        if targets is not None and taught is not None and len(taught):
            targets = targets.copy()
            targets[taught] = np.nan
            training = np.union1d(training, taught)

        def make(rows: IntArray, *, shuffle: bool, shared: Place) -> Batches:
            return Batches(
                store,
                rows,
                targets,
                batch_size=settings.batch_size,
                seed=seed,
                shuffle=shuffle,
                drop_last=shuffle,
                withheld=taught,
                rank=shared.rank,
                world_size=shared.size,
            )

        return FitData(
            training=make(training, shuffle=True, shared=place),
            judging=make(judging, shuffle=False, shared=ALONE),
            image_size_hw=self.input.size_hw,
            digest=self.digest,
        )


def prepare_data(experiment: Experiment, *, target: str | None, folder: Path) -> Prepared:
    """Read, split, decode.

    Args:
        experiment: `data` and `model` count.
        target: column to learn; None for pre-training.
        folder: of the run, for a store too large for memory.

    Raises:
        DataError: the folder, its table or its images cannot be used.
        ExperimentError: a network that is unknown or cannot take the image size.
    """
    settings = experiment.data
    if not settings.folder:
        raise ExperimentError("data.folder: no images are named; give --data DIR")
    check_model(experiment.model, settings.image_size_hw)
    table = read_table(
        Path(settings.folder),
        target=target,
        group=settings.group or None,
        split_column=settings.split_column or None,
        labels="number" if target is None else label_kind(experiment.train),
        least_classes=least_classes(experiment.train),
        strict=settings.strict,
    )
    check_numbers(table)
    _check_sizes(table, experiment)
    split = split_table(table, seed=settings.split_seed, assurance_share=settings.assurance_share)
    channels = settings.channels or table.frame.channels
    model_input = InputSpec(size_hw=settings.image_size_hw, channels=channels)
    store = _store(table, model_input, folder)
    mean, std = channel_figures(store, split.fold("training"))
    return Prepared(
        table=table,
        split=split,
        store=store,
        input=model_input,
        channel_mean=mean,
        channel_std=std,
    )


def _check_sizes(table: Table, experiment: Experiment) -> None:
    """Enlarged until a patch holds less than a pixel, a picture has nothing to show."""
    model = experiment.model
    if table.smallest_hw is None or model.arch not in SHAPES:
        return
    height, width = table.smallest_hw
    if min(height, width) < model.patch_px:
        raise DataError(
            f"{table.folder / table.smallest}: {height}x{width} px (height x width) is smaller "
            f"than a patch of {model.patch_px} px; take it out, or choose a smaller --patch "
            "(model.patch_px)"
        )


def _store(table: Table, model_input: InputSpec, folder: Path) -> ImageStore:
    """Each process its own in memory; too large for that, all map the file that the first wrote."""
    if not this_place().is_first and ImageStore.is_mapped(table, model_input):
        wait_for_others()
        return ImageStore.open(folder, table, model_input)
    store = ImageStore.build(table, model_input, folder=folder)
    wait_for_others()
    return store


def channel_figures(
    store: ImageStore, rows: IntArray
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, exact, without a float copy of the images.

    Args:
        store: of the images.
        rows: (M,) which of them count, at least one.

    Returns:
        Means and standard deviations, one a channel, both in 0..255.
    """
    channels = int(store.images_nhwc.shape[3])
    counts = np.zeros((channels, 256), dtype=np.int64)
    images = store.images_nhwc.numpy()
    for row in rows:
        for channel in range(channels):
            counts[channel] += np.bincount(images[row, :, :, channel].ravel(), minlength=256)
    values = np.arange(256, dtype=np.float64)
    total = counts.sum(axis=1)
    mean = counts @ values / total
    variance = counts @ values**2 / total - mean**2
    return tuple(mean.tolist()), tuple(np.sqrt(np.maximum(variance, 0.0)).tolist())
