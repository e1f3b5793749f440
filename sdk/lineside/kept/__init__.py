"""Frames that a station keeps for the trainer, what humans said of them, and the way back."""

from lineside.kept.facts import KeptFacts, read_facts
from lineside.kept.nearness import Nearness
from lineside.kept.ring import Ring
from lineside.kept.scribe import Scribe
from lineside.kept.settings import KeepSettings

__all__ = [
    "KeepSettings",
    "KeptFacts",
    "Nearness",
    "Ring",
    "Scribe",
    "read_facts",
]
