"""A camera's settings: where it is, how to be let in, what to ask of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec

from lineside.secret import read_secret

Backend = Literal["v4l2", "ffmpeg", "gstreamer"]

# A user before a host, or what GStreamer's elements call a password.
_SECRET: Final = re.compile(
    r"://[^/\s\"']*@|(?:user-pw|user-id|password|passwd)\s*=", re.IGNORECASE
)


class CameraSettings(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="camera",
):
    """Section ``[source]`` with ``kind = "camera"``: whatever OpenCV can read.

    Attributes:
        address: a device's number, its file (``/dev/video0``), a URL (``rtsp://…``, ``http://…``)
            or a GStreamer string (``… ! appsink``). User and password never stand in it.
        backend: what reads it; ``auto`` goes by the address.
        username: for a URL; empty: none.
        password_file: its first line is the password.
        password_env: the environment variable that holds the password.
        width, height: pixels to ask a device for; absent: what it gives by itself.
        fps: pictures a second to ask a device for.
        fourcc: the pixel format to ask a device for, e.g. ``MJPG``.
        ring: newest pictures that are kept.
        open_timeout_s: opening a URL may take so long.
        silence_s: no picture for so long is a fault; a URL is then opened again.
        frozen_frames: so many identical pictures in a row are ``frame_frozen``; 0: not looked for.
        black_mean: a picture whose mean is below this, 0..255, and which
        black_spread: deviates from it by less than this, is ``frame_black``; a mean of 0: not
            looked for.
        reconnect_min_s, reconnect_max_s: first and longest pause before it is opened again.
    """

    address: int | str
    backend: Literal["auto", "v4l2", "ffmpeg", "gstreamer"] = "auto"
    username: str = ""
    password_file: Path | None = None
    password_env: str = ""
    width: Annotated[int, msgspec.Meta(ge=1, le=65_536)] | None = None
    height: Annotated[int, msgspec.Meta(ge=1, le=65_536)] | None = None
    fps: Annotated[float, msgspec.Meta(gt=0, le=10_000)] | None = None
    fourcc: Annotated[str, msgspec.Meta(pattern=r"^[ -~]{4}$")] | None = None
    ring: Annotated[int, msgspec.Meta(ge=1, le=256)] = 8
    open_timeout_s: Annotated[float, msgspec.Meta(ge=0.1, le=120)] = 10.0
    silence_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 5.0
    frozen_frames: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 10
    black_mean: Annotated[float, msgspec.Meta(ge=0, le=255)] = 8.0
    black_spread: Annotated[float, msgspec.Meta(gt=0, le=255)] = 4.0
    reconnect_min_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 0.5
    reconnect_max_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 30.0

    def __post_init__(self) -> None:
        _check_address(self.address)
        if self.frozen_frames == 1:
            raise ValueError("frozen_frames = 1 would call every picture frozen; 0 switches it off")
        if self.reconnect_max_s < self.reconnect_min_s:
            raise ValueError("reconnect_max_s is shorter than reconnect_min_s")
        if self.password_file is not None and self.password_env:
            raise ValueError("password_file and password_env are both given; keep one")
        if (self.password_file is not None or bool(self.password_env)) != bool(self.username):
            raise ValueError("username and password_file or password_env belong together")
        if self.username and not _is_url(self.address):
            raise ValueError("username is for a URL")
        if self._asks and self.read_by != "v4l2":
            raise ValueError(f"{self._asks[0]} is for a device; this address has what it sends")

    @property
    def place(self) -> str:
        """The address, for people; it holds no secret."""
        return f"camera {self.address}"

    @property
    def read_by(self) -> Backend:
        """What reads it."""
        if self.backend != "auto":
            return self.backend
        if isinstance(self.address, int) or self.address.startswith("/dev/"):
            return "v4l2"
        return "gstreamer" if " ! " in self.address else "ffmpeg"

    def read_address(self) -> int | str:
        """What is opened: with user and password of this moment, so a secret.

        Raises:
            ConfigurationError: the password's file or variable is not there.
        """
        password = read_secret(self.password_file, self.password_env, section="source")
        if not self.username or isinstance(self.address, int):
            return self.address
        parts = urlsplit(self.address)
        who = f"{quote(self.username, safe='')}:{quote(password, safe='')}@"
        return urlunsplit(parts._replace(netloc=who + parts.netloc))

    @property
    def _asks(self) -> list[str]:
        names = ("width", "height", "fps", "fourcc")
        return [name for name in names if getattr(self, name) is not None]


def _is_url(address: int | str) -> bool:
    return isinstance(address, str) and bool(re.match(r"[a-z][a-z0-9+.-]*://", address, re.I))


def _check_address(address: int | str) -> None:
    if isinstance(address, int):
        if not 0 <= address < 1000:
            raise ValueError(f"address {address}: devices are counted from 0")
        return
    if _SECRET.search(address):
        # Not repeated in the message: it may be on its way to a log.
        raise ValueError(
            "address: user and password do not belong into it, it is logged; give a URL, and "
            "username with password_file or password_env"
        )
    if not address.strip() or not address.isprintable():
        raise ValueError("address is empty or has control characters")
    if _is_url(address):
        try:
            urlsplit(address)
        except ValueError as error:
            raise ValueError(f"address {address!r}: {error}") from error
