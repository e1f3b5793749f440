"""The bridge's errors; each says what, where and what to do about it (see docs/cli.md)."""

from __future__ import annotations

from lineside.cli.table import printable
from lineside.errors import LinesideError


class BridgeError(LinesideError):
    """A sensor cannot be reached, refuses, or does not prove what it received.

    Many of these messages hold words of the sensor: what would steer a terminal, or begin a line
    of its own, is shown as ``?``.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class PortError(BridgeError):
    """A serial port is not there, in use, not permitted, or went away; ``port`` is its name."""

    exit_code = 13

    def __init__(self, message: str, *, port: str) -> None:
        super().__init__(message)
        self.port = port


class SensorSilentError(BridgeError):
    """No byte came back in all the time that was given."""

    exit_code = 10


class SensorGarbledError(BridgeError):
    """Bytes come back, and no answer can be made of them."""

    exit_code = 14


class SensorRefusedError(BridgeError):
    """The sensor answered no.

    Attributes:
        group: whose numbers ``code`` is of; ``None``: those of the protocol itself.
        code: the sensor's own number.
    """

    exit_code = 11

    def __init__(self, message: str, *, group: int | None, code: int) -> None:
        super().__init__(message)
        self.group = group
        self.code = code


class SensorFullError(SensorRefusedError):
    """The bundle is larger than the sensor's slot, or its flash is full."""

    exit_code = 15


class UnprovenError(BridgeError):
    """Sent, and not proved or taken back: the sensor judges by what it had before."""

    exit_code = 12


class GangStoppedError(BridgeError):
    """Another sensor of the gang failed; this one was left before anything counted in it."""


class ImageError(BridgeError):
    """A bundle cannot be an MCUboot image, or an image is none, damaged, or of another kind."""

    exit_code = 5


class MalformedError(BridgeError):
    """Bytes that are no message of the protocol."""
