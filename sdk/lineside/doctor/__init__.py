"""What works on this machine, what is missing, and the remedy."""

from lineside.doctor.check import Check, State
from lineside.doctor.machine import examine_machine
from lineside.doctor.station import examine_station, station_trust

__all__ = ["Check", "State", "examine_machine", "examine_station", "station_trust"]
