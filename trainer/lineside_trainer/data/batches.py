"""Batches from the store: an endless, resumable, shardable order that is a function of the seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from lineside_trainer.errors import DataError

_EPOCHS_A_SEED = 1_000_003  # a prime, so that (seed, epoch) and (seed + 1, epoch') rarely meet


class Rows(Protocol):
    """What batches are taken from: an `ImageStore`, or features in the images' place."""

    @property
    def device(self) -> torch.device:
        """Where the rows are."""

    def __len__(self) -> int: ...

    def rows(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C), a copy, on the store's device; ``rows`` is (B,) int64."""


class Batch(NamedTuple):
    """What one step gets.

    Attributes:
        images_nhwc: (B, H, W, C) uint8 on the store's device.
        targets: (B,) float32 on the store's device, NaN where none were given.
        positions: (B,) int64 on the CPU, rows of the store (and of the table).
    """

    images_nhwc: torch.Tensor
    targets: torch.Tensor
    positions: torch.Tensor


class Batches:
    """Iterates over chosen rows of a store; one pass is one epoch.

    The order of epoch ``e`` is drawn from (seed, e) alone, so two numbers are the whole state, and
    a loader that got them by ``load_state_dict`` yields what the first one would have.

    With several processes ``batch_size`` counts the images of all of them, and each takes its own
    slice: the union of the slices is the batch that one process would have seen.

    The last, short batch is dropped with ``drop_last`` (unless it is the only one, which a small
    fold should still learn from). Kept and shared by several processes, it is topped up from the
    epoch's start to equal slices; ``positions`` say which images came twice.
    """

    def __init__(
        self,
        store: Rows,
        indices: NDArray[np.int64],
        targets: NDArray[np.float64] | None,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool,
        drop_last: bool,
        withheld: NDArray[np.int64] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Check everything now, so that nothing fails hours into a training.

        Args:
            store: the images.
            indices: (M,) rows of the store to iterate over.
            targets: (N,) one for each row of the store, as ``Table.targets``; ``None`` for none.
            batch_size: images a step, of all processes together.
            seed: of the orders.
            shuffle: a new order each epoch; else the order of ``indices``.
            drop_last: leave out a short last batch.
            withheld: rows that may come without a target.
            rank: this process, from 0.
            world_size: how many processes.

        Raises:
            DataError: no rows, rows outside the store, a row without target, or a batch size that
                the processes cannot share evenly.
        """
        judged = indices if withheld is None else np.setdiff1d(indices, withheld)
        _check(len(store), indices, batch_size, rank, world_size)
        _check_targets(len(store), judged, targets)
        self._store = store
        self._rows = torch.from_numpy(np.array(indices, dtype=np.int64))
        wanted = np.full(len(store), np.nan) if targets is None else targets
        self._targets = torch.from_numpy(wanted.astype(np.float32)).to(store.device)
        self._batch_size = min(batch_size, -(-len(indices) // world_size) * world_size)
        self._seed = seed
        self._shuffle = shuffle
        self._drop_last = drop_last
        self._rank = rank
        self._world_size = world_size
        self._epoch = 0
        self._position = 0
        # The beginning is a state like any other: the first pass goes on from (0, 0).
        self._resumed = True

    def __len__(self) -> int:
        """Batches an epoch."""
        if self._drop_last and len(self._rows) >= self._batch_size:
            return len(self._rows) // self._batch_size
        return -(-len(self._rows) // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Go on where a loaded state stopped, else begin the next epoch."""
        if not self._resumed or self._position >= len(self):
            self._epoch, self._position = self._epoch + 1, 0
        self._resumed = False
        order = self._order(self._epoch)
        while self._position < len(self):
            start = self._position * self._batch_size
            # Counted before it is handed out: a checkpoint made in this step goes on after it.
            self._position += 1
            yield self._batch(self._slice(order, start))

    def state_dict(self) -> dict[str, int]:
        """Epoch and position, and what they only mean something with."""
        return {"epoch": self._epoch, "position": self._position, **self._meaning()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on as the loader that gave this state would have.

        Raises:
            DataError: the state is of another seed, batch size or number of images.
        """
        for key, here in self._meaning().items():
            if state.get(key) != here:
                raise DataError(
                    f"the checkpoint was made with {key} {state.get(key)}, now it is {here}; "
                    "resume with the same data and settings"
                )
        self._epoch, self._position = state["epoch"], state["position"]
        self._resumed = True

    def _meaning(self) -> dict[str, int]:
        return {
            "seed": self._seed,
            "batch_size": self._batch_size,
            "images": len(self._rows),
            "shuffle": int(self._shuffle),
            "drop_last": int(self._drop_last),
        }

    def _order(self, epoch: int) -> torch.Tensor:
        if not self._shuffle:
            return self._rows
        generator = torch.Generator().manual_seed(self._seed * _EPOCHS_A_SEED + epoch)
        return self._rows[torch.randperm(len(self._rows), generator=generator)]

    def _slice(self, order: torch.Tensor, start: int) -> torch.Tensor:
        whole = order[start : start + self._batch_size]
        missing = -len(whole) % self._world_size
        if missing:
            whole = torch.cat([whole, order[torch.arange(missing) % len(order)]])
        share = len(whole) // self._world_size
        return whole[self._rank * share : (self._rank + 1) * share]

    def _batch(self, rows: torch.Tensor) -> Batch:
        on_device = rows.to(self._store.device)
        return Batch(
            images_nhwc=self._store.rows(on_device),
            targets=self._targets.index_select(0, on_device),
            positions=rows,
        )


def _check(
    stored: int,
    indices: NDArray[np.int64],
    batch_size: int,
    rank: int,
    world_size: int,
) -> None:
    if len(indices) == 0:
        raise DataError("no images to make batches of")
    if indices.min() < 0 or indices.max() >= stored:
        raise DataError(f"rows {indices.min()}..{indices.max()} of a store with {stored} images")
    if batch_size < 1 or batch_size % world_size or not 0 <= rank < world_size:
        raise DataError(
            f"batch size {batch_size} for {world_size} process(es), rank {rank}: "
            "it must be a multiple of their number"
        )


def _check_targets(
    stored: int, indices: NDArray[np.int64], targets: NDArray[np.float64] | None
) -> None:
    if targets is None:
        return
    if len(targets) != stored:
        raise DataError(f"{len(targets)} targets for {stored} images")
    unlabelled = int(np.isnan(targets[indices]).sum())
    if unlabelled:
        raise DataError(
            f"{unlabelled} of {len(indices)} images have no target; take the labelled rows only"
        )
