"""Synthetic solder joints, for those who have no data yet."""

from lineside_trainer.data.joints.folder import JointsSettings, JointsSummary, write_joints
from lineside_trainer.data.joints.part import CYCLES, Inspected, make_part

__all__ = [
    "CYCLES",
    "Inspected",
    "JointsSettings",
    "JointsSummary",
    "make_part",
    "write_joints",
]
