"""A rollout over a real broker to stations with real stores, while everything is killed once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hall import Hall, open_hall
from station_yard import Script
from tiny_bundle import TinyBundle

from lineside.fleet import Phase

pytestmark = pytest.mark.broker

SCRIPTS = (
    Script(name="hall/line/canary"),
    Script(name="hall/line/fine", after_s=0.8),
    Script(name="hall/line/bad-proof", ending="self_test"),
    Script(name="hall/line/bad-trial", ending="reverts"),
    Script(name="hall/line/dies", ending="dies"),
    Script(name="hall/line/has-it", has_it=True),
)


def in_phase(hall: Hall, name: str, *phases: Phase) -> bool:
    state = hall.state
    return state is not None and state.stations[name].phase in phases


def test_with_rollout_station_and_broker_killed_it_ends_as_planned_and_can_be_taken_back(
    tmp_path: Path, tiny_bundle: TinyBundle
) -> None:
    with open_hall(tmp_path, tiny_bundle, SCRIPTS, silent_s=0.3) as hall:
        options = ("--waves", "100%", "--max-failures", "2")
        hall.start_rollout(*options)
        hall.wait_for(
            lambda: in_phase(hall, "hall/line/fine", Phase.SENDING, Phase.PENDING, Phase.TRIAL),
            "the wave after the canary",
        )
        assert in_phase(hall, "hall/line/canary", Phase.CONFIRMED)
        hall.kill_rollout()
        hall.start_rollout(*options)
        hall.restart_broker(0.2)
        code = hall.end_rollout()

        result = hall.result()
        assert code == 1
        assert result["outcome"] == "incomplete"
        assert {
            each["station"].rpartition("/")[2]: each["phase"] for each in result["stations"]
        } == {
            "canary": "confirmed",
            "fine": "confirmed",
            "bad-proof": "failed",
            "bad-trial": "reverted",
            "dies": "confirmed",
            "has-it": "skipped",
        }
        assert hall.stores() == {
            "hall/line/canary": "new",
            "hall/line/fine": "new",
            "hall/line/bad-proof": "old",
            "hall/line/bad-trial": "old",
            "hall/line/dies": "new",
            "hall/line/has-it": "new",
        }

        hall.start_rollout("--revert")
        assert hall.end_rollout() == 0
        assert hall.result()["outcome"] == "taken_back"
        assert hall.stores() == {
            name: "new" if name == "hall/line/has-it" else "old" for name in hall.stores()
        }
