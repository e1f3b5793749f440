"""The rules of a rollout over a hall on paper, in any order of events, cut and resumed anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Final, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paper_hall import SCRIPTS, PaperHall

from lineside.fleet import (
    Action,
    Amount,
    Phase,
    Place,
    Plan,
    Rollout,
    RolloutState,
    Rules,
    Told,
    Undo,
    Verb,
    fresh,
    make_plan,
    parse_amount,
    parse_waves,
    resumed,
    retried,
)

EVENTS: Final = ("tell", "answer", "live", "wait", "crash", "lose")
ENDS: Final = {
    "confirms": Phase.CONFIRMED,
    "keeps_it": Phase.CONFIRMED,
    "marked_and_confirms": Phase.CONFIRMED,
    "on_trial_already": Phase.CONFIRMED,
    "has_it": Phase.SKIPPED,
    "fails_self_test": Phase.FAILED,
    "hangs": Phase.FAILED,
    "offline": Phase.FAILED,
    "reverts": Phase.REVERTED,
    "marked_and_reverts": Phase.REVERTED,
}
assert set(ENDS) == set(SCRIPTS)

ANY: Final = parse_amount("100%", path="x")
NONE: Final = Amount(number=Fraction(0), is_share=False)


def rules(
    *,
    canary: Amount = ANY,
    failures: Amount = ANY,
    at_once: int = 3,
    on_failure: Literal["stop", "revert"] = "revert",
) -> Rules:
    return Rules(
        canary_failures=canary,
        failures=failures,
        at_once=at_once,
        timeout_s=60,
        trial_timeout_s=100,
        on_failure=on_failure,
    )


def named(scripts: list[str]) -> dict[str, str]:
    return {f"hall/line/{number:02d}": script for number, script in enumerate(scripts)}


def plan_of(hall: PaperHall, *, canary: int = 1, waves: str = "40%,100%") -> Plan:
    return make_plan(tuple(hall.stations), canary=canary, waves=parse_waves(waves))


def through_the_file(state: RolloutState) -> RolloutState:
    """As a new process reads it."""
    return resumed(msgspec.json.decode(msgspec.json.encode(state), type=RolloutState))


def play(rollout: Rollout, hall: PaperHall) -> Iterator[list[Action]]:
    """In order and without any loss, to the end; whoever looks has to have the actions done."""
    yield rollout.begin()
    for _ in range(400):
        for name, station in hall.stations.items():
            yield hall.answer(rollout, name)
            while station.states:
                yield hall.tell(rollout, name)
            yield hall.tell(rollout, name)
            station.live()
        yield rollout.wait(10.0)
        if rollout.is_finished:
            return
    raise AssertionError(f"it never ends: {rollout.state}")


def to_the_end(rollout: Rollout, hall: PaperHall) -> RolloutState:
    for actions in play(rollout, hall):
        hall.take(actions)
    return rollout.state


def phases(rollout: Rollout) -> dict[str, Phase]:
    return {name: it.phase for name, it in rollout.state.stations.items()}


def run(scripts: list[str], how: Rules, **plan: object) -> tuple[Rollout, PaperHall]:
    hall = PaperHall(named(scripts))
    rollout = Rollout(plan_of(hall, **plan), how, fresh(hall.stations))  # type: ignore[arg-type]
    to_the_end(rollout, hall)
    return rollout, hall


SOME_SCRIPTS = st.lists(st.sampled_from(SCRIPTS), min_size=1, max_size=9)
# Of one that somebody else has put on trial it is chance whether it confirms before its wave.
SURE_SCRIPTS = st.lists(st.sampled_from(sorted({*SCRIPTS} - {"on_trial_already"})), max_size=7)


@given(SOME_SCRIPTS, st.integers(0, 3), st.integers(1, 5))
def test_each_station_ends_as_its_script_says(
    scripts: list[str], canary: int, at_once: int
) -> None:
    rollout, hall = run(scripts, rules(at_once=at_once), canary=canary)

    for script, phase in zip(scripts, phases(rollout).values(), strict=True):
        # Before its wave has come it is nobody's business who put the bundle there.
        early = script == "on_trial_already" and phase is Phase.SKIPPED
        assert phase is ENDS[script] or early
    assert not rollout.state.stopped
    for station in hall.stations.values():
        assert station.installs == int(
            station.script not in ("has_it", "offline", "on_trial_already")
        )
        assert not station.reverts


class Watch:
    """Looks at each action with the hall's own knowledge."""

    def __init__(self, rollout: Rollout, hall: PaperHall, how: Rules) -> None:
        self._rollout = rollout
        self._hall = hall
        self._how = how

    def look(self, actions: list[Action], before: RolloutState) -> None:
        state = self._rollout.state
        sending = sum(it.phase is Phase.SENDING for it in state.stations.values())
        assert sending <= self._how.at_once
        for action in actions:
            if action.verb is Verb.INSTALL:
                self._install(action.station, before)
            else:
                assert state.is_undoing
                assert state.stations[action.station].is_ours

    def _install(self, name: str, before: RolloutState) -> None:
        state = self._rollout.state
        assert not before.stopped and not state.stopped
        waves = self._rollout.plan.waves
        (mine,) = [index for index, wave in enumerate(waves) if name in wave.stations]
        earlier = [state.stations[other] for wave in waves[:mine] for other in wave.stations]
        assert all(it.is_settled for it in earlier)
        counting = [it for it in earlier if it.phase is not Phase.SKIPPED]
        failed = sum(it.is_failure for it in counting)
        last_canary = mine > 0 and waves[mine - 1].is_canary
        most = self._how.canary_failures if last_canary else self._how.failures
        assert failed <= most.least_of(len(counting)) or not mine
        for wave in waves[mine + 1 :]:
            untouched = (Phase.WAITING, Phase.SKIPPED)
            assert all(state.stations[other].phase in untouched for other in wave.stations)


@given(
    SOME_SCRIPTS,
    st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 8)), min_size=20, max_size=200),
    st.sampled_from(["0", "1", "20%", "50%", "100%"]),
    st.sampled_from(["stop", "revert"]),
    st.integers(0, 2),
)
def test_whatever_comes_in_whatever_order_the_rules_hold_and_it_ends(
    scripts: list[str],
    events: list[tuple[str, int]],
    failures: str,
    on_failure: Literal["stop", "revert"],
    canary: int,
) -> None:
    hall = PaperHall(named(scripts))
    how = rules(
        canary=NONE,
        failures=parse_amount(failures, path="x"),
        at_once=2,
        on_failure=on_failure,
    )
    plan = plan_of(hall, canary=canary)
    rollout = Rollout(plan, how, fresh(hall.stations))
    watch = Watch(rollout, hall, how)
    hall.take(rollout.begin())
    names = list(hall.stations)
    for event, number in events:
        name, before = names[number % len(names)], rollout.state
        if event == "crash":
            hall.lose_all()
            rollout = Rollout(plan, how, through_the_file(rollout.state))
            watch = Watch(rollout, hall, how)
        actions = happen(event, rollout, hall, name)
        watch.look(actions, before)
        hall.take(actions)
    before = rollout.state
    for actions in play(rollout, hall):
        watch.look(actions, before)
        before = rollout.state
        hall.take(actions)

    end = rollout.state
    reached = [end.stations[name] for name in plan.stations]
    if not end.stopped:
        assert all(it.is_settled for it in reached)
    for name, it in end.stations.items():
        station = hall.stations[name]
        assert it.phase is not Phase.SENDING
        if it.phase in (Phase.CONFIRMED, Phase.SKIPPED):
            assert station.place is Place.CONFIRMED
        if it.phase is Phase.REVERTED:
            assert station.place is Place.NOWHERE
        if end.is_undoing and it.is_ours and station.place is not Place.NOWHERE:
            assert it.undo is Undo.REFUSED, (name, station, it)
        if it.undo is Undo.REFUSED:
            assert station.place is not Place.NOWHERE
            assert it.phase is Phase.CONFIRMED or it.undo_reason in ("offline", "no answer")


def happen(event: str, rollout: Rollout, hall: PaperHall, name: str) -> list[Action]:
    if event == "tell":
        return hall.tell(rollout, name)
    if event == "answer":
        return hall.answer(rollout, name)
    if event == "lose":
        hall.stations[name].answers.clear()
        is_sending = rollout.state.stations[name].phase is Phase.SENDING
        verb = Verb.INSTALL if is_sending else Verb.REVERT
        return rollout.lose(name, verb)
    if event == "wait":
        return rollout.wait(5.0)
    if event == "crash":
        return rollout.begin()
    hall.stations[name].live()
    return []


@settings(max_examples=25)
@given(SURE_SCRIPTS, st.sampled_from(["0", "30%", "100%"]), st.booleans())
def test_resumed_from_any_written_state_it_ends_the_same(
    scripts: list[str], failures: str, after_actions: bool
) -> None:
    how = rules(canary=ANY, failures=parse_amount(failures, path="x"), at_once=9)
    hall = PaperHall(named(scripts))
    plan = plan_of(hall)
    rollout = Rollout(plan, how, fresh(hall.stations))
    cuts: list[tuple[RolloutState, PaperHall]] = []
    for actions in play(rollout, hall):
        # Killed before anything of the step was done, or after all of it.
        is_written = not cuts or cuts[-1][0] != rollout.state
        before = hall.copied() if is_written else hall
        hall.take(actions)
        if is_written:
            cuts.append((rollout.state, hall.copied() if after_actions else before))
    end = phases(rollout)

    for state, left in cuts:
        left.lose_all()
        again = Rollout(plan, how, through_the_file(state))
        to_the_end(again, left)
        if failures == "100%":
            assert phases(again) == end
        assert bool(again.state.stopped) == bool(rollout.state.stopped)


def test_a_canary_that_fails_stops_all_and_nobody_else_is_touched() -> None:
    rollout, hall = run(["reverts"] + ["confirms"] * 8, rules(canary=NONE))

    assert rollout.state.stopped == "canary: 1 of 1 failed, at most 0 may"
    assert [station.installs for station in hall.stations.values()] == [1] + [0] * 8
    assert list(phases(rollout).values())[1:] == [Phase.WAITING] * 8


def test_beyond_the_share_those_that_have_it_give_it_back_and_refusals_are_kept() -> None:
    scripts = ["confirms", "keeps_it", "reverts", "fails_self_test", *["confirms"] * 6]
    rollout, hall = run(
        scripts, rules(failures=parse_amount("20%", path="x")), canary=2, waves="40%,100%"
    )

    assert rollout.state.stopped == "wave 1: 1 of 4 failed, at most 0 may"
    stations = list(rollout.state.stations.values())
    assert stations[0].undo is Undo.DONE and stations[0].reason == "rollout"
    assert stations[1].undo is Undo.REFUSED and stations[1].undo_reason.startswith("downgrade")
    assert stations[1].phase is Phase.CONFIRMED
    assert [station.installs for station in hall.stations.values()][4:] == [0] * 6


def test_stop_leaves_those_that_have_it_alone() -> None:
    scripts = ["confirms", "fails_self_test", "confirms", "confirms"]
    rollout, hall = run(scripts, rules(failures=NONE, on_failure="stop"), waves="100%")

    assert list(phases(rollout).values()) == [Phase.CONFIRMED, Phase.FAILED] + [Phase.CONFIRMED] * 2
    assert not any(station.reverts for station in hall.stations.values())


def test_what_was_skipped_counts_for_nothing_in_a_share() -> None:
    scripts = ["has_it"] * 8 + ["fails_self_test", "confirms"]
    rollout, _ = run(scripts, rules(failures=parse_amount("10%", path="x")), waves="100%")

    assert rollout.state.stopped == "wave 1: 1 of 2 failed, at most 0 may"


def test_a_station_on_trial_when_it_stops_gives_the_bundle_back() -> None:
    hall = PaperHall(named(["hangs", "fails_self_test"]))
    rollout = Rollout(
        plan_of(hall, canary=0, waves="100%"), rules(failures=NONE), fresh(hall.stations)
    )
    to_the_end(rollout, hall)

    first = rollout.state.stations["hall/line/00"]
    assert (first.phase, first.undo) == (Phase.REVERTED, Undo.DONE)
    assert hall.stations["hall/line/00"].place is Place.NOWHERE


def test_an_offline_station_is_waited_for_and_then_failed() -> None:
    hall = PaperHall(named(["confirms", "confirms"]))
    rollout = Rollout(plan_of(hall, canary=0, waves="100%"), rules(), fresh(hall.stations))
    rollout.hear("hall/line/00", Told(is_online=False))
    rollout.wait(59)
    assert set(phases(rollout).values()) == {Phase.WAITING}

    rollout.wait(2)

    reasons = [it.reason for it in rollout.state.stations.values()]
    assert reasons == ["offline", "offline: nothing of it at this broker; is its name right?"]


def test_a_station_that_failed_by_its_timeout_and_confirms_late_counts_as_confirmed() -> None:
    rollout = Rollout(
        make_plan(["a/b/c"], canary=0, waves=parse_waves("100%")), rules(), fresh(["a/b/c"])
    )
    rollout.hear("a/b/c", Told(is_online=True))
    rollout.answer("a/b/c", ok=True, detail="", at_ms=1)
    rollout.wait(101)
    assert rollout.state.stations["a/b/c"].reason == "trial timeout"

    rollout.hear("a/b/c", Told(is_online=True, place=Place.CONFIRMED, at_ms=9))

    assert rollout.is_done


def test_a_transfer_that_takes_too_long_fails_and_frees_its_place() -> None:
    names = ["a/b/c", "a/b/d"]
    plan = make_plan(names, canary=0, waves=parse_waves("100%"))
    rollout = Rollout(plan, rules(at_once=1), fresh(names))
    first = rollout.hear("a/b/c", Told(is_online=True))
    assert not rollout.hear("a/b/d", Told(is_online=True))

    second = rollout.wait(61)

    assert [action.station for action in first + second] == names
    assert rollout.state.stations["a/b/c"].reason == "transfer timeout"
    assert rollout.state.stations["a/b/c"].is_unsure


def test_a_lost_transfer_is_begun_again_when_the_station_is_there() -> None:
    plan = make_plan(["a/b/c"], canary=0, waves=parse_waves("100%"))
    rollout = Rollout(plan, rules(), fresh(["a/b/c"]))
    rollout.hear("a/b/c", Told(is_online=True))
    rollout.hear("a/b/c", Told(is_online=False))
    assert not rollout.lose("a/b/c", Verb.INSTALL, "no answer")

    assert rollout.hear("a/b/c", Told(is_online=True)) == [
        Action(verb=Verb.INSTALL, station="a/b/c")
    ]


def alone(*, at_once: int = 3) -> Rollout:
    plan = make_plan(["a/b/c"], canary=0, waves=parse_waves("100%"))
    return Rollout(plan, rules(at_once=at_once), fresh(["a/b/c"]))


def test_an_earlier_revert_of_the_same_bundle_is_not_taken_for_this_one() -> None:
    before = Told(is_online=True, reverted="engine", at_ms=1000)
    rollout = alone()
    rollout.hear("a/b/c", before)
    rollout.answer("a/b/c", ok=True, detail="", at_ms=2000)

    # Written within a second of the answer, of what was so before it.
    rollout.hear("a/b/c", replace(before, at_ms=2500))
    assert rollout.state.stations["a/b/c"].phase is Phase.PENDING
    # Long after it: then it is so.
    rollout.hear("a/b/c", replace(before, at_ms=9000))
    assert rollout.state.stations["a/b/c"].phase is Phase.REVERTED


def test_found_confirmed_after_a_restart_it_is_this_rollouts_to_take_back() -> None:
    rollout = alone()
    rollout.hear("a/b/c", Told(is_online=True))
    again = Rollout(rollout.plan, rules(), through_the_file(rollout.state))
    again.hear("a/b/c", Told(is_online=True, place=Place.CONFIRMED))
    assert again.state.stations["a/b/c"].phase is Phase.CONFIRMED

    assert again.take_back("by hand") == [Action(verb=Verb.REVERT, station="a/b/c")]


def test_a_revert_whose_answer_is_lost_is_asked_for_again() -> None:
    rollout = alone()
    rollout.hear("a/b/c", Told(is_online=True, place=Place.TRIAL))
    asked = rollout.take_back("by hand")

    assert rollout.lose("a/b/c", Verb.REVERT) == asked
    rollout.hear("a/b/c", Told(is_online=True, reverted="rollout", at_ms=9))
    assert rollout.is_finished
    assert rollout.state.stations["a/b/c"].undo is Undo.DONE


def test_a_trial_that_refuses_has_ended_and_tells_how() -> None:
    rollout = alone()
    rollout.hear("a/b/c", Told(is_online=True, place=Place.TRIAL, at_ms=1))
    rollout.take_back("by hand")
    assert not rollout.undone("a/b/c", ok=False, detail="downgrade", at_ms=0)
    assert not rollout.is_finished

    again = rollout.hear("a/b/c", Told(is_online=True, place=Place.CONFIRMED, at_ms=2))
    assert again == [Action(verb=Verb.REVERT, station="a/b/c")]
    rollout.undone("a/b/c", ok=False, detail="downgrade", at_ms=0)
    assert rollout.is_finished
    kept = rollout.state.stations["a/b/c"]
    assert (kept.phase, kept.undo) == (Phase.CONFIRMED, Undo.REFUSED)


def test_a_trial_that_goes_on_refusing_is_left_at_that() -> None:
    rollout = alone()
    trial = Told(is_online=True, place=Place.TRIAL, at_ms=1)
    rollout.hear("a/b/c", trial)
    rollout.take_back("by hand")
    rollout.undone("a/b/c", ok=False, detail="not_allowed", at_ms=0)
    rollout.hear("a/b/c", trial)
    rollout.undone("a/b/c", ok=False, detail="not_allowed", at_ms=0)

    assert rollout.is_finished
    assert rollout.state.stations["a/b/c"].undo_reason == "not_allowed"


@pytest.mark.parametrize(("reason", "undo"), [("rollout", Undo.DONE), ("", Undo.NOT_NEEDED)])
def test_one_that_has_left_it_meanwhile_is_not_asked(reason: str, undo: Undo) -> None:
    rollout = alone()
    rollout.hear("a/b/c", Told(is_online=True, place=Place.TRIAL, at_ms=1))
    rollout.hear("a/b/c", Told(is_online=True, place=Place.CONFIRMED, at_ms=2))
    rollout.take_back("by hand")
    again = Rollout(rollout.plan, rules(), through_the_file(rollout.state))

    assert not again.hear("a/b/c", Told(is_online=True, reverted=reason, at_ms=9000))
    assert again.is_finished
    left = again.state.stations["a/b/c"]
    assert (left.phase, left.reason, left.undo) == (Phase.REVERTED, reason or "left", undo)


def test_one_whose_state_is_still_of_before_is_asked_once_it_says_that_it_has_it() -> None:
    rollout = alone()
    rollout.hear("a/b/c", Told(is_online=True))
    rollout.answer("a/b/c", ok=True, detail="", at_ms=1000)
    assert not rollout.take_back("by hand")
    assert not rollout.is_finished

    pending = Told(is_online=True, place=Place.PENDING, at_ms=1001)
    assert rollout.hear("a/b/c", pending) == [Action(verb=Verb.REVERT, station="a/b/c")]


def test_a_station_that_may_have_it_is_asked_only_once_it_says_so() -> None:
    rollout = alone()
    rollout.hear("a/b/c", Told(is_online=True))
    rollout.wait(61)
    assert rollout.state.stations["a/b/c"].is_unsure
    # The share is 100%, so it goes on; somebody takes it back.
    assert not rollout.take_back("by hand")
    assert rollout.state.stations["a/b/c"].undo is Undo.NOT_NEEDED

    late = rollout.hear("a/b/c", Told(is_online=True, place=Place.PENDING, at_ms=5))

    assert late == [Action(verb=Verb.REVERT, station="a/b/c")]


def test_the_failure_that_stops_it_begins_nothing_more() -> None:
    names = ["a/b/c", "a/b/d"]
    plan = make_plan(names, canary=0, waves=parse_waves("100%"))
    rollout = Rollout(plan, rules(at_once=1, failures=NONE), fresh(names))
    rollout.hear("a/b/c", Told(is_online=True))
    rollout.hear("a/b/d", Told(is_online=True))

    assert not rollout.answer("a/b/c", ok=False, detail="self_test", at_ms=1)
    assert rollout.state.stations["a/b/d"].phase is Phase.WAITING


def test_what_was_stopped_does_not_go_on_when_a_station_confirms_late() -> None:
    names = ["a/b/c", "a/b/d"]
    plan = make_plan(names, canary=1, waves=parse_waves("100%"))
    rollout = Rollout(plan, rules(canary=NONE, on_failure="stop"), fresh(names))
    rollout.hear("a/b/c", Told(is_online=True, place=Place.TRIAL))
    rollout.hear("a/b/d", Told(is_online=True))
    rollout.wait(101)
    assert rollout.state.stopped

    assert not rollout.hear("a/b/c", Told(is_online=True, place=Place.CONFIRMED, at_ms=9))
    assert rollout.state.stations["a/b/c"].phase is Phase.CONFIRMED
    assert rollout.is_finished and not rollout.is_done


def test_what_was_confirmed_and_is_reverted_by_somebody_later_is_not_this_rollouts_affair() -> None:
    rollout = alone()
    rollout.hear("a/b/c", Told(is_online=True, place=Place.TRIAL, at_ms=1))
    rollout.hear("a/b/c", Told(is_online=True, place=Place.CONFIRMED, at_ms=2))
    rollout.hear("a/b/c", Told(is_online=True, reverted="command", at_ms=90_000))

    assert rollout.is_done


def test_one_that_stays_away_is_said_to_keep_it() -> None:
    rollout = alone()
    rollout.hear("a/b/c", Told(is_online=True, place=Place.TRIAL))
    rollout.hear("a/b/c", Told(is_online=False))
    rollout.take_back("by hand")
    rollout.wait(59)
    assert not rollout.is_finished

    rollout.wait(2)

    assert rollout.is_finished
    assert rollout.state.stations["a/b/c"].undo_reason == "offline"
    # Once it is back somebody may ask again.
    rollout.hear("a/b/c", Told(is_online=True, place=Place.TRIAL))
    assert rollout.take_back("by hand") == [Action(verb=Verb.REVERT, station="a/b/c")]


def test_taken_back_by_hand_all_that_have_it_give_it_back() -> None:
    rollout, hall = run(["confirms", "has_it", "confirms"], rules())
    again = Rollout(rollout.plan, rules(), through_the_file(rollout.state))
    hall.take(again.take_back("by hand"))
    to_the_end(again, hall)

    assert list(phases(again).values()) == [Phase.REVERTED, Phase.SKIPPED, Phase.REVERTED]


def test_wider_waves_go_on_with_those_that_are_reached_now() -> None:
    rollout, hall = run(["confirms"] * 4, rules(), waves="50%")
    assert rollout.is_done
    assert [station.installs for station in hall.stations.values()] == [1, 1, 0, 0]

    wider = Rollout(plan_of(hall, waves="100%"), rules(), through_the_file(rollout.state))
    assert not wider.is_finished
    to_the_end(wider, hall)

    assert wider.is_done
    assert [station.installs for station in hall.stations.values()] == [1, 1, 1, 1]


def test_tried_again_only_those_that_failed_are_touched() -> None:
    rollout, hall = run(["confirms", "reverts", "offline"], rules())
    for station in hall.stations.values():
        station.script = "confirms"
    again = Rollout(rollout.plan, rules(), retried(rollout.state))
    to_the_end(again, hall)

    assert again.is_done
    assert [station.installs for station in hall.stations.values()] == [1, 2, 1]


@pytest.mark.parametrize("change", [lambda it: it, lambda it: resumed(it)])
def test_a_finished_rollout_asks_nobody_for_anything(
    change: Callable[[RolloutState], RolloutState],
) -> None:
    rollout, hall = run(["confirms", "reverts", "has_it", "hangs"], rules())
    again = Rollout(rollout.plan, rules(), change(rollout.state))

    assert again.is_finished
    assert not again.begin()
    assert not [action for name in hall.stations for action in hall.tell(again, name)]
