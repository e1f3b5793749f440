"""What both families of anomaly models are to the run that made them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from lineside_trainer.anomaly.goodness import Goodness
from lineside_trainer.anomaly.seen import Seen, Shown
from lineside_trainer.evaluate import Picture
from lineside_trainer.experiment import FitSettings
from lineside_trainer.learning.fit import FitResult
from lineside_trainer.models.detector import MAP, SCORE, Detector
from lineside_trainer.prepared import IntArray, Prepared

_AT_ONCE = 64


class Built(ABC):
    """A detector that has learnt, with what its report shows besides.

    Attributes:
        detector: in eval mode, on the CPU.
        fitted: how it learnt.
        layers: every trained parameter once.
        judged_by: what the validation figures of `fitted` are.
        chosen: the name of the score that the detector gives.
        notes: what a reader must know.
    """

    detector: Detector
    fitted: FitResult
    layers: Sequence[Sequence[nn.Parameter]]
    judged_by: str
    chosen: str
    notes: tuple[str, ...]

    def epochs(self, settings: FitSettings) -> int:
        """How many were to be done."""
        return settings.epochs

    def other_scores(self, images_nhwc: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Further scores of (N, H, W, C) uint8 images, for the report; (N,) each."""
        return {}

    @abstractmethod
    def draw(self, folder: Path, shown: Shown) -> tuple[Picture, ...]:
        """Pictures that only this family has, of the test images; `notes` tell of those that could
        not be drawn."""

    def tables(self) -> dict[str, dict[str, str]]:
        """Further tables of the report that only this family has, by heading."""
        return {}

    @torch.no_grad()
    def see(self, prepared: Prepared, goodness: Goodness, rows: IntArray) -> Seen:
        """Run on some images whose kind is known."""
        scores: dict[str, list[Tensor]] = {}
        maps: list[Tensor] = []
        self.detector.eval()
        for chosen in torch.split(torch.from_numpy(rows), _AT_ONCE):
            images = prepared.store.rows(chosen)
            given = self.detector(images, self.detector.memory)
            maps.append(given[MAP])
            named = {self.chosen: given[SCORE]} | {
                name: values
                for name, values in self.other_scores(images).items()
                if name != self.chosen
            }
            for name, values in named.items():
                scores.setdefault(name, []).append(values)
        return Seen(
            rows=rows,
            bad=goodness.known[rows] == 1.0,
            scores={name: torch.cat(parts).double().numpy() for name, parts in scores.items()},
            maps=torch.cat(maps).float().numpy(),
        )
