"""Which ports `--match` means, by pyserial's own list over a tree as the kernel makes it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from usb_tree import UsbTree, usb_tree

from lineside.errors import ConfigurationError
from lineside_bridge.cli.sensor import sensor as sensor_verbs
from lineside_bridge.errors import PortError
from lineside_bridge.ports import list_ports, match_ports

__all__ = ["usb_tree"]


def match(pattern: str) -> list[str]:
    return [port.name for port in match_ports(list_ports(), pattern)]


def test_all_of_one_kind_are_found_by_either_driver(usb_tree: UsbTree) -> None:
    usb_tree.plug("1-1", "ttyUSB0", usb="1a86:7523")
    usb_tree.plug("1-2", "ttyACM0", interfaces=2, serial_number="A")
    usb_tree.plug("1-3.4", "ttyACM1", interfaces=2, serial_number="B")
    assert match("1a86:7523") == ["/dev/ttyUSB0"]
    assert match("2FE3:0100") == ["/dev/ttyACM0", "/dev/ttyACM1"]
    assert match("2fe3:0100:0") == ["/dev/ttyACM0", "/dev/ttyACM1"]


@pytest.mark.parametrize("serial_number", ["", "0001"])
def test_two_ports_of_one_device_are_not_two_sensors(usb_tree: UsbTree, serial_number: str) -> None:
    usb_tree.plug("1-1", "ttyACM0", "ttyACM1", interfaces=4, serial_number=serial_number)
    usb_tree.plug("1-2", "ttyACM2", "ttyACM3", interfaces=4, serial_number=serial_number)
    with pytest.raises(ConfigurationError, match=r"of one device: .* 2fe3:0100:0 or 2fe3:0100:2"):
        match("2fe3:0100")
    assert match("2fe3:0100:2") == ["/dev/ttyACM1", "/dev/ttyACM3"]


def test_adapters_that_all_have_the_same_serial_number_are_several(usb_tree: UsbTree) -> None:
    usb_tree.plug("1-1", "ttyUSB0", serial_number="0001")
    usb_tree.plug("1-2", "ttyUSB1", serial_number="0001")
    assert match("2fe3:0100") == ["/dev/ttyUSB0", "/dev/ttyUSB1"]


def test_the_verb_shows_what_match_takes(usb_tree: UsbTree) -> None:
    usb_tree.plug(
        "1-1", "ttyACM0", "ttyACM1", interfaces=4, serial_number="A\x1b[31m", product="Sensor"
    )
    shown = CliRunner().invoke(sensor_verbs, ["list"]).stdout
    assert "2fe3:0100:0" in shown
    assert "2fe3:0100:2" in shown
    assert "A?[31m" in shown
    first, _ = json.loads(CliRunner().invoke(sensor_verbs, ["list", "--json"]).stdout)
    assert (first["usb"], first["interface"], first["description"]) == ("2fe3:0100", 0, "Sensor")


def test_one_that_is_pulled_while_it_is_listed_is_no_trace(usb_tree: UsbTree) -> None:
    device = usb_tree.plug("1-1", "ttyUSB0")
    (device / "idVendor").unlink()
    with pytest.raises(PortError, match="while the ports were listed"):
        list_ports()
