"""What every task offers besides its loss."""

from __future__ import annotations

from abc import abstractmethod

from torch import nn

from lineside.contract import HeadSpec, OutputSpec
from lineside_trainer.learner import Learner
from lineside_trainer.models import Backbone


class Task(Learner):
    """A learner whose network is exported."""

    @property
    @abstractmethod
    def network(self) -> nn.Module:
        """(N, H, W, C) uint8 to the outputs that `outputs` names, in order."""

    @property
    @abstractmethod
    def backbone(self) -> Backbone:
        """The part that pre-training prepares."""

    @abstractmethod
    def outputs(self) -> tuple[OutputSpec, ...]:
        """What the network gives."""

    @abstractmethod
    def head(self) -> HeadSpec:
        """How its outputs become a score."""
