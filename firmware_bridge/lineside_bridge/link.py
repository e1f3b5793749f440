"""A serial line as a pipe of bytes: the only place that opens a port.

Every fault of the port becomes a `PortError` that names the remedy. A pseudo-terminal is one, too.
"""

from __future__ import annotations

import errno
import os
import select
import termios
from typing import Any, Final, Protocol

import serial

from lineside.closing import Closing
from lineside_bridge.errors import PortError, SensorSilentError

DEFAULT_BAUD: Final = 115_200

_READ_BYTES: Final = 65_536
# A piece waits for as many bytes of the 4,096 that the kernel holds: 8.5 s at 1,200 baud.
_WRITE_S: Final = 10.0
_WRITE_BYTES: Final = 1024
_BITS_PER_BYTE: Final = 10
_IN_USE: Final = (errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK)
_NOT_PERMITTED: Final = (errno.EACCES, errno.EPERM)
_MISSING: Final = (errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.ENOTDIR)
# What pyserial raises: its own are OSErrors, not all with a number; ValueError for an odd rate.
_FAULTS: Final = (OSError, termios.error, ValueError, OverflowError)


class Link(Protocol):
    """Bytes to and from a sensor. Not for several threads at once.

    Attributes:
        name: for messages.

    Raises:
        PortError: from every method: it went away.
    """

    name: str

    @property
    def baud(self) -> int:
        """Bits per second; 0: the line has no rate."""

    def read(self, timeout_s: float) -> bytes:
        """What has come, as soon as there is any; nothing after so long."""

    def write(self, data: bytes) -> None:
        """Hand all of it over; it may still be on its way afterwards.

        Raises:
            SensorSilentError: the other side holds the line up.
        """

    def change_baud(self, baud: int) -> None:
        """From the next byte on, both ways."""

    def clear(self) -> None:
        """Forget what has come and not been read."""

    def close(self) -> None:
        """Let go of it."""


def wire_s(size_bytes: int, baud: int) -> float:
    """How long so many bytes take, with start and stop bit; 0 where the line has no rate."""
    return size_bytes * _BITS_PER_BYTE / baud if baud else 0.0


assert wire_s(_WRITE_BYTES, 1_200) < _WRITE_S


class SerialLink(Closing):
    """A serial port, or the slave of a pseudo-terminal: a `Link`. Ours alone while it is open.

    Raises:
        PortError: not there, in use, not permitted, no serial port, or another rate than it can do.
    """

    def __init__(self, port: str, baud: int = DEFAULT_BAUD) -> None:
        self.name = port
        try:
            self._port: Any = serial.Serial(
                port, baud, timeout=0, write_timeout=_WRITE_S, exclusive=True
            )
        except _FAULTS as error:
            raise PortError(f"{port}: {_tell_open_fault(error, baud)}", port=port) from error

    @property
    def baud(self) -> int:
        """See `Link`."""
        return int(self._port.baudrate)

    def read(self, timeout_s: float) -> bytes:
        """See `Link`."""
        try:
            ready, _, _ = select.select([self._port.fd], [], [], max(0.0, timeout_s))
            data = os.read(self._port.fd, _READ_BYTES) if ready else b""
        except _FAULTS as error:
            raise self._gone(error) from error
        if ready and not data:
            raise self._gone(None)
        return data

    def write(self, data: bytes) -> None:
        """See `Link`."""
        try:
            for start in range(0, len(data), _WRITE_BYTES):
                self._port.write(data[start : start + _WRITE_BYTES])
        except serial.SerialTimeoutException as error:
            raise SensorSilentError(
                f"{self.name}: takes no bytes for {_WRITE_S:g} s: whatever is at its other end "
                "does not read, or holds the flow up"
            ) from error
        except _FAULTS as error:
            raise self._gone(error) from error

    def change_baud(self, baud: int) -> None:
        """See `Link`.

        Raises:
            PortError: the port cannot do it; it stays as it was.
        """
        before = self._port.baudrate
        try:
            self._port.flush()
            self._port.baudrate = baud
        except _FAULTS as error:
            try:
                self._port.baudrate = before
            except _FAULTS:
                raise self._gone(error) from error
            raise PortError(f"{self.name}: cannot do {baud} baud", port=self.name) from error

    def clear(self) -> None:
        """See `Link`."""
        try:
            self._port.reset_input_buffer()
        except _FAULTS as error:
            raise self._gone(error) from error

    def close(self) -> None:
        """See `Link`."""
        self._port.close()

    def _gone(self, error: Exception | None) -> PortError:
        why = "" if error is None else f": {_words(error)}"
        return PortError(
            f"{self.name}: went away while it was in use{why}; plug it in again, and repeat",
            port=self.name,
        )


def _tell_open_fault(error: Exception, baud: int) -> str:
    number = _number(error)
    if number in _IN_USE:
        return "in use by another program: end that one (`fuser -v PORT` names it)"
    if number in _NOT_PERMITTED:
        return "this user may not open it: `sudo usermod -aG dialout $USER`, then log in again"
    if number in _MISSING:
        return "not there: is it plugged in? `lineside sensor list` shows the ports"
    if number == errno.ENOTTY or isinstance(error, termios.error):
        return "no serial port"
    if isinstance(error, ValueError | OverflowError):
        return f"cannot do {baud} baud"
    return _words(error)


def _number(error: Exception) -> int | None:
    number = getattr(error, "errno", None)
    if isinstance(number, int):
        return number
    # pyserial wraps the terminal's own error, and keeps its number in the words alone.
    inner = error.__context__
    return inner.args[0] if isinstance(inner, termios.error) else None


def _words(error: Exception) -> str:
    number = _number(error)
    if number is not None:
        return os.strerror(number)
    return " ".join(str(part) for part in error.args) or type(error).__name__
