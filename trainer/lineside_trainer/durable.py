"""torch's files, whole or absent whatever happens while they are written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from lineside.durable import durable_file
from lineside_trainer.errors import TrainerError


def write_archive(path: Path, save: Callable[[BinaryIO], None]) -> None:
    """Let one of torch's savers write a file durably.

    Args:
        path: of the file; its folder must be there.
        save: writes into the open file.

    Raises:
        StorageError: the disk is full, read-only or gone; what was there before is untouched.
        TrainerError: torch cannot write this content.
    """
    with durable_file(path) as file:
        try:
            save(file)
        except RuntimeError as error:
            # torch's archive writer hides a full disk behind a complaint about positions.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise TrainerError(f"{path}: torch cannot write it: {error}") from error


def write_tensors(path: Path, content: dict[str, Any]) -> None:
    """Save tensors and plain values durably; `read_tensors` reads them back.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    write_archive(path, lambda file: torch.save(content, file))


def read_tensors(path: Path) -> dict[str, Any]:
    """Load what `write_tensors` wrote, onto the CPU; nothing in the file is executed.

    Raises:
        TrainerError: missing, damaged, or not such a file.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise TrainerError(f"{path}: {error.strerror}; was the run finished?") from error
    # Damaged bytes raise whatever the unpickler stumbles over; four of them, IndexError. Its words
    # are several lines, and advise to read the file in a way that executes what is in it.
    except Exception as error:
        raise TrainerError(
            f"{path}: damaged or not a checkpoint; bring a whole one back, or train again"
        ) from error
    if not isinstance(content, dict):
        raise TrainerError(f"{path}: holds no weights")
    return content


def read_weights(path: Path) -> dict[str, Tensor]:
    """Named tensors of a `best.pt`.

    Raises:
        TrainerError: missing, damaged, or not such a file.
    """
    weights = read_tensors(path).get("weights")
    if not isinstance(weights, dict):
        raise TrainerError(f"{path}: holds no weights")
    return weights
