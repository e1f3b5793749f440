"""An autoencoder that has learnt to reconstruct good parts (Ulger et al.)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from lineside_trainer.ancestry.initial import InitialWeights
from lineside_trainer.anomaly.built import Built, Seen
from lineside_trainer.anomaly.goodness import Goodness
from lineside_trainer.evaluate import Picture
from lineside_trainer.experiment import Experiment
from lineside_trainer.learning.lesson import Lesson, learn
from lineside_trainer.prepared import Prepared
