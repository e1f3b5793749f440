"""The station: its configuration, and the loop from source to inspector to outbox."""

from lineside.station.configuration import MapSettings, StationConfiguration, read_configuration
from lineside.station.loop import Inspecting, ModelCard, Station
from lineside.station.maps import MapKeeper
from lineside.station.opening import open_station
from lineside.station.report import RunReport

__all__ = [
    "Inspecting",
    "MapKeeper",
    "MapSettings",
    "ModelCard",
    "RunReport",
    "Station",
    "StationConfiguration",
    "open_station",
    "read_configuration",
]
