"""Text in a column to classes: which there are, in which order, and what cannot be one."""

from __future__ import annotations

import math
from collections.abc import Iterable

from lineside_trainer.errors import DataError


def class_names(
    labels: Iterable[str | None], column: str, *, least: int = 2
) -> tuple[tuple[str, ...], list[str]]:
    """The classes of a column, sorted, and each row's.

    Whole numbers are classes whatever way they are written (`1`, `1.0`), sorted by size; everything
    else is text, sorted by code point. Empty cells and `nan` are no label.

    Args:
        labels: a cell a row; None where it is empty.
        column: its name, for errors.
        least: how many classes there must be.

    Returns:
        Names of the classes, and each row's name, "" where it has none.

    Raises:
        DataError: fractional numbers, too few classes.
    """
    texts = ["" if label is None or label.lower() == "nan" else label for label in labels]
    numbers = {text: _number(text) for text in set(texts) if text}
    if numbers and all(number is not None for number in numbers.values()):
        names = {text: _whole(number, column) for text, number in numbers.items()}
        found = sorted(set(names.values()), key=int)
        texts = [names.get(text, "") for text in texts]
    else:
        found = sorted(numbers)
    if len(found) < least:
        raise DataError(
            f"column {column!r}: "
            + (f"every label says {found[0]!r}" if found else "there is not one label")
            + (
                "; two classes at least are needed to tell apart (--task anomaly learns from one)"
                if least > 1
                else "; write which class each image is of"
            )
        )
    return tuple(found), texts


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _whole(number: float | None, column: str) -> str:
    assert number is not None, "asked of numbers only"
    if not number.is_integer():
        raise DataError(
            f"column {column!r}: {number:g} is a fraction, and no class; learn numbers with "
            "--task regression, or write names or whole numbers"
        )
    return str(int(number))
