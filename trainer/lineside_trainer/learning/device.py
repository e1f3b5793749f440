"""Which device, which precision, and what to say when its memory is too small."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from lineside_trainer.errors import ExperimentError, OutOfMemoryError
from lineside_trainer.experiment import RunSettings


def choose_device(settings: RunSettings) -> Literal["cpu", "cuda"]:
    """The device asked for, or a GPU where there is one.

    Raises:
        ExperimentError: a GPU is asked for and torch finds none.
    """
    found = torch.cuda.is_available()
    if settings.device == "cuda" and not found:
        raise ExperimentError(
            "run.device: 'cuda' was asked for and torch finds no GPU; "
            "check the driver (nvidia-smi) or use --device cpu"
        )
    return "cuda" if found and settings.device != "cpu" else "cpu"


def choose_precision(settings: RunSettings, device: str) -> Literal["fp32", "bf16"]:
    """bf16 autocast on a GPU; fp32 on a CPU, where few have fast bf16."""
    if settings.precision != "auto":
        return settings.precision
    return "bf16" if device == "cuda" else "fp32"


@contextmanager
def memory_advice(
    *, batch_size: int, image_size_hw: tuple[int, int], precision: str
) -> Iterator[None]:
    """Turn torch's out-of-memory errors into advice.

    Raises:
        OutOfMemoryError: the memory of GPU or machine did not hold a step.
    """
    try:
        yield
    except RuntimeError as error:
        on_gpu = isinstance(error, torch.OutOfMemoryError)
        # On a CPU torch has no type for it.
        if not on_gpu and "DefaultCPUAllocator" not in str(error):
            raise
        height, width = image_size_hw
        half = "" if precision == "bf16" else ", use --precision bf16"
        raise OutOfMemoryError(
            f"the {'GPU' if on_gpu else 'machine'}'s memory does not hold a step of {batch_size} "
            f"images of {height}x{width} (height x width) in {precision}: halve --batch-size to "
            f"{max(1, batch_size // 2)}{half}, take a smaller --arch or --image-size"
            f"{', or --device cpu' if on_gpu else ''}; "
            "then begin again, with another --out where this one holds a checkpoint"
        ) from error
