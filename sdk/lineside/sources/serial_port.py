"""A serial port as the one who triggers: the only place that touches pyserial."""

from __future__ import annotations

import contextlib
import errno
import os
import termios
import threading
import time
from typing import Any, Final

from lineside.backoff import Backoff
from lineside.errors import ConfigurationError, InputDataError
from lineside.sources.serial_lines import SerialLines
from lineside.sources.trigger import Offer, trigger_now
from lineside.sources.trigger_settings import SerialTrigger
from lineside.worker import Worker

_JOIN_S: Final = 1.0
_READ_S: Final = 0.25
# At 50 baud, the slowest, 20 ms a character.
_QUIET_S: Final = 1.0
_READ_BYTES: Final = 4096
_WARN_S: Final = 60.0
# What pyserial raises: its own are OSErrors; ValueError for a rate that the port cannot do.
_FAULTS: Final = (OSError, termios.error, ValueError)


class SerialFeed:
    """A `TriggerFeed`: one line, one trigger; opened again when it is unplugged.

    Raises:
        ConfigurationError: pyserial is not installed.
    """

    def __init__(self, settings: SerialTrigger) -> None:
        check_pyserial()
        self._settings = settings
        self._place = f"serial port {settings.port}"
        self._lines = SerialLines(settings.pattern)
        self._refused_ns: int | None = None
        self._why = ""
        self._openings = 0
        self._stopping = threading.Event()
        self._offer: Offer = lambda _: False
        self._backoff = Backoff(settings.reconnect_min_s, settings.reconnect_max_s)
        self._worker = Worker(self._run, name="lineside-serial")

    @property
    def fault(self) -> str:
        """See `TriggerFeed`."""
        failure = self._worker.failure
        return self._why if failure is None else f"{self._place}: its thread ended: {failure!r}"

    @property
    def warn(self) -> str:
        """See `TriggerFeed`: what came in the last minute and was no trigger."""
        refused_ns = self._refused_ns
        if refused_ns is None or time.monotonic_ns() - refused_ns > _WARN_S * 1e9:
            return ""
        return f"{self._place}: lines come that are no triggers"

    @property
    def counts(self) -> dict[str, int]:
        """See `TriggerFeed`."""
        return {
            "serial_noise": self._lines.noise,
            "serial_overlong": self._lines.overlong,
            "serial_cut": self._lines.cut,
            "serial_reconnects": max(0, self._openings - 1),
        }

    def start(self, offer: Offer) -> None:
        """See `TriggerFeed`."""
        self._offer = offer
        self._worker.start()

    def close(self) -> None:
        """See `TriggerFeed`."""
        self._stopping.set()
        self._worker.join(_JOIN_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with contextlib.closing(_open(self._settings)) as port:
                    self._openings += 1
                    self._why = ""
                    self._read(port)
            except _FAULTS as error:
                self._why = f"{self._place}: {_words(error)}"
            self._lines.reset()
            self._stopping.wait(self._backoff.pause_s())

    def _read(self, port: Any) -> None:
        heard_s = time.monotonic()
        while not self._stopping.is_set():
            refused = self._lines.refused
            data = port.read(max(1, min(port.in_waiting, _READ_BYTES)))
            if data:
                heard_s = time.monotonic()
                self._backoff.succeeded()
                for part_id, product in self._lines.feed(data):
                    self._offer(trigger_now(part_id, product))
            elif time.monotonic() - heard_s >= _QUIET_S:
                self._lines.quiet()
            if self._lines.refused != refused:
                self._refused_ns = time.monotonic_ns()


def check_pyserial() -> None:
    """Whether serial ports can be read.

    Raises:
        ConfigurationError: pyserial is not installed.
    """
    try:
        import serial  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            'trigger.kind = "serial" needs pyserial: pip install "lineside[serial]"',
            path="trigger.kind",
        ) from error


def probe_serial_port(settings: SerialTrigger) -> None:
    """Open the port and close it again.

    Raises:
        ConfigurationError: pyserial is not installed.
        InputDataError: the port is not there, in use, or this user may not read it.
    """
    check_pyserial()
    try:
        _open(settings).close()
    except _FAULTS as error:
        raise InputDataError(f"serial port {settings.port}: {_words(error)}") from error


def _open(settings: SerialTrigger) -> Any:
    import serial

    # Exclusive: two programs that share a port get half of its lines each.
    return serial.Serial(settings.port, settings.baud, timeout=_READ_S, exclusive=True)


def _words(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number == errno.EAGAIN:
        return "another program has it"
    if number is not None:
        return os.strerror(number)
    return " ".join(str(part) for part in error.args) or type(error).__name__
