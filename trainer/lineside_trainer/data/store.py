"""All images in one array: decoded once, held in memory, mapped from a file, or on the GPU."""

from __future__ import annotations

import contextlib
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from lineside.contract import InputSpec
from lineside.errors import FrameError, StorageError
from lineside.preprocess import prepare
from lineside_trainer.data.table import Progress, Table
from lineside_trainer.errors import DataError

MAPPED_FROM_BYTES: Final = 2 * 2**30
"""Arrays from this size on lie in a file that the system pages in and out."""

STORE_FILE: Final = "images.u8"
_GPU_SHARE: Final = 0.5
_HASHED_AT_ONCE_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageStore:
    """Every image of a table, prepared exactly as the device prepares a frame.

    Attributes:
        images_nhwc: (N, H, W, C) uint8, row for row the table's records.
        mapped_file: where the array lies when it is memory-mapped.
    """

    images_nhwc: torch.Tensor
    mapped_file: Path | None = None

    def __len__(self) -> int:
        return int(self.images_nhwc.shape[0])

    @property
    def device(self) -> torch.device:
        """Where the array is."""
        return self.images_nhwc.device

    @property
    def size_bytes(self) -> int:
        """Of the whole array."""
        return self.images_nhwc.numel()

    @cached_property
    def digest(self) -> str:
        """SHA-256 (64 hex) over shape and pixels; equal data give equal digests everywhere."""
        shape = "x".join(str(extent) for extent in self.images_nhwc.shape)
        sha256 = hashlib.sha256(f"uint8 nhwc {shape}\n".encode())
        rows_at_once = max(1, _HASHED_AT_ONCE_BYTES * len(self) // max(1, self.size_bytes))
        for start in range(0, len(self), rows_at_once):
            rows = self.images_nhwc[start : start + rows_at_once]
            sha256.update(rows.cpu().numpy().tobytes())
        return sha256.hexdigest()

    def to(self, device: torch.device | str) -> ImageStore:
        """The store on a GPU where half of its free memory holds it; else as it is.

        A batch from a store that stayed on the CPU is moved by whoever trains.
        """
        device = torch.device(device)
        if device.type != "cuda":
            return replace(self, images_nhwc=self.images_nhwc.to(device))
        free_bytes, _ = torch.cuda.mem_get_info(device)
        if self.size_bytes > _GPU_SHARE * free_bytes:
            return self
        return replace(self, images_nhwc=self.images_nhwc.to(device), mapped_file=None)

    def rows(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) uint8, a copy, on the store's device; ``rows`` is (B,) int64."""
        return self.images_nhwc.index_select(0, rows.to(self.device))

    @staticmethod
    def is_mapped(table: Table, model_input: InputSpec) -> bool:
        """`build` would leave the array in a file."""
        return int(np.prod(_shape(table, model_input))) >= MAPPED_FROM_BYTES

    @staticmethod
    def open(folder: Path, table: Table, model_input: InputSpec) -> ImageStore:
        """Map the file that another process has built of the same table.

        Raises:
            StorageError: it is not there, or has another size.
        """
        path = folder / STORE_FILE
        try:
            mapped = np.memmap(path, dtype=np.uint8, mode="c", shape=_shape(table, model_input))
        except (OSError, ValueError) as error:
            raise StorageError(
                f"{path}: is not what another process has written: {error}; every machine must "
                "see the same folders"
            ) from error
        return ImageStore(images_nhwc=torch.from_numpy(mapped), mapped_file=path)

    @staticmethod
    def build(
        table: Table,
        model_input: InputSpec,
        progress: Progress | None = None,
        *,
        folder: Path | None = None,
        mapped_from_bytes: int = MAPPED_FROM_BYTES,
    ) -> ImageStore:
        """Prepare every image of the table with ``lineside.preprocess.prepare``.

        Args:
            table: rows become rows of the array.
            model_input: size and channels.
            progress: called with (done, total).
            folder: where the array's file goes when it is mapped, e.g. the run's folder.
            mapped_from_bytes: arrays of this size and more are mapped.

        Raises:
            DataError: an image cannot be read any more, or a large array and no folder.
            StorageError: the disk does not hold the array.
        """
        shape = _shape(table, model_input)
        size_bytes = int(np.prod(shape))
        if size_bytes < mapped_from_bytes:
            images = np.empty(shape, dtype=np.uint8)
            _fill(images, table, model_input, progress)
            return ImageStore(images_nhwc=torch.from_numpy(images))
        if folder is None:
            raise DataError(
                f"{size_bytes / 2**30:.1f} GiB of images are more than is kept in memory; "
                "name a folder for the array's file"
            )
        return _build_mapped(folder, shape, table, model_input, progress)


def _shape(table: Table, model_input: InputSpec) -> tuple[int, ...]:
    return (len(table), *model_input.size_hw, model_input.channels)


def _build_mapped(
    folder: Path,
    shape: tuple[int, ...],
    table: Table,
    model_input: InputSpec,
    progress: Progress | None,
) -> ImageStore:
    path, aside = folder / STORE_FILE, folder / f"{STORE_FILE}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            # A hole in a mapped file that the disk cannot fill ends the process with SIGBUS.
            os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)))
        mapped = np.memmap(aside, dtype=np.uint8, mode="r+", shape=shape)
        _fill(mapped, table, model_input, progress)
        mapped.flush()
        aside.replace(path)
    except OSError as error:
        raise StorageError(
            f"{path}: {error.strerror}; the images need {int(np.prod(shape)) / 2**30:.1f} GiB there"
        ) from error
    finally:
        # Whatever went wrong, an image that cannot be read included: gigabytes must not stay.
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
    return ImageStore(images_nhwc=torch.from_numpy(mapped), mapped_file=path)


def _fill(
    images_nhwc: NDArray[np.uint8],
    table: Table,
    model_input: InputSpec,
    progress: Progress | None,
) -> None:
    def prepare_row(row: int) -> None:
        record = table.records[row]
        try:
            images_nhwc[row] = prepare(
                table.pixels(row), table.frame, model_input, source=record.name
            )
        except FrameError as error:
            raise DataError(f"{error} (it fitted when the table was made)") from error

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(prepare_row, range(len(table))), start=1):
            if progress is not None:
                progress(done, len(table))
