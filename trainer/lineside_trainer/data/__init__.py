"""From a folder to batches: table, split, store, augmentation."""

from lineside_trainer.data.augment import NO_AUGMENTATION, Augmentation, augment_batch
from lineside_trainer.data.batches import Batch, Batches
from lineside_trainer.data.layouts import Rejected
from lineside_trainer.data.split import SET_NAMES, Split, read_split, split_table, write_split
from lineside_trainer.data.store import ImageStore
from lineside_trainer.data.table import LabelKind, Record, Table, check_numbers, read_table

__all__ = [
    "NO_AUGMENTATION",
    "SET_NAMES",
    "Augmentation",
    "Batch",
    "Batches",
    "ImageStore",
    "LabelKind",
    "Record",
    "Rejected",
    "Split",
    "Table",
    "augment_batch",
    "check_numbers",
    "read_split",
    "read_table",
    "split_table",
    "write_split",
]
