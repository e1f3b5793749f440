"""What became of an installed bundle, read from the states that a station retains."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from lineside.mqtt import StateMessage, StateWord
from lineside.mqtt.state import make_state
from lineside.remote.following import Following, Stage, Standing

OURS, OLD = "ab" * 32, "cd" * 32
INSTALLED_MS = 1_000


def state(t: int = INSTALLED_MS + 1, **more: Any) -> StateMessage:
    found = make_state(StateWord.ONLINE)
    return msgspec.structs.replace(found, t=t, **{"bundle": OLD, "slot_state": "confirmed"} | more)


def stages(states: list[StateMessage], before: StateMessage | None = None) -> list[str]:
    following = Following(OURS, installed_ms=INSTALLED_MS, before=before)
    return [following.hear(one).stage.value for one in states]


def test_from_pending_over_the_trial_to_confirmed() -> None:
    between = state()
    heard = [
        state(next=OURS[:16]),
        between,
        state(bundle=OURS, slot_state="trial"),
        state(bundle=OURS),
    ]
    assert stages(heard) == ["pending", "pending", "trial", "confirmed"]


def test_a_revert_is_heard_with_its_reason() -> None:
    following = Following(OURS, installed_ms=INSTALLED_MS, before=state())
    following.hear(state(bundle=OURS, slot_state="trial"))
    standing = following.hear(state(reverted="engine", reverted_bundle=OURS[:16]))
    assert standing == Standing(stage=Stage.REVERTED, reason="engine")
    assert standing.is_final


def test_what_was_said_before_it_was_installed_says_nothing() -> None:
    assert stages([state(INSTALLED_MS - 1, bundle=OURS)]) == ["unknown"]


def test_an_earlier_revert_of_the_same_bundle_is_believed_when_it_is_said_twice() -> None:
    earlier: dict[str, Any] = {"reverted": "engine", "reverted_bundle": OURS[:16]}
    heard = [
        state(2000, next=OURS[:16], **earlier),
        state(3000, **earlier),
        state(4000, bundle=OURS, slot_state="trial", **earlier),
        state(5000, **earlier),
        state(5000, **earlier),
        state(6000, **earlier),
    ]
    expected = ["pending", "pending", "trial", "trial", "trial", "reverted"]
    assert stages(heard, before=state(500, **earlier)) == expected


@pytest.mark.parametrize("stage", ["unknown", "pending"])
def test_a_station_that_goes_offline_is_waited_for(stage: str) -> None:
    following = Following(OURS, installed_ms=INSTALLED_MS, before=None)
    if stage == "pending":
        following.hear(state(next=OURS[:16]))
    standing = following.hear(make_state(StateWord.OFFLINE, reason="stopped"))
    assert standing == Standing(stage=Stage(stage), is_online=False)
    assert following.hear(state(bundle=OURS)).stage is Stage.CONFIRMED
