"""Tables for people: aligned columns, no frame, so that they survive pipes and narrow terminals."""

from __future__ import annotations

from collections.abc import Sequence


def format_figure(value: float | None) -> str:
    """Six significant digits; ``-`` where there is none."""
    return "-" if value is None else f"{value:.6g}"


def printable(text: str) -> str:
    """For a terminal: anybody may have written it, and what steers one is shown, not done."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def format_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()
) -> str:
    """Align columns.

    Args:
        head: the columns' names.
        rows: cells, as many as there are names.
        right: indices of columns that align right (figures).

    Returns:
        Lines without a newline at the end.
    """
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = []
    for row in (head, ["-" * width for width in widths], *rows):
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
