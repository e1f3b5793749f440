"""Where frames come from: one file a kind of source, all behind one protocol."""

from lineside.sources.camera_settings import CameraSettings
from lineside.sources.capture import Capture, Memory, Source
from lineside.sources.check import SourceSettings, check_source
from lineside.sources.folder import FolderSource
from lineside.sources.folder_files import FolderSettings
from lineside.sources.opening import open_source
from lineside.sources.probe import probe_camera, probe_serial_port, probe_video
from lineside.sources.trigger import Offer, Trigger, trigger_now
from lineside.sources.trigger_settings import (
    CallTrigger,
    FreeTrigger,
    IntervalTrigger,
    MqttTrigger,
    SerialTrigger,
    TriggerSettings,
)
from lineside.sources.video import VideoSettings, VideoSource

__all__ = [
    "CallTrigger",
    "CameraSettings",
    "Capture",
    "FolderSettings",
    "FolderSource",
    "FreeTrigger",
    "IntervalTrigger",
    "Memory",
    "MqttTrigger",
    "Offer",
    "SerialTrigger",
    "Source",
    "SourceSettings",
    "Trigger",
    "TriggerSettings",
    "VideoSettings",
    "VideoSource",
    "check_source",
    "open_source",
    "probe_camera",
    "probe_serial_port",
    "probe_video",
    "trigger_now",
]
