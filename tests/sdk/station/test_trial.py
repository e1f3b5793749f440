"""A trial: when it ends and how, what is compared, and what a model that hangs is given."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_slots import Bench, ToyStore

from lineside.outbox import Note
from lineside.station.giving import Judgement, undecided
from lineside.station.hanging import HangWatch
from lineside.station.judge import judge_by
from lineside.station.ontrial import OnTrial
from lineside.station.shadow import Shadow
from lineside.station.slotwords import Surroundings
from lineside.station.trial import (
    ENOUGH_COMPARED,
    OVERDUE_S,
    Outcome,
    TrialProgress,
    TrialSettings,
    judge_trial,
    why_not_over,
)
from lineside.station.turn import Turn
from lineside.verdict import Reason

# The rule.


def judged(
    done: int = 0,
    compared: int = 0,
    disagreements: int = 0,
    *,
    late: int = 0,
    minutes: float = 0.0,
    **settings: object,
) -> Outcome:
    progress = TrialProgress(
        bundle="",
        ran_s=60 * minutes,
        parts=done,
        compared=compared,
        disagreements=disagreements,
        late=late,
    )
    return judge_trial(TrialSettings(**settings), progress)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (judged(199, 199), Outcome.GO_ON),
        (judged(200, 200), Outcome.CONFIRM),
        (judged(1, 1, minutes=59.9), Outcome.GO_ON),
        (judged(1, 1, minutes=60), Outcome.CONFIRM),
        (judged(0, minutes=10_000), Outcome.GO_ON),
        (judged(10_000, 10_000, parts=0), Outcome.GO_ON),
        (judged(10_000, 10_000, parts=0, minutes=60), Outcome.CONFIRM),
        # Uncompared, nothing is known of it: half of a few, twenty of many.
        (judged(10_000, 0, minutes=10_000), Outcome.GO_ON),
        (judged(10_000, 19), Outcome.GO_ON),
        (judged(10_000, 20), Outcome.CONFIRM),
        (judged(5, 2, parts=5), Outcome.GO_ON),
        (judged(5, 3, parts=5), Outcome.CONFIRM),
        (judged(1, 0, parts=1), Outcome.GO_ON),
        (judged(25, 2, parts=3), Outcome.CONFIRM),
        (judged(25, 12, parts=0, minutes=60), Outcome.GO_ON),
        (judged(25, 13, parts=0, minutes=60), Outcome.CONFIRM),
        (judged(10_000, 20, min_compared=21), Outcome.GO_ON),
        (judged(200, 0, min_compared=0), Outcome.CONFIRM),
        (judged(10_000, 19, late=15), Outcome.REVERT),
        (judged(1, minutes=10_000, confirm="command"), Outcome.GO_ON),
        (judged(10_000, minutes=10_000, confirm="command"), Outcome.GO_ON),
        # Too slow: as if it disagreed, also where it has judged nothing in time.
        (judged(0, late=19), Outcome.GO_ON),
        (judged(0, late=20), Outcome.REVERT),
        (judged(100, 98, late=10), Outcome.GO_ON),
        (judged(100, 88, late=10), Outcome.REVERT),
        # Disagreement: of the compared ones, once there are enough.
        (judged(19, 19, 19), Outcome.GO_ON),
        (judged(200, 19, 19), Outcome.GO_ON),
        (judged(200, 21, 1), Outcome.CONFIRM),
        (judged(20, 20, 2), Outcome.GO_ON),
        (judged(20, 20, 3), Outcome.REVERT),
        (judged(200, 20, 3), Outcome.REVERT),
        (judged(200, 20, 20, max_disagree=1.0), Outcome.CONFIRM),
        (judged(20, 20, 1, max_disagree=0.0), Outcome.REVERT),
        (judged(20, 20, 3, confirm="command"), Outcome.REVERT),
    ],
)
def test_a_trial_ends_by_parts_by_time_or_by_disagreement(
    outcome: Outcome, expected: Outcome
) -> None:
    assert outcome is expected


def test_a_trial_that_goes_on_beyond_its_end_says_why() -> None:
    over = TrialProgress(bundle="", ran_s=3600)
    unseen = msgspec.structs.replace(over, parts=4, compared=1, skipped=3)
    assert "until 2 parts are compared" in why_not_over(TrialSettings(), unseen)
    assert why_not_over(TrialSettings(), unseen, can_compare=False) == ""
    assert judge_trial(TrialSettings(), unseen, can_compare=False) is Outcome.CONFIRM
    some = msgspec.structs.replace(over, parts=4, compared=3)
    split = msgspec.structs.replace(some, disagreements=1)
    assert "has judged no part" in why_not_over(TrialSettings(), over)
    assert "of 3 compared parts too many disagree" in why_not_over(TrialSettings(), split)
    assert why_not_over(TrialSettings(), some) == ""
    for settings in (TrialSettings(confirm="command"), TrialSettings(minutes=61)):
        assert why_not_over(settings, over) == why_not_over(settings, split) == ""


@given(
    st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0, 1, width=32)
)
def test_it_never_confirms_beyond_the_share_nor_without_parts(
    parts: int, compared: int, disagreements: int, most: float
) -> None:
    compared, disagreements = min(compared, parts), min(disagreements, compared, parts)
    found = judged(parts, compared, disagreements, minutes=100, parts=1, max_disagree=most)
    beyond = disagreements > most * compared
    assert (found is Outcome.REVERT) == (beyond and compared >= ENOUGH_COMPARED)
    enough = compared >= min(parts, 1)  # half of the one that is asked for
    assert (found is Outcome.CONFIRM) == (parts > 0 and not beyond and enough)


def test_a_rule_that_never_ends_is_refused() -> None:
    with pytest.raises(ValueError, match="never end"):
        TrialSettings(parts=0, minutes=0)
    assert TrialSettings(parts=0, minutes=0, confirm="command").parts == 0


# Hanging.


def test_a_model_hangs_when_one_part_takes_too_long() -> None:
    watch = HangWatch(3.0)
    assert [watch.look(1, 1.0) for _ in range(5)] == [False, False, False, False, True]
    assert not watch.look(2, 1.0)  # another part
    assert not watch.look(None, 9.0)
    assert not watch.look(2, 9.0)  # it began after the last look
    assert watch.look(2, 9.0)


# Comparing.


@pytest.fixture
def pair(tmp_path: Path) -> Bench:
    """A station that has bundle 2 (not OK from 200) on trial before bundle 1 (from 128)."""
    toy = ToyStore(tmp_path / "slots")
    toy.install("1")
    toy.tried("2", limit=200.0)
    return Bench(toy, toy.keeper(minutes=0))


def running(made: Bench, *, rests: Callable[[], bool] = lambda: True) -> list[Note]:
    """Start it; what it notes."""
    notes: list[Note] = []
    made.keeper.start(Surroundings(note=notes.append, rests=rests))
    return notes


def offered(made: Bench, turn: Turn) -> list[bool]:
    """Judge a part and give it; what is said later of the disagreement."""
    heard: list[bool] = []
    judgement = made.judge.judge(turn)
    trial = judgement.product.on_trial
    assert trial is not None
    assert trial.given(turn, judgement, heard.append)
    return heard


def shadow_of(made: Bench) -> tuple[OnTrial, Shadow]:
    trial = made.products.active.on_trial
    assert trial is not None
    assert trial.shadow is not None
    return trial, trial.shadow


def test_each_part_is_judged_by_both_and_disagreements_are_noted(
    pair: Bench, wait_until: Callable[..., None]
) -> None:
    notes = running(pair)
    trial, _ = shadow_of(pair)
    alike = offered(pair, pair.turn("same", level=10))
    wait_until(lambda: alike == [False])
    turn = pair.turn("other", level=150)
    unlike = offered(pair, turn)
    wait_until(lambda: unlike == [True])
    progress = trial.progress
    assert (progress.parts, progress.compared, progress.disagreements) == (2, 2, 1)
    (note,) = notes
    assert note.kind == "shadow"
    assert msgspec.json.decode(note.body) == {
        "turn": turn.id,
        "part": "other",
        "product": "level",
        "trial": pair.toy.models["2"].bundle[:16],
        "trial_evaluation": 1,
        "trial_score": 150.0,
        "confirmed": pair.toy.models["1"].bundle[:16],
        "confirmed_evaluation": 2,
        "confirmed_score": 150.0,
    }
    pair.slotting.stop()


def test_too_many_disagreements_take_it_back(pair: Bench, wait_until: Callable[..., None]) -> None:
    notes = running(pair)
    trial, _ = shadow_of(pair)
    for number in range(ENOUGH_COMPARED):
        heard = offered(pair, pair.turn(f"P{number}", level=150))
        wait_until(lambda heard=heard: heard == [True])
        assert pair.version() == "2"
    assert trial.progress.disagreements == ENOUGH_COMPARED
    pair.keeper.look(0.0)
    assert (pair.version(), pair.toy.reverted) == ("1", "disagreement")
    # Few of them: the journal is for verdicts.
    assert [note.kind for note in notes] == ["shadow"] * 10 + ["slot"]
    told = msgspec.json.decode(notes[-1].body)
    assert (told["event"], told["reason"]) == ("reverted", "disagreement")
    assert told["words"].count("20 compared, 20 evaluated otherwise, 0 not in time") == 1


def test_nobody_waits_for_the_comparison_and_what_is_too_much_is_counted(
    pair: Bench, wait_until: Callable[..., None]
) -> None:
    rests = threading.Event()
    running(pair, rests=rests.is_set)
    trial, _ = shadow_of(pair)
    heard: list[bool] = []
    started_s = time.monotonic()
    taken = 0
    for number in range(50):
        turn = pair.turn(f"P{number}")
        taken += trial.given(turn, pair.judge.judge(turn), heard.append)
    assert time.monotonic() - started_s < 5.0
    # Four wait, and one is held until the inspection rests.
    assert taken in (4, 5)
    assert pair.toy.models["1"].seen == []
    rests.set()
    wait_until(lambda: len(heard) == taken)
    progress = trial.progress
    assert (progress.parts, progress.compared, progress.skipped) == (50, taken, 50 - taken)
    pair.slotting.stop()


def test_at_the_end_what_waits_is_told_and_not_compared(pair: Bench) -> None:
    running(pair, rests=lambda: False)
    trial, shadow = shadow_of(pair)
    heard = [offered(pair, pair.turn(f"P{number}", level=150)) for number in range(3)]
    pair.slotting.stop()
    assert heard == [[False]] * 3
    assert (trial.progress.compared, trial.progress.skipped) == (0, 3)
    turn = pair.turn()
    assert not shadow.offer(turn, pair.judge.judge(turn), lambda _: None)


def test_a_confirmed_model_whose_engine_fails_says_nothing_about_the_other(
    pair: Bench, wait_until: Callable[..., None]
) -> None:
    pair.toy.models["1"].fails.add("*")
    running(pair)
    trial, _ = shadow_of(pair)
    heard = offered(pair, pair.turn(level=150))
    wait_until(lambda: heard == [False])
    assert (trial.progress.compared, trial.progress.skipped) == (0, 1)
    pair.slotting.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_of_ours_in_the_comparison_is_said_and_the_verdicts_go_on(
    pair: Bench, wait_until: Callable[..., None]
) -> None:
    running(pair)
    trial, shadow = shadow_of(pair)
    pair.toy.models["1"].close()  # the toy's inspector then fails an assertion
    heard = offered(pair, pair.turn())
    wait_until(lambda: bool(shadow.fault))
    assert heard == [False]
    assert "no more parts are compared" in pair.slotting.trouble
    pair.inspect()
    assert (trial.progress.parts, trial.progress.skipped) == (2, 1)
    pair.slotting.stop()


def test_a_part_without_frame_or_score_is_no_part_of_a_trial(pair: Bench) -> None:
    trial = pair.products.active.on_trial
    assert trial is not None
    turn = pair.turn()
    turn.capture = dataclasses.replace(turn.capture, frame=None)
    judgement = judge_by(turn, pair.products.active)
    assert not trial.given(turn, judgement)
    assert trial.progress.parts == 0


@pytest.mark.parametrize("reason", [Reason.DEADLINE, Reason.OVERLOAD, Reason.FRAME_MISSING])
def test_a_part_that_is_over_while_the_model_computes_counts_against_it(
    pair: Bench, reason: Reason
) -> None:
    trial = pair.products.active.on_trial
    assert trial is not None
    turn = pair.turn()
    verdict = undecided(turn, pair.products.active, reason, "")
    judgement = Judgement(verdict=verdict, product=pair.products.active)
    assert not trial.given(turn, judgement)  # the disk, say, is what all wait for
    assert trial.progress.late == 0
    with trial.computing(pair.turn()):
        trial.given(turn, judgement)
    assert trial.progress.late == (reason is not Reason.FRAME_MISSING)


def test_the_confirmed_one_is_not_compared_with_itself_after_the_end(pair: Bench) -> None:
    running(pair)
    trial, _ = shadow_of(pair)
    pair.inspect()
    pair.slotting.confirm()
    assert trial.shadow is None
    assert trial.behind is None
    assert pair.inspect().model == pair.toy.models["2"].bundle[:16]
    assert trial.progress.parts == 1
    pair.slotting.stop()


def test_a_line_that_never_rests_is_told_so_and_once_it_rests_the_bundle_is_confirmed(
    pair: Bench, wait_until: Callable[..., None]
) -> None:
    rests = threading.Event()
    notes = running(pair, rests=rests.is_set)
    for number in range(200):  # as many as end it, of which none was compared
        pair.inspect(f"P{number}")
    pair.keeper.look(0.0)
    assert pair.toy.states == ("confirmed", "trial")
    assert "until 20 parts are compared with the bundle before" in pair.slotting.trouble
    pair.keeper.look(OVERDUE_S - 1)
    assert (pair.slotting.is_overdue, notes) == (False, [])
    for _ in range(3):
        pair.keeper.look(1.0)
    assert pair.slotting.is_overdue
    (note,) = notes
    told = msgspec.json.decode(note.body)
    assert (told["event"], told["bundle"], told["reason"]) == (
        "overdue",
        pair.toy.models["2"].bundle,
        "",
    )
    assert "200 parts in 10 min, 0 compared" in told["words"]
    rests.set()
    figures = pair.slotting.figures
    wait_until(lambda: pair.slotting.figures["compared"] == 200 - figures["skipped"])
    for number in range(20):
        heard = offered(pair, pair.turn(f"Q{number}"))
        wait_until(lambda heard=heard: heard == [False])
    pair.keeper.look(0.0)
    assert pair.toy.states == ("revert", "confirmed")
    assert not pair.slotting.is_overdue
    pair.slotting.stop()


def test_the_station_s_own_thread_confirms_and_counts_the_time_it_runs(
    tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    toy = ToyStore(tmp_path / "slots")
    toy.install("1")
    toy.tried("2")
    made = Bench(toy, toy.keeper(parts=0, minutes=0.0005), look_s=0.01)
    made.slotting.start(Surroundings())
    wait_until(lambda: "it has judged no part" in made.slotting.trouble)
    assert toy.states == ("confirmed", "trial")
    assert made.slotting.figures == {
        "minutes": 0,
        "parts": 0,
        "compared": 0,
        "disagreements": 0,
        "skipped": 0,
        "late": 0,
    }
    made.inspect()
    wait_until(lambda: toy.states == ("revert", "confirmed"))
    wait_until(lambda: "confirmed" in made.slotting.last_words)
    assert made.slotting.figures == {}
    made.slotting.stop()
    made.slotting.check()
