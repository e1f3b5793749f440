"""What people see while it runs: a bar on a terminal, a few lines elsewhere. On stderr."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import click

from lineside_trainer.runs.logbook import Row
from lineside_trainer.runs.runfolder import REPORT

_LINES_AT_MOST = 20
_FILES_AT_MOST = 20  # where few images have labels, thousands are of no use to a task


def tell_unused(reasons: Mapping[str, str]) -> None:
    """Name files that are not used, before hours of work begin without them.

    Args:
        reasons: by file.
    """
    for file, reason in list(reasons.items())[:_FILES_AT_MOST]:
        click.echo(f"not used: {file}: {reason}", err=True)
    if len(reasons) > _FILES_AT_MOST:
        more = len(reasons) - _FILES_AT_MOST
        click.echo(f"not used: {more} more; {REPORT} names all", err=True)


class Progress:
    """Of one fit.

    Args:
        title: what is going on.
        epochs: how many.
        shown: False says nothing, as all processes but the first do.
    """

    def __init__(self, title: str, epochs: int, *, shown: bool = True) -> None:
        self._title = title
        self._epochs = epochs
        self._every = -(-epochs // _LINES_AT_MOST)
        self._shown = shown
        self._terminal = sys.stderr.isatty() and shown
        self._bar: Any = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.render_finish()

    def start(self, steps: int, done: int) -> None:
        """Begin, or go on after `done` of `steps`."""
        if self._terminal:
            self._bar = click.progressbar(
                length=steps, label=self._title, file=sys.stderr, item_show_func=_shown
            )
            self._bar.update(done)

    def step(self) -> None:
        """One more step is done."""
        if self._bar is not None:
            self._bar.update(1)

    def epoch(self, row: Row) -> None:
        """An epoch is done."""
        if self._bar is not None:
            self._bar.update(0, row)
        elif self._shown and (row.epoch % self._every == 0 or row.epoch == self._epochs - 1):
            line = f"{self._title}: epoch {row.epoch + 1}/{self._epochs}, {_shown(row)}"
            click.echo(line, err=True)


def _shown(row: Row | None) -> str | None:
    if row is None:
        return None
    return (
        f"loss {row.training_loss:.4g}, validation {row.validation:.4g}, "
        f"{row.images_per_s:.0f} images/s"
    )
