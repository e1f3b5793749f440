"""Which serial ports this machine has, and which of them are meant."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from lineside.errors import ConfigurationError
from lineside_bridge.errors import PortError

_MATCH: Final = re.compile(r"([0-9a-fA-F]{4}):([0-9a-fA-F]{4})(?::([0-9]{1,2}))?")
_LOOKS: Final = 3
_LOOK_AGAIN_S: Final = 0.2
_INTERFACE: Final = re.compile(r":\d+\.(\d+)$")


@dataclass(frozen=True, kw_only=True)
class SerialPort:
    """A port as the system tells it.

    Attributes:
        usb: ``VID:PID``, four lower-case hex digits each; empty: not on USB.
        interface: of a device with several, its number; ``None``: the system does not say.
        place: of the USB device on its bus, e.g. ``1-1.2``; empty: not on USB.
        serial_number: of the USB device, which need not be the sensor's, nor be the only such.
    """

    name: str
    usb: str = ""
    interface: int | None = None
    place: str = ""
    serial_number: str = ""
    description: str = ""


def list_ports() -> tuple[SerialPort, ...]:
    """All that may have something at their other end, by name.

    Raises:
        PortError: a device on the bus does not tell what it is.
    """
    from serial.tools import list_ports as system

    for _ in range(_LOOKS):
        # pyserial reads what a device that is just being pulled does not have any more.
        with contextlib.suppress(TypeError, ValueError, OSError):
            found = (_describe(port) for port in system.comports())
            return tuple(sorted(found, key=lambda port: port.name))
        time.sleep(_LOOK_AGAIN_S)
    raise PortError(
        "a device went away or was not ready while the ports were listed: unplug what does not "
        "work, and repeat",
        port="",
    )


def match_ports(ports: Sequence[SerialPort], pattern: str) -> tuple[SerialPort, ...]:
    """Those of one kind of USB device.

    Args:
        pattern: ``VID:PID`` in hex, or ``VID:PID:INTERFACE`` where a device has several ports.

    Raises:
        ConfigurationError: another form; none is plugged in, or several ports of one device are.
    """
    asked = _MATCH.fullmatch(pattern)
    if asked is None:
        raise ConfigurationError(
            f"--match {pattern}: VID:PID as `lineside sensor list` shows it, e.g. 2fe3:0100; with "
            "a third number, the interface, where a device has several ports",
            path="match",
        )
    usb = f"{asked[1]}:{asked[2]}".lower()
    interface = None if asked[3] is None else int(asked[3])
    found = tuple(
        port
        for port in ports
        if port.usb == usb and (interface is None or port.interface == interface)
    )
    if not found:
        raise ConfigurationError(
            f"--match {pattern}: no such device is plugged in; `lineside sensor list` shows them",
            path="match",
        )
    _refuse_several(found, pattern)
    return found


def _refuse_several(found: Sequence[SerialPort], pattern: str) -> None:
    seen: dict[str, SerialPort] = {}
    for port in found:
        # By its place: many adapters have no serial number, or all of a kind the same.
        other = seen.get(port.place)
        if port.place and other is not None and other.interface != port.interface:
            raise ConfigurationError(
                f"--match {pattern}: {other.name} and {port.name} are of one device: name the "
                f"interface too, {pattern}:{other.interface} or {pattern}:{port.interface}",
                path="match",
            )
        seen[port.place] = port


def _describe(port: Any) -> SerialPort:
    place, _, _ = (port.location or "").partition(":")
    interface = _INTERFACE.search(port.location or "")
    return SerialPort(
        name=port.device,
        usb="" if port.vid is None else f"{port.vid:04x}:{port.pid:04x}",
        interface=None if interface is None else int(interface[1]),
        place=place,
        serial_number=port.serial_number or "",
        description=port.description if port.description and port.description != "n/a" else "",
    )
