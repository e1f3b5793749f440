"""A vendor's exception, in one line, for our own error's message."""

from __future__ import annotations

from typing import Final

# What compiled extensions raise beside their own classes: pybind11 turns C++'s standard
# exceptions into these (pybind11, "Built-in C++ to Python exception translation").
BUILTIN_FAULTS: Final[tuple[type[Exception], ...]] = (
    ArithmeticError,
    AttributeError,
    BufferError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def told(error: BaseException) -> str:
    """The message on one line, without the places in the vendor's sources."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith("Exception from ")]
    return f"{type(error).__name__}: {' '.join(kept) or 'no message'}"
