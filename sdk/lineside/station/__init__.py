"""The station: its configuration, and the loop from source to inspector to outbox."""

from lineside.station.bundling import BundleSettings
from lineside.station.configuration import (
    MapSettings,
    StationConfiguration,
    read_configuration,
)
from lineside.station.loop import Station
from lineside.station.maps import MapKeeper
from lineside.station.opening import open_station
from lineside.station.pace import SWITCH_S, Pace
from lineside.station.products import Inspecting, ModelCard, Product, Products
from lineside.station.regions import RegionSettings
from lineside.station.report import RunReport

__all__ = [
    "SWITCH_S",
    "BundleSettings",
    "Inspecting",
    "MapKeeper",
    "MapSettings",
    "ModelCard",
    "Pace",
    "Product",
    "Products",
    "RegionSettings",
    "RunReport",
    "Station",
    "StationConfiguration",
    "open_station",
    "read_configuration",
]
