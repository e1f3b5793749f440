"""Random numbers for a batch that several processes share.

Each process draws for the whole batch and keeps the rows of its own images. So every image gets
what it would have got in one process, and every generator stands at the same place afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor


class SharedGenerator(torch.Generator):
    """A CPU generator that knows which share of the batch is this process's.

    Attributes:
        rank: of this process, from 0.
        world_size: how many processes share the batch.
    """

    rank: int = 0
    world_size: int = 1

    @classmethod
    def seeded(cls, seed: int, *, rank: int = 0, world_size: int = 1) -> Self:
        """A new generator; equal seeds give equal draws to the processes of one batch."""
        generator = cls()
        generator.manual_seed(seed)
        generator.rank, generator.world_size = rank, world_size
        return generator


def uniform(shape: Sequence[int], generator: torch.Generator, *, images_dim: int = 0) -> Tensor:
    """Numbers in [0, 1) for the images of this process.

    Args:
        shape: of what is wanted; its `images_dim` counts this process's images.
        generator: a `SharedGenerator`, or any other where one process has the whole batch; advances
            by the draws of the whole batch.
        images_dim: which dimension counts images.

    Returns:
        `shape` float32 on the generator's device; with one process exactly `torch.rand`.
    """
    return _own_rows(torch.rand, shape, generator, images_dim)


def normal(shape: Sequence[int], generator: torch.Generator, *, images_dim: int = 0) -> Tensor:
    """Numbers of mean 0 and standard deviation 1; else as `uniform`."""
    return _own_rows(torch.randn, shape, generator, images_dim)


def _own_rows(
    draw: Callable[..., Tensor], shape: Sequence[int], generator: torch.Generator, images_dim: int
) -> Tensor:
    if not isinstance(generator, SharedGenerator):
        return draw(tuple(shape), generator=generator, device=generator.device)
    own = shape[images_dim]
    whole = list(shape)
    whole[images_dim] = own * generator.world_size
    drawn = draw(whole, generator=generator, device=generator.device)
    return drawn.narrow(images_dim, generator.rank * own, own)
