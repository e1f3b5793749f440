"""Do source and trigger fit together? Asked before anything is opened."""

from __future__ import annotations

from lineside.errors import ConfigurationError
from lineside.sources.camera_settings import CameraSettings
from lineside.sources.folder_files import FolderSettings
from lineside.sources.trigger_settings import FreeTrigger, IntervalTrigger, TriggerSettings
from lineside.sources.video import VideoSettings

SourceSettings = FolderSettings | VideoSettings | CameraSettings


def check_source(
    source: SourceSettings, trigger: TriggerSettings, deadline_ms: float | None
) -> None:
    """Refuse what cannot work.

    Args:
        source, trigger: the two sections.
        deadline_ms: from trigger to giving up a part; ``None`` where there is no deadline.

    Raises:
        ConfigurationError: they contradict each other; ``path`` says where.
    """
    if isinstance(trigger, FreeTrigger):
        return
    if isinstance(source, VideoSettings):
        _refuse("trigger.kind", 'a video has its own order of frames; leave it "free"')
    if isinstance(source, FolderSettings):
        _check_folder(source, trigger)
    else:
        _check_camera(trigger)
    if deadline_ms is not None and trigger.frame_timeout_ms >= deadline_ms:
        _refuse(
            "trigger.frame_timeout_ms",
            f"{trigger.frame_timeout_ms} is not below the {deadline_ms:g} that pace.deadline_ms "
            "leaves: the deadline would come before it is known that no frame comes",
        )


def _check_camera(trigger: TriggerSettings) -> None:
    if isinstance(trigger, (FreeTrigger, IntervalTrigger)):
        return
    if trigger.match is not None:
        _refuse("trigger.match", "is for folders; a camera's frame is found by its moment")


def _check_folder(source: FolderSettings, trigger: TriggerSettings) -> None:
    if isinstance(trigger, (FreeTrigger, IntervalTrigger)):
        _refuse(
            "trigger.kind",
            "the clock cannot trigger a folder, its files come when they come; leave it "
            '"free", where each file is a part, or take a camera',
        )
        return
    if trigger.match is None:
        _refuse("trigger.match", 'is missing; write "part" or "next"')
    if trigger.delay_ms:
        _refuse("trigger.delay_ms", "is for cameras; a folder's files are matched by name or order")
    if not source.watch:
        _refuse("source.watch", "must be true where files are triggered")
    latest_ms = source.settle_ms + 2 * source.poll_ms
    if trigger.frame_timeout_ms <= latest_ms:
        _refuse(
            "trigger.frame_timeout_ms",
            f"{trigger.frame_timeout_ms} must be above source.settle_ms + 2 * source.poll_ms = "
            f"{latest_ms}, the time that it takes to see that a file is complete",
        )


def _refuse(path: str, words: str) -> None:
    raise ConfigurationError(f"{path}: {words}", path=path)
