"""A bundle for many stations: a canary, then waves; stopped, taken back, gone on with."""

from lineside.fleet.conductor import Conductor, Freight, Show
from lineside.fleet.journal import Journal, state_path
from lineside.fleet.plan import (
    Amount,
    Plan,
    Wave,
    make_plan,
    parse_amount,
    parse_waves,
    put_in_order,
)
from lineside.fleet.progress import Phase, Progress, RolloutState, Undo, fresh, resumed, retried
from lineside.fleet.result import BY_HAND, RolloutResult, StationResult, count_phases, sum_up
from lineside.fleet.rollout import Rollout
from lineside.fleet.rules import Action, Rules, Verb
from lineside.fleet.stations import StationEntry, StationsFile, pick, read_stations, topics_of
from lineside.fleet.told import Place, Told, read_told

__all__ = [
    "BY_HAND",
    "Action",
    "Amount",
    "Conductor",
    "Freight",
    "Journal",
    "Phase",
    "Place",
    "Plan",
    "Progress",
    "Rollout",
    "RolloutResult",
    "RolloutState",
    "Rules",
    "Show",
    "StationEntry",
    "StationResult",
    "StationsFile",
    "Told",
    "Undo",
    "Verb",
    "Wave",
    "count_phases",
    "fresh",
    "make_plan",
    "parse_amount",
    "parse_waves",
    "pick",
    "put_in_order",
    "read_stations",
    "read_told",
    "resumed",
    "retried",
    "state_path",
    "sum_up",
    "topics_of",
]
