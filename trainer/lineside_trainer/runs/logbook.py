"""What is written down of a fit, epoch by epoch, and which epoch was the best so far."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from lineside.durable import write_durably


@dataclass(frozen=True, kw_only=True)
class Row:
    """One epoch.

    Attributes:
        epoch: from 0.
        step: steps done after it.
        training_loss: mean over its steps.
        validation: mean judgement after it.
        lr: of the last layer, at its last step.
        seconds: it took, judging included.
        images_per_s: training images, judging not included.
        vitals: further figures by name, of learners that have some.
    """

    epoch: int
    step: int
    training_loss: float
    validation: float
    lr: float
    seconds: float
    images_per_s: float
    vitals: dict[str, float] = field(default_factory=dict)


@dataclass(kw_only=True)
class Logbook:
    """Grows by one row an epoch; travels inside the checkpoint."""

    rows: list[Row] = field(default_factory=list)
    best_epoch: int = -1
    best_value: float = math.inf

    def add(self, row: Row, *, newest: bool = False) -> bool:
        """Write an epoch down; True where it is the best so far, or where the newest counts."""
        self.rows.append(row)
        if not newest and not row.validation < self.best_value:
            return False
        self.best_epoch, self.best_value = row.epoch, row.validation
        return True

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        rows = [asdict(row) for row in self.rows]
        return {"rows": rows, "best_epoch": self.best_epoch, "best_value": self.best_value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo `state_dict`."""
        self.rows = [Row(**row) for row in state["rows"]]
        self.best_epoch, self.best_value = state["best_epoch"], state["best_value"]

    def write_csv(self, path: Path) -> None:
        """The whole table anew, so that a resumed run leaves no epoch twice.

        Raises:
            StorageError: the disk is full, read-only or gone.
        """
        text = io.StringIO()
        own = [f.name for f in fields(Row) if f.name != "vitals"]
        names = list(dict.fromkeys(name for row in self.rows for name in row.vitals))
        writer = csv.DictWriter(text, [*own, *names], lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({name: getattr(row, name) for name in own} | row.vitals)
        write_durably(path, [text.getvalue().encode()])
