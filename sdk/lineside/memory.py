"""The patches that a model compares an image's with: as a bundle's part, and as a candidate's file.

The part is nothing but rows: M x width little-endian float32, so that it is mapped and handed to an
engine as it lies in the file. How many there are follows from its size.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lineside.contract import MemorySpec
from lineside.durable import write_durably
from lineside.errors import BundleFormatError, InputDataError

MEMORY_PART: Final = "memory.f32"
VALUE_BYTES: Final = 4

Rows = NDArray[np.float32]
"""(M, width) float32, M at least 1, finite."""


def memory_size_fault(size_bytes: int, spec: MemorySpec) -> str:
    """Why a part of this size holds no memory, "" where it may. Pure."""
    row_bytes = VALUE_BYTES * spec.width
    if size_bytes and size_bytes % row_bytes == 0:
        return ""
    return (
        f"{size_bytes} bytes; a memory is one row or more of {spec.width} float32 values, "
        f"{row_bytes} bytes each: export the bundle again"
    )


def view_memory(data: memoryview, spec: MemorySpec, *, source: str) -> Rows:
    """A part's rows, read-only and without a copy (big-endian machines need one).

    Args:
        data: the part's bytes.
        spec: of the contract.
        source: named in errors.

    Raises:
        BundleFormatError: another size, or a value that is not finite.
    """
    fault = memory_size_fault(len(data), spec)
    if fault:
        raise BundleFormatError(f"{source}: {fault}")
    rows = np.frombuffer(data, "<f4").reshape(-1, spec.width).astype(np.float32, copy=False)
    fault = _values_fault(rows)
    if fault:
        raise BundleFormatError(f"{source}: {fault}: export the bundle again")
    return rows


def encode_memory(rows: Rows) -> memoryview:
    """The bytes of the part `MEMORY_PART`; no copy where the rows lie as the file has them."""
    return np.ascontiguousarray(rows, "<f4").data.cast("B")


def write_memory(path: Path, rows: Rows, spec: MemorySpec) -> None:
    """Write a candidate's `memory.npy` aside, flush, and rename into place.

    Raises:
        InputDataError: they are none that such a contract takes.
        StorageError: the disk is full, read-only or not ours.
    """
    _check(rows, spec, path)
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(rows), allow_pickle=False)
    write_durably(path, [file.getbuffer()])


def read_memory(path: Path, spec: MemorySpec) -> Rows:
    """Read a candidate's `memory.npy`; nothing in it is executed.

    Raises:
        InputDataError: missing, damaged, or none that such a contract takes.
    """
    try:
        rows = np.load(path, allow_pickle=False)
    except OSError as error:
        raise InputDataError(f"{path}: not a memory: {error.strerror or error}") from error
    # The header is an expression: damaged bytes raise whatever its parser stumbles over, and one
    # that claims more rows than there are asks for more memory than there is.
    except Exception as error:
        words = str(error) if isinstance(error, ValueError | EOFError) else "damaged"
        raise InputDataError(f"{path}: not a memory: {words}") from error
    if not isinstance(rows, np.ndarray):
        rows.close()
        raise InputDataError(f"{path}: not a memory: an archive of several arrays")
    _check(rows, spec, path)
    return np.ascontiguousarray(rows)


def _check(rows: NDArray[np.generic], spec: MemorySpec, path: Path) -> None:
    if rows.dtype != np.float32 or rows.ndim != 2 or rows.shape[1] != spec.width or not len(rows):
        raise InputDataError(
            f"{path}: {rows.dtype} {rows.shape}; the contract's memory is float32 "
            f"(M, {spec.width}), M at least 1"
        )
    fault = _values_fault(rows.astype(np.float32, copy=False))
    if fault:
        raise InputDataError(f"{path}: {fault}")


def _values_fault(rows: Rows) -> str:
    # Extremes first: NaN and infinity show in them, and no array of the memory's size is made.
    if np.isfinite(rows.min()) and np.isfinite(rows.max()):
        return ""
    row = int((~np.isfinite(rows)).any(axis=1).argmax())
    return f"row {row} holds a value that is not finite"
