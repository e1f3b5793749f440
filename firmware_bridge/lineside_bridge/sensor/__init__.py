"""The sensor's side of the wire: an SMP server over `lineside.slots`, real or simulated."""

from lineside_bridge.sensor.flash_sensor import FlashSensor
from lineside_bridge.sensor.folder_sensor import FolderSensor
from lineside_bridge.sensor.line import Line
from lineside_bridge.sensor.logbook import Logbook
from lineside_bridge.sensor.noise import Noise, NoiseSettings
from lineside_bridge.sensor.port import Port, PseudoTerminal, SerialEnd
from lineside_bridge.sensor.sensor import Facts, Sensor
from lineside_bridge.sensor.server import Reply, Server, make_server

__all__ = [
    "Facts",
    "FlashSensor",
    "FolderSensor",
    "Line",
    "Logbook",
    "Noise",
    "NoiseSettings",
    "Port",
    "PseudoTerminal",
    "Reply",
    "Sensor",
    "SerialEnd",
    "Server",
    "make_server",
]
