"""A figure that needs no screen, and its PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from lineside.durable import write_durably

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width_inch: float, height_inch: float) -> Figure:
    """An empty one; matplotlib is imported when it is needed."""
    # Not pyplot: it would pick a backend for a screen, and keep every figure alive.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inch, height_inch), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """As a PNG file, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    write_durably(path, [encode_figure(figure)])


def encode_figure(figure: Figure) -> bytes:
    """As PNG, 110 dots an inch."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()
