"""From the sections ``[source]`` and ``[trigger]`` to a source."""

from __future__ import annotations

from lineside.sources.camera_settings import CameraSettings
from lineside.sources.camera_supply import CameraSupply, FreeCamera
from lineside.sources.capture import Memory, Source
from lineside.sources.capture_device import check_backend
from lineside.sources.check import SourceSettings, check_source
from lineside.sources.file_matching import FileMatcher
from lineside.sources.folder import FolderSource, FolderSupply
from lineside.sources.folder_files import FolderSettings
from lineside.sources.frame_matching import FrameMatcher
from lineside.sources.interval import IntervalFeed
from lineside.sources.serial_port import SerialFeed
from lineside.sources.trigger_settings import (
    FreeTrigger,
    IntervalTrigger,
    PartTrigger,
    SerialTrigger,
    TriggerSettings,
)
from lineside.sources.triggered import TriggeredSource, TriggerFeed
from lineside.sources.video import VideoSettings, VideoSource


def open_source(source: SourceSettings, trigger: TriggerSettings, *, memory: Memory) -> Source:
    """Open a source; no thread runs before `Source.captures` is asked. The caller closes it.

    A camera or a serial port that is not there is no error: it is the source's ``fault``, and is
    tried again.

    Raises:
        InputDataError: the folder or the video is not there.
        ConfigurationError: the two do not fit together, this OpenCV cannot read such a camera,
            its password cannot be read, or pyserial is not installed.
    """
    check_source(source, trigger, None)
    if isinstance(source, CameraSettings):
        check_backend(source)
        source.read_address()  # a password that is not there stops the start, not the camera
        return _open_camera(source, trigger)
    if isinstance(source, VideoSettings):
        return VideoSource(source, memory=memory)
    if isinstance(trigger, (FreeTrigger, IntervalTrigger)):
        return FolderSource(source, memory=memory)
    return _open_folder(source, trigger, memory)


def _open_camera(source: CameraSettings, trigger: TriggerSettings) -> Source:
    if isinstance(trigger, FreeTrigger):
        return FreeCamera(source)
    if isinstance(trigger, IntervalTrigger):
        delay_ms, feed = 0, _feed_of(trigger)
        # So many can wait at one time, and one that is not yet out.
        most_waiting = trigger.frame_timeout_ms // trigger.every_ms + 2
    else:
        delay_ms, feed = trigger.delay_ms, _feed_of(trigger)
        most_waiting = trigger.most_waiting
    matcher = FrameMatcher(
        delay_ns=delay_ms * 1_000_000,
        timeout_ns=trigger.frame_timeout_ms * 1_000_000,
        most_waiting=most_waiting,
        ring=source.ring,
    )
    return TriggeredSource(CameraSupply(source), matcher, feed=feed, most_waiting=most_waiting)


def _open_folder(source: FolderSettings, trigger: PartTrigger, memory: Memory) -> Source:
    assert trigger.match is not None  # check_source has looked
    matcher = FileMatcher(
        match=trigger.match,
        frame_timeout_ns=trigger.frame_timeout_ms * 1_000_000,
        part_timeout_ns=trigger.part_timeout_ms * 1_000_000,
        most_waiting=trigger.most_waiting,
    )
    supply = FolderSupply(source, memory=memory)
    feed = _feed_of(trigger)
    return TriggeredSource(supply, matcher, feed=feed, most_waiting=trigger.most_waiting)


def _feed_of(trigger: PartTrigger | IntervalTrigger) -> TriggerFeed | None:
    if isinstance(trigger, IntervalTrigger):
        return IntervalFeed(trigger.every_ms)
    return SerialFeed(trigger) if isinstance(trigger, SerialTrigger) else None
