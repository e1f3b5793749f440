"""The durable spool between inspection and the broker: nothing given is ever lost."""

from lineside.outbox.records import Draft, Row, Stamp
from lineside.outbox.settings import OutboxSettings
from lineside.outbox.spool import Outbox

__all__ = ["Draft", "Outbox", "OutboxSettings", "Row", "Stamp"]
