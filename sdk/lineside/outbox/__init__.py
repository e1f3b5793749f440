"""The durable spool between inspection and the broker: nothing given is ever lost."""

from lineside.outbox.entry import JournalEntry, RegionEntry, decode_entry, encode_entry
from lineside.outbox.records import Draft, Late, Note, Row, Stamp
from lineside.outbox.settings import OutboxSettings
from lineside.outbox.spool import Outbox

__all__ = [
    "Draft",
    "JournalEntry",
    "Late",
    "Note",
    "Outbox",
    "OutboxSettings",
    "RegionEntry",
    "Row",
    "Stamp",
    "decode_entry",
    "encode_entry",
]
