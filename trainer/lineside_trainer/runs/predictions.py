"""`predictions.csv`: what a run said of every validation and test image."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lineside.durable import write_durably
from lineside_trainer.errors import TrainerError

PREDICTIONS: Final = "predictions.csv"
PREDICTED_SETS: Final = ("validation", "test")
_COLUMNS: Final = ("file", "part", "set", "target", "predicted")
_BAD: Final = "bad"
_SCORE: Final = "score:"


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a task makes of one image, in words.

    Attributes:
        target: the truth: a class name, or a number in the target's unit, written exactly.
        predicted: what the network says, likewise.
        scores: by class name, 0..1; of an anomaly run by score's name, the exported one first;
            empty where the task knows neither.
        bad: of an anomaly run: whether the true class is a defect; None of other tasks.
    """

    target: str
    predicted: str
    scores: dict[str, float] = field(default_factory=dict)
    bad: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One row.

    Attributes:
        file: relative to the data folder.
        part: the physical part.
        set: "validation" or "test".
        said: truth and prediction.
    """

    file: str
    part: str
    set: str
    said: Said

    @property
    def dispute(self) -> float:
        """How far the network is from the target: |difference| in the target's unit, or, of
        classes, 1 less the score of the true one."""
        if self.said.scores:
            return 1.0 - self.said.scores[self.said.target]
        return abs(float(self.said.predicted) - float(self.said.target))


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write the table durably; scores have a column `score:CLASS` each.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    classes = list(predictions[0].said.scores) if predictions else []
    kinds = bool(predictions) and predictions[0].said.bad is not None
    text = io.StringIO()
    # RFC 4180's line ends: with a bare line feed, Python 3.11 leaves a carriage return unquoted.
    writer = csv.writer(text, lineterminator="\r\n")
    own = [*_COLUMNS, _BAD] if kinds else _COLUMNS
    writer.writerow([*own, *(f"{_SCORE}{name}" for name in classes)])
    for row in predictions:
        said = row.said
        scores = [repr(said.scores[name]) for name in classes]
        bad = [int(said.bad)] if said.bad is not None else []
        writer.writerow([row.file, row.part, row.set, said.target, said.predicted, *bad, *scores])
    write_durably(path, [text.getvalue().encode()])


def read_predictions(path: Path) -> list[Prediction]:
    """Read what `write_predictions` wrote.

    Raises:
        TrainerError: missing, or not such a table.
    """
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise TrainerError(f"{path}: {error.strerror}; was the run finished?") from error
    except UnicodeDecodeError as error:
        raise TrainerError(f"{path}: not UTF-8 ({error.reason}); begin the run anew") from error
    try:
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        return [_read_row(row) for row in rows]
    except (csv.Error, KeyError, ValueError, TypeError) as error:
        told = f"{type(error).__name__}: {error}"
        raise TrainerError(f"{path}: no table of predictions: {told}") from error


def _read_row(row: dict[str, str]) -> Prediction:
    scores = {
        name.removeprefix(_SCORE): float(value)
        for name, value in row.items()
        if name.startswith(_SCORE)
    }
    bad = bool(int(row[_BAD])) if _BAD in row else None
    said = Said(target=row["target"], predicted=row["predicted"], scores=scores, bad=bad)
    return Prediction(file=row["file"], part=row["part"], set=row["set"], said=said)
