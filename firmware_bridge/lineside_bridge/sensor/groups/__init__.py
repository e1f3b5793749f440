"""The groups that a sensor answers: two that are published, and ours."""

from lineside_bridge.sensor.groups.custom_group import CustomGroup
from lineside_bridge.sensor.groups.image_group import ImageGroup
from lineside_bridge.sensor.groups.os_group import OsGroup
from lineside_bridge.sensor.groups.outcome import Group, Outcome

__all__ = ["CustomGroup", "Group", "ImageGroup", "OsGroup", "Outcome"]
