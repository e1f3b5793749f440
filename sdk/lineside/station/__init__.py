"""The station: its configuration, and the loop from source to inspector to outbox."""

from lineside.station.configuration import StationConfiguration, read_configuration
from lineside.station.loop import Inspecting, ModelCard, Station
from lineside.station.opening import open_station
from lineside.station.report import RunReport

__all__ = [
    "Inspecting",
    "ModelCard",
    "RunReport",
    "Station",
    "StationConfiguration",
    "open_station",
    "read_configuration",
]
