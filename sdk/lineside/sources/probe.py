"""Is it there, and does it answer? For `lineside doctor`: opened once, looked at, closed again."""

from __future__ import annotations

import contextlib
from typing import Any

from numpy.typing import NDArray

from lineside.errors import InputDataError, LinesideError
from lineside.sources.camera_settings import CameraSettings
from lineside.sources.capture_device import CaptureDevice, check_backend, open_camera, open_film
from lineside.sources.picture_watch import PictureWatch
from lineside.sources.serial_port import probe_serial_port
from lineside.sources.video import VideoSettings
from lineside.worker import Worker

__all__ = ["probe_camera", "probe_serial_port", "probe_video"]

# The first pictures are dark while the camera finds its exposure.
_PICTURES = 5


def probe_camera(settings: CameraSettings) -> str:
    """Open a camera and take some pictures.

    Returns:
        What came, in words.

    Raises:
        ConfigurationError: this OpenCV cannot read such a camera, or the password is not there.
        InputDataError: it does not answer in time, gives no picture, or a black one.
    """
    check_backend(settings)
    found: list[str | LinesideError] = []
    worker = Worker(lambda: found.append(_told(settings)), name="lineside-probe")
    worker.start()
    # The call may hang for ever; its thread then ends with the process.
    if not worker.join(settings.open_timeout_s + settings.silence_s):
        raise InputDataError(f"{settings.place}: does not answer")
    worker.check()
    if isinstance(found[0], LinesideError):
        raise found[0]
    return found[0]


def probe_video(settings: VideoSettings) -> str:
    """Open a video and read its first frame.

    Returns:
        What is in it, in words.

    Raises:
        InputDataError: it is not there, or no video.
    """
    with contextlib.closing(open_film(settings.path)) as film:
        pixels = film.retrieve() if film.grab() else None
        if pixels is None:
            raise InputDataError(f"source.path = {settings.path}: its first frame cannot be read")
        return f"{settings.path}: {film.frame_count} frames of {_size(pixels)}"


def _told(settings: CameraSettings) -> str | LinesideError:
    try:
        return _look(settings)
    except LinesideError as error:
        return error


def _look(settings: CameraSettings) -> str:
    watch = PictureWatch(
        frozen_frames=0, black_mean=settings.black_mean, black_spread=settings.black_spread
    )
    with contextlib.closing(open_camera(settings)) as device:
        for _ in range(_PICTURES):
            pixels = _picture(device, settings.place)
        fault = watch.judge(pixels, settings.place)
        if fault is not None:
            raise fault
        wants = f"; {device.wants}" if device.wants else ""
        return f"{settings.place}: {_size(pixels)}{wants}"


def _picture(device: CaptureDevice, place: str) -> NDArray[Any]:
    pixels = device.retrieve() if device.grab() else None
    if pixels is None:
        raise InputDataError(f"{place}: opens, but gives no picture")
    return pixels


def _size(pixels: NDArray[Any]) -> str:
    return f"{pixels.shape[1]} × {pixels.shape[0]} pixels"
