"""One open camera or film, read through OpenCV: the only place that calls ``cv2.VideoCapture``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import cv2
from numpy.typing import NDArray

from lineside.errors import ConfigurationError, InputDataError
from lineside.sources.camera_settings import Backend, CameraSettings

_APIS: Final[dict[Backend, int]] = {
    "v4l2": cv2.CAP_V4L2,
    "ffmpeg": cv2.CAP_FFMPEG,
    "gstreamer": cv2.CAP_GSTREAMER,
}


class CaptureDevice:
    """Calls may take long; whoever has something else to do calls them in a thread of its own."""

    def __init__(self, opened: Any, *, wants: str = "") -> None:
        self._opened = opened
        self.wants = wants

    def grab(self) -> bool:
        """Take the next picture off the camera; ``False``: there is none, or no more."""
        try:
            return bool(self._opened.grab())
        except cv2.error:
            return False

    def retrieve(self) -> NDArray[Any] | None:
        """The picture that was grabbed, decoded; ``None``: it cannot be."""
        try:
            good, pixels = self._opened.retrieve()
        except (cv2.error, MemoryError):
            return None
        return pixels if good else None

    @property
    def fps(self) -> float:
        """Pictures a second by its own account; 0.0 where it says none."""
        return _sane(self._opened.get(cv2.CAP_PROP_FPS))

    @property
    def frame_count(self) -> int:
        """Of a film, by its own account; 0 where it says none."""
        return int(_sane(self._opened.get(cv2.CAP_PROP_FRAME_COUNT)))

    def close(self) -> None:
        """Let the camera go."""
        self._opened.release()


def check_backend(settings: CameraSettings) -> None:
    """Whether this OpenCV can read such a camera.

    Raises:
        ConfigurationError: it was built without.
    """
    if not cv2.videoio_registry.hasBackend(_APIS[settings.read_by]):
        raise ConfigurationError(
            f"source.address: this OpenCV was built without {settings.read_by}; the wheels of PyPI "
            "read v4l2 and ffmpeg, the system's python3-opencv or JetPack's gstreamer too",
            path="source.address",
        )


def open_camera(settings: CameraSettings) -> CaptureDevice:
    """Open a camera, with user and password of this moment.

    FFmpeg's openings wait for each other within one process (OpenCV 5.0): one that hangs holds up
    all others.

    Raises:
        InputDataError: it does not answer, or not as a camera; the message holds no secret.
        ConfigurationError: the password cannot be read.
    """
    read_by, address = settings.read_by, settings.read_address()
    if isinstance(address, str) and address.startswith("/dev/") and not Path(address).exists():
        raise InputDataError(f"{settings.place}: there is no such device")
    opened = _open(address, _APIS[read_by], _timeouts(settings) if read_by == "ffmpeg" else [])
    if opened is None:
        raise InputDataError(
            f"{settings.place}: cannot be opened (unplugged, switched off, in use by another "
            "program, or this user may not?)"
        )
    wants = _ask(opened, settings) if read_by == "v4l2" else ""
    return CaptureDevice(opened, wants=wants)


def open_film(path: Path) -> CaptureDevice:
    """Open a video file.

    Raises:
        InputDataError: it is not there, or no film that can be read.
    """
    if not path.is_file():
        raise InputDataError(f"source.path = {path}: there is no such file")
    opened = _open(str(path), cv2.CAP_FFMPEG, [])
    if opened is None:
        raise InputDataError(
            f"source.path = {path}: is no video that can be read (damaged, cut short, or another "
            "format?)"
        )
    return CaptureDevice(opened)


def _open(address: int | str, api: int, parameters: list[int]) -> Any | None:
    _keep_silent()
    try:
        opened = cv2.VideoCapture(address, api, parameters)
    except cv2.error:
        return None
    if opened.isOpened():
        return opened
    opened.release()
    return None


def _keep_silent() -> None:
    """Addresses with passwords must not come to stderr; what is wrong we say ourselves.

    OpenCV reads the variable when FFmpeg is first used; -8 is FFmpeg's ``AV_LOG_QUIET``.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def _timeouts(settings: CameraSettings) -> list[int]:
    return [
        *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(settings.open_timeout_s * 1000)),
        *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(settings.silence_s * 1000)),
    ]


def _ask(opened: Any, settings: CameraSettings) -> str:
    """Ask for format and size, the format first, because it limits the sizes."""
    fourcc = None if settings.fourcc is None else cv2.VideoWriter.fourcc(*settings.fourcc)
    wishes: dict[str, tuple[int, float | None]] = {
        "fourcc": (cv2.CAP_PROP_FOURCC, fourcc),
        "width": (cv2.CAP_PROP_FRAME_WIDTH, settings.width),
        "height": (cv2.CAP_PROP_FRAME_HEIGHT, settings.height),
        "fps": (cv2.CAP_PROP_FPS, settings.fps),
    }
    asked = {name: (key, value) for name, (key, value) in wishes.items() if value is not None}
    for key, value in asked.values():
        opened.set(key, value)
    # Its own rate is a fraction that does not come back to the last digit.
    other = [
        name for name, (key, value) in asked.items() if abs(opened.get(key) - value) > 0.01 * value
    ]
    return f"does not give the {' and '.join(other)} that is asked for" if other else ""


def _sane(value: float) -> float:
    return value if 0 < value < 1e9 else 0.0
