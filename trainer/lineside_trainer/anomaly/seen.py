"""What a detector makes of sample images, and what pictures of them are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lineside_trainer.anomaly.goodness import Goodness
from lineside_trainer.evaluate.anomaly_limit import LimitProposal
from lineside_trainer.evaluate.anomaly_pictures import Scored
from lineside_trainer.prepared import IntArray, Prepared

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a detector makes of some images.

    Attributes:
        rows: (N,) of the table.
        bad: (N,) bool.
        scores: by name, (N,) each; the chosen one first.
        maps: (N, h, w) float32.
    """

    rows: IntArray
    bad: NDArray[np.bool_]
    scores: Mapping[str, FloatArray]
    maps: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What pictures are made of.

    Attributes:
        prepared: the images.
        goodness: of them.
        test: what the detector made of the test images.
        exported: the score that the candidate gives.
        limits: by score's name.
        region: beyond which map values make a region.
        trivial: (N,) each, scores that need no model.
    """

    prepared: Prepared
    goodness: Goodness
    test: Seen
    exported: str
    limits: Mapping[str, LimitProposal]
    region: LimitProposal
    trivial: Mapping[str, FloatArray]

    @property
    def limit(self) -> float:
        """Scores above it are `NOT_OK`."""
        return self.limits[self.exported].limit

    def scored(self, place: int) -> Scored:
        """One of the test images."""
        row = int(self.test.rows[place])
        name = self.goodness.classes[int(self.prepared.table.targets[row])]
        return Scored(
            image_hwc=self.prepared.store.rows(torch.tensor([row]))[0].numpy(),
            true_class=name,
            bad=bool(self.test.bad[place]),
            score=float(self.chosen[place]),
        )

    @property
    def chosen(self) -> FloatArray:
        """(N,) the score that the candidate gives."""
        return self.test.scores[self.exported]
