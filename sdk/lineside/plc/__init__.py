"""The PLC's side: its types, its limits, and its function block as a simulator runs it."""

from lineside.plc.block import BlockCode, BlockInput, BlockOutput, BlockSettings, PlcBlock
from lineside.plc.declarations import DIALECTS, declare
from lineside.plc.reading import HeardState, HeardVerdict, read_state, read_verdict

__all__ = [
    "DIALECTS",
    "BlockCode",
    "BlockInput",
    "BlockOutput",
    "BlockSettings",
    "HeardState",
    "HeardVerdict",
    "PlcBlock",
    "declare",
    "read_state",
    "read_verdict",
]
