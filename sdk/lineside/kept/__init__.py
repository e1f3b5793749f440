"""Frames that a station keeps for the trainer, what humans said of them, and the way back."""

from lineside.kept.collected import COLUMNS, Collected, write_collection
from lineside.kept.collecting import CollectedFrame, Collection, Journal, JournalRow, collect
from lineside.kept.dispositions import Disposition, decode_disposition, disposition_note
from lineside.kept.facts import KeptFacts, read_facts
from lineside.kept.nearness import Nearness
from lineside.kept.ring import Ring
from lineside.kept.scribe import Scribe
from lineside.kept.settings import KeepSettings

__all__ = [
    "COLUMNS",
    "Collected",
    "CollectedFrame",
    "Collection",
    "Disposition",
    "Journal",
    "JournalRow",
    "KeepSettings",
    "KeptFacts",
    "Nearness",
    "Ring",
    "Scribe",
    "collect",
    "decode_disposition",
    "disposition_note",
    "read_facts",
    "write_collection",
]
