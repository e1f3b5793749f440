"""Which places of each image are hidden: drawn for a whole batch, each image on its own."""

from __future__ import annotations

import torch
from torch import Tensor

from lineside_trainer.data.draws import uniform


def draw_hidden(images: int, places: int, hidden: int, generator: torch.Generator) -> Tensor:
    """Choose without replacement.

    Args:
        images: how many.
        places: of one image.
        hidden: how many of them are hidden, the same in every image.
        generator: of the draws; the mask is made on its device.

    Returns:
        (images, places) bool; True = hidden; exactly `hidden` in every row.
    """
    order = uniform((images, places), generator).argsort(dim=1)
    mask = torch.zeros(images, places, dtype=torch.bool, device=generator.device)
    return mask.scatter_(1, order[:, :hidden], True)
