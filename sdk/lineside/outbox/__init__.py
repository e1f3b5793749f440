"""The durable spool between inspection and the broker: nothing given is ever lost."""

from lineside.outbox.audit import AuditReport, Gap, audit, first_seq_since
from lineside.outbox.entry import JournalEntry, RegionEntry, decode_entry, encode_entry
from lineside.outbox.reading import (
    Journal,
    Standing,
    StoredEntry,
    StoredNote,
    StoredVerdict,
    open_journal,
)
from lineside.outbox.received import Difference, Heard, ReceivedReport, compare_received
from lineside.outbox.records import Draft, Late, Note, Notebook, Row, Stamp
from lineside.outbox.settings import OutboxSettings
from lineside.outbox.spool import Outbox

__all__ = [
    "AuditReport",
    "Difference",
    "Draft",
    "Gap",
    "Heard",
    "Journal",
    "JournalEntry",
    "Late",
    "Note",
    "Notebook",
    "Outbox",
    "OutboxSettings",
    "ReceivedReport",
    "RegionEntry",
    "Row",
    "Stamp",
    "Standing",
    "StoredEntry",
    "StoredNote",
    "StoredVerdict",
    "audit",
    "compare_received",
    "decode_entry",
    "encode_entry",
    "first_seq_since",
    "open_journal",
]
