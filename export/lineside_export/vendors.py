"""Keep the vendors' tools silent, and their faults in our words.

Progress bars and log lines of nncf and torch would drown the one table that matters.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from lineside.engines import silence_telemetry
from lineside.errors import StorageError

_NOISY_LOGGERS: Final = (
    "root",  # onnxruntime.quantization has none of its own
    "nncf",
    "onnx_ir",
    "onnxscript",
    "torch.export",
    "torch.export.pt2_archive._package",
    "torch.onnx",
    "torch.utils._pytree",
    "torch.utils.cpp_extension",
)
TOOLS: Final = (
    *("lineside", "lineside-export"),
    *("torch", "torchao", "onnx", "onnxscript", "nncf", "onnxruntime", "openvino", "numpy"),
)


@contextlib.contextmanager
def quiet_vendors() -> Iterator[None]:
    """Nothing on stdout and no warnings in the log while vendors' tools work; errors still come."""
    silence_telemetry()
    loggers = [logging.getLogger(name if name != "root" else None) for name in _NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder of our own for tools that read and write files only; gone afterwards.

    Raises:
        StorageError: it cannot be made or written; only here is it known that it was this disk.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="lineside-export-") as folder:
            yield Path(folder)
    except OSError as error:
        raise StorageError(
            f"temporary files cannot be written: {error.strerror}: name a folder with more space "
            "in TMPDIR"
        ) from error


def tool_versions() -> dict[str, str]:
    """Installed versions of all that has a hand in the bundle's bytes."""
    found = {}
    for name in TOOLS:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def told(error: BaseException) -> str:
    """A vendor's exception on one line, cut where it becomes a report of its own."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:300] or 'no message'}"
