"""What a study will cost, before it begins: runs and image passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from lineside_trainer.data import Table, read_table, split_table
from lineside_trainer.data.joints import CYCLES
from lineside_trainer.experiment import DataSettings
from lineside_trainer.study.plan import Piece, Plan
from lineside_trainer.study.work import is_done

_TRAINING_SHARE: Final = 0.6 * 0.9
"""Of the images: the training fold less its quantisation samples."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Of one piece.

    Attributes:
        piece: which.
        images: it learns from, about; None where they are missing.
        done: nothing is left to do.
    """

    piece: Piece
    images: int | None
    done: bool

    @property
    def passes(self) -> int | None:
        """Images times epochs."""
        return None if self.images is None else self.images * self.piece.epochs


def forecast(plan: Plan, pieces: Sequence[Piece]) -> list[Forecast]:
    """Count; images are opened once a data set.

    Raises:
        DataError: a folder that cannot be used.
    """
    counter = _Counter(plan)
    return [
        Forecast(piece=piece, images=counter.images(piece), done=is_done(piece)) for piece in pieces
    ]


class _Counter:
    """Reads each data set once and splits it once a seed."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._tables: dict[DataSettings, Table] = {}
        self._counts: dict[DataSettings, int] = {}

    def images(self, piece: Piece) -> int | None:
        if piece.missing:
            return None
        data = piece.experiment.data
        if not Path(data.folder).is_dir():
            one = self._plan.study.data_sets[piece.data_set].synthetic
            assert one is not None, "a set without a folder is computed or missing"
            return round(one.parts * len(CYCLES) * _TRAINING_SHARE * piece.label_share)
        if data not in self._counts:
            split = split_table(
                self._table(data), seed=data.split_seed, assurance_share=data.assurance_share
            )
            self._counts[data] = len(split.indices["training"])
        return round(self._counts[data] * piece.label_share)

    def _table(self, data: DataSettings) -> Table:
        same = msgspec.structs.replace(data, split_seed=0, assurance_share=0.0)
        if same not in self._tables:
            self._tables[same] = read_table(
                Path(data.folder),
                target=None,
                group=data.group or None,
                split_column=data.split_column or None,
                strict=data.strict,
            )
        return self._tables[same]
