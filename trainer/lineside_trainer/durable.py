"""Files that are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch
from torch import Tensor

from lineside.errors import StorageError
from lineside_trainer.errors import TrainerError


def write_durably(path: Path, content: bytes | Callable[[BinaryIO], None]) -> None:
    """Write aside, flush, fsync, rename, and fsync the folder, so that the name survives too.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    aside = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from error


def write_tensors(path: Path, content: dict[str, Any]) -> None:
    """Save tensors and plain values durably; `read_tensors` reads them back.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """

    def save(file: BinaryIO) -> None:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch's archive writer reports a full disk so
            raise StorageError(f"{path}: cannot be written: {error}") from error

    write_durably(path, save)


def read_tensors(path: Path, *, device: str = "cpu") -> dict[str, Any]:
    """Load what `write_tensors` wrote; nothing in the file is executed.

    Raises:
        TrainerError: missing, damaged, or not such a file.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except OSError as error:
        raise TrainerError(f"{path}: {error.strerror}; was the run finished?") from error
    except (RuntimeError, ValueError, EOFError, KeyError, UnpicklingError) as error:
        raise TrainerError(f"{path}: damaged or not a checkpoint: {error}") from error
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
