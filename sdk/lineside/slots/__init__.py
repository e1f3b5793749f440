"""Two slots for a bundle: install aside, try, confirm or revert; never neither."""

from lineside.slots.folder import FolderStorage, open_store
from lineside.slots.locks import lock_station
from lineside.slots.record import Incoming, Record, Reverted, Slot, SlotCard, SlotState
from lineside.slots.simulated import FlashMisuseError, PowerCut, SimulatedFlash
from lineside.slots.storage import Area, SlotName, Storage
from lineside.slots.store import Store

__all__ = [
    "Area",
    "FlashMisuseError",
    "FolderStorage",
    "Incoming",
    "PowerCut",
    "Record",
    "Reverted",
    "SimulatedFlash",
    "Slot",
    "SlotCard",
    "SlotName",
    "SlotState",
    "Storage",
    "Store",
    "lock_station",
    "open_store",
]
