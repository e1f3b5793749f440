"""USB serial adapters as Linux shows them under /sys, for pyserial's own list of ports to read.

The tree's layout is the kernel's (drivers usb-serial and cdc-acm); pyserial's code is run as it is,
with the folders that it has built in moved below a folder of the test.
"""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from serial.tools import list_ports, list_ports_linux


@dataclass(kw_only=True)
class UsbTree:
    """Plug things in below ``root``."""

    root: Path

    def plug(
        self,
        place: str,
        *ttys: str,
        usb: str = "2fe3:0100",
        serial_number: str = "",
        interfaces: int = 1,
        product: str = "",
    ) -> Path:
        """A device at a place of the bus, e.g. ``1-1.2``, with a port at every second interface.

        Args:
            ttys: ``ttyUSB0`` or ``ttyACM0``; the driver follows from it.
        """
        device = self.root / "sys/devices/pci0000:00/usb1" / place
        vendor, kind = usb.split(":")
        told = {"idVendor": vendor, "idProduct": kind, "bNumInterfaces": f" {interfaces}"}
        told |= {"serial": serial_number} if serial_number else {}
        told |= {"product": product} if product else {}
        for number, tty in enumerate(ttys):
            interface = device / f"{place}:1.{number * 2 if interfaces > 1 else 0}"
            self._add(interface, tty)
        for name, text in told.items():
            (device / name).write_text(f"{text}\n")
        return device

    def _add(self, interface: Path, tty: str) -> None:
        own = tty.startswith("ttyUSB")
        shown = interface / tty if own else interface
        shown.mkdir(parents=True)
        bus = self.root / "sys/bus" / ("usb-serial" if own else "usb")
        bus.mkdir(parents=True, exist_ok=True)
        (shown / "subsystem").symlink_to(bus)
        (self.root / "sys/class/tty" / tty).mkdir(parents=True)
        (self.root / "sys/class/tty" / tty / "device").symlink_to(shown)
        (self.root / "dev").mkdir(exist_ok=True)
        (self.root / "dev" / tty).touch()


@pytest.fixture
def usb_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UsbTree:
    """A machine without any port; pyserial looks at it from now on."""

    def below(path: str) -> str:
        inside = path.startswith(("/sys/", "/dev/"))
        return f"{tmp_path}{path}" if inside else path

    def find(pattern: str) -> list[str]:
        return [path.removeprefix(str(tmp_path)) for path in glob.glob(below(pattern))]  # noqa: PTH207

    paths = SimpleNamespace(
        exists=lambda path: Path(below(path)).exists(),
        islink=lambda path: Path(below(path)).is_symlink(),
        realpath=lambda path: os.path.realpath(below(path)),
        join=os.path.join,
        basename=os.path.basename,
        dirname=os.path.dirname,
    )
    monkeypatch.setattr(list_ports_linux, "os", SimpleNamespace(path=paths))
    monkeypatch.setattr(list_ports_linux, "glob", SimpleNamespace(glob=find))
    monkeypatch.setattr(list_ports, "comports", list_ports_linux.comports)
    return UsbTree(root=tmp_path)
