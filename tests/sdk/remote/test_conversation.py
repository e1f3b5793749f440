"""One command to one station: whatever is lost on the way, it ends, and the bytes are right."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lossy_way import FATES, LOST, Station, Way

from lineside.mqtt import AckMessage
from lineside.remote.conversation import Conversation, Patience
from lineside.remote.events import (
    Action,
    Ask,
    Back,
    End,
    Heard,
    Joined,
    Lost,
    Send,
    Taken,
    Tick,
    Upload,
)
from lineside.slots import SimulatedFlash, SlotState

DATA = random.Random(7).randbytes(20_000)
TROUBLES = ("broker", "sender", "station")


def ack(cmd: str = "pause", *, ok: bool = True, detail: str = "", command_id: str = "c") -> Heard:
    return Heard(ack=AckMessage(id=command_id, cmd=cmd, ok=ok, detail=detail, t=0))


def asked(actions: tuple[Action, ...]) -> list[str]:
    return [action.command_id for action in actions if isinstance(action, Ask)]


def offsets(actions: tuple[Action, ...]) -> list[int]:
    return [action.stretch.offset for action in actions if isinstance(action, Send)]


def end_of(actions: tuple[Action, ...]) -> End:
    (end,) = actions
    assert isinstance(end, End)
    return end


def installing(size_bytes: int = 100, chunk_bytes: int = 10) -> Conversation:
    return Conversation(
        "install", "c", 0.0, upload=Upload(size_bytes=size_bytes, chunk_bytes=chunk_bytes)
    )


@settings(max_examples=150)
@given(
    st.lists(st.sampled_from(FATES), max_size=120),
    st.dictionaries(st.integers(1, 120), st.sampled_from(TROUBLES), max_size=4),
)
def test_any_losses_end_in_the_right_bytes_or_in_a_clean_failure(
    fates: list[str], troubles: dict[int, str]
) -> None:
    way = Way(DATA, fates=fates, troubles=troubles)
    end = way.run()
    if end.ack is not None:
        assert end.ack.ok
        assert list(way.station.bundles().values()) == [DATA]
    else:
        assert end.fault is not None
        assert end.fault.words
    assert set(way.station.bundles().values()) <= {DATA}


@pytest.mark.parametrize("seed", range(20))
def test_a_bad_way_is_slow_and_no_obstacle(seed: int) -> None:
    draw = random.Random(seed)
    fates = [draw.choice(FATES) if draw.random() < 0.3 else "delivered" for _ in range(4000)]
    way = Way(DATA, fates=fates, troubles={draw.randrange(1, 60): t for t in TROUBLES})
    assert way.run().ack is not None
    assert list(way.station.bundles().values()) == [DATA]


def test_without_losses_every_byte_goes_once() -> None:
    way = Way(DATA)
    assert way.run().ack is not None
    assert (way.sent_bytes, way.asked) == (len(DATA), 1)
    assert way.offsets == sorted(way.offsets)
    assert way.now_s < 2, "an answer is waited for nowhere"


@pytest.mark.parametrize("trouble", TROUBLES)
def test_it_goes_on_where_it_was(trouble: str) -> None:
    way = Way(DATA, troubles={60: trouble})
    assert way.run().ack is not None
    # Of flash of 1 KiB pages a restart gives up the last one; the window is 4 KiB.
    assert way.sent_bytes <= len(DATA) + 5 * 1024


def test_a_lost_last_answer_is_given_again() -> None:
    whole = Way(DATA)
    whole.run()
    last = (
        2 * (1 + len(DATA) // 512 + 1) + 1
    )  # asked and told, each stretch and its answer, the end
    way = Way(DATA, fates=["delivered"] * (last - 1) + [LOST])
    end = way.run()
    assert end.ack is not None
    assert (way.asked, way.sent_bytes) == (2, len(DATA))


def test_the_same_again_after_a_restart_is_answered_at_once() -> None:
    station = Station(SimulatedFlash(page_bytes=1024, slot_bytes=65536))
    assert Way(DATA, station=station).run().ack is not None
    station.restart()
    way = Way(DATA, station=station)
    end = way.run()
    assert end.ack is not None
    assert end.ack.detail.startswith(f"already {SlotState.CONFIRMED.value} a ")
    assert way.sent_bytes == 0


def test_a_command_is_asked_again_by_the_same_id_until_answered() -> None:
    talk = Conversation("pause", "c", 0.0)
    assert asked(talk.step(Joined(), 0.0)) == ["c"]
    assert talk.step(Tick(), 1.0) == ()
    assert asked(talk.step(Tick(), 3.1)) == ["c"]
    assert talk.step(ack("resume"), 3.2) == (), "an answer to another command"
    assert talk.step(ack(command_id="d"), 3.2) == (), "an answer to somebody else"
    end = end_of(talk.step(ack(), 3.3))
    assert end.ack is not None
    assert talk.step(Tick(), 99.0) == (), "it is over"


def test_what_the_broker_has_not_taken_is_not_asked_again() -> None:
    talk = Conversation("pause", "c", 0.0)
    talk.step(Joined(), 0.0)
    assert not any(talk.step(Tick(waits=True), now / 10) for now in range(299))
    end = end_of(talk.step(Tick(waits=True), 31.0))
    assert end.fault is not None
    assert end.fault.kind == "broker"


def test_a_station_that_says_nothing_is_given_up() -> None:
    talk = Conversation("pause", "c", 0.0)
    for actions in (talk.step(Joined(), 0.0), talk.step(Taken(), 0.1), talk.step(Tick(), 29.0)):
        assert len(asked(actions)) <= 1
    end = end_of(talk.step(Tick(), 30.2))
    assert end.fault is not None
    assert end.fault.kind == "silent"


def test_a_broker_that_is_away_is_waited_for_and_then_given_up() -> None:
    talk = Conversation("pause", "c", 0.0)
    assert talk.step(Lost(words="Connection refused"), 0.0) == ()
    assert talk.step(Tick(), 29.0) == ()
    end = end_of(talk.step(Tick(), 30.1))
    assert end.fault is not None
    assert (end.fault.kind, "Connection refused" in end.fault.words) == ("broker", True)


def test_after_an_outage_the_station_has_its_time_again() -> None:
    talk = Conversation("pause", "c", 0.0)
    talk.step(Joined(), 0.0)
    talk.step(Taken(), 0.1)
    talk.step(Lost(words="gone"), 20.0)
    assert asked(talk.step(Joined(), 29.0)) == ["c"]
    talk.step(Taken(), 29.1)
    assert not any(isinstance(action, End) for action in talk.step(Tick(), 40.0))


def test_a_refusal_ends_it_with_the_stations_words() -> None:
    talk = Conversation("pause", "c", 0.0)
    talk.step(Joined(), 0.0)
    end = end_of(talk.step(ack(ok=False, detail="not_allowed: pause is not for this key"), 0.1))
    assert end.fault is not None
    assert (end.fault.kind, end.fault.words[:11]) == ("refused", "not_allowed")


def test_a_doubled_delivery_is_no_refusal() -> None:
    talk = Conversation("install", "c", 0.0, upload=Upload(size_bytes=100, chunk_bytes=10))
    talk.step(Joined(), 0.0)
    assert offsets(talk.step(ack("chunk", detail="0"), 0.1))
    assert talk.step(ack("install", ok=False, detail="replay: it was heard before"), 0.2) == ()
    assert offsets(talk.step(ack("chunk", detail="10"), 0.3)) == [80]


def test_a_command_that_was_too_long_on_its_way_is_signed_anew() -> None:
    talk = Conversation("pause", "c", 0.0)
    talk.step(Joined(), 0.0)
    late = ack(ok=False, detail="expired: 12 ms ago")
    for _ in range(3):
        assert asked(talk.step(late, 1.0)) == ["c"]
    assert end_of(talk.step(late, 1.0)).fault is not None


def test_clocks_that_differ_are_told_at_once() -> None:
    talk = Conversation("pause", "c", 0.0)
    talk.step(Joined(), 0.0)
    message = AckMessage(id="c", cmd="pause", ok=False, detail="expired: 240000 ms ago", t=0)
    end = end_of(talk.step(Heard(ack=message, clock_gap_s=300.0), 1.0))
    assert end.fault is not None
    assert end.fault.clock_gap_s == 300.0


def test_a_busy_station_is_asked_for_a_while_by_new_ids() -> None:
    talk = installing()
    ids = asked(talk.step(Joined(), 0.0))
    now_s, ends = 0.0, []
    while not ends:
        actions = talk.step(
            ack("install", ok=False, detail="busy: another sender", command_id=ids[-1]), now_s
        )
        ends = [action for action in actions if isinstance(action, End)]
        now_s += 3.5
        ids += asked(talk.step(Tick(), now_s))
    assert len(ids) == len(set(ids)) >= 4
    assert now_s > 10, "a sender that was ended and started again is let in by then"
    assert ends[0].fault is not None
    assert ends[0].fault.words.startswith("busy")


def test_a_few_stretches_go_ahead_of_what_is_acknowledged() -> None:
    talk = installing(200)
    talk.step(Joined(), 0.0)
    assert offsets(talk.step(ack("chunk", detail="0"), 0.1)) == list(range(0, 80, 10))
    assert offsets(talk.step(ack("chunk", detail="30"), 0.2)) == [80, 90, 100]
    assert talk.step(ack("chunk", detail="20"), 0.3) == (), "an answer that was overtaken"
    assert talk.step(ack("chunk", detail="999"), 0.3) == (), "no offset of this file"
    assert talk.step(ack("chunk", detail="x"), 0.3) == ()
    assert offsets(talk.step(ack("chunk", detail="30"), 0.4)) == list(range(30, 110, 10))
    assert talk.step(ack("chunk", detail="30"), 0.5) == (), "already sent anew from there"


def test_it_may_begin_in_the_middle() -> None:
    talk = installing(95)
    talk.step(Joined(), 0.0)
    actions = talk.step(ack("chunk", detail="87"), 0.1)
    assert [(a.stretch.offset, a.stretch.size_bytes) for a in actions if isinstance(a, Send)] == [
        (87, 8)
    ]


def test_a_station_that_gets_no_further_is_given_up_with_a_hint() -> None:
    talk, now_s = installing(), 0.0
    actions = talk.step(Joined(), now_s)
    while not any(isinstance(action, End) for action in actions):
        now_s += 5.0
        actions = (
            talk.step(ack("chunk", detail="0"), now_s)
            if asked(actions)
            else talk.step(Tick(), now_s)
        )
        assert now_s < 120
    fault = end_of(actions).fault
    assert fault is not None
    assert (fault.kind, "byte 0" in fault.words) == ("stuck", True)


def test_a_station_that_loses_everything_again_and_again_is_given_up() -> None:
    talk, now_s, actions = installing(), 0.0, ()
    for _ in range(100):
        now_s += 1.0
        actions = talk.step(Joined(), now_s)
        actions = talk.step(ack("chunk", detail="0"), now_s)
        if any(isinstance(action, End) for action in actions):
            break
        talk.step(ack("chunk", detail="50"), now_s)
    fault = end_of(actions).fault
    assert fault is not None
    assert (fault.kind, "losing" in fault.words) == ("stuck", True)


def test_a_station_that_has_come_back_is_asked_at_once() -> None:
    talk = installing()
    talk.step(Joined(), 0.0)
    talk.step(ack("chunk", detail="0"), 0.1)
    assert asked(talk.step(Back(), 5.0)) == ["c"]
    assert asked(talk.step(Back(), 5.1)) == [], "and not twice a second"
    unknown = ack("chunk", ok=False, detail="no file is being taken here", command_id="")
    talk.step(ack("chunk", detail="10"), 5.2)
    assert asked(talk.step(unknown, 7.0)) == ["c"]


def test_a_station_that_proves_is_asked_whether_it_still_does_but_not_for_ever() -> None:
    talk = installing()
    talk.step(Joined(), 0.0)
    talk.step(ack("chunk", detail="100"), 0.1)
    assert talk.whole
    now_s, ends, times = 0.1, [], 0
    while not ends:
        now_s += 1.0
        actions = talk.step(Tick(), now_s)
        ends = [action for action in actions if isinstance(action, End)]
        if asked(actions):
            times += 1
            talk.step(ack("chunk", detail="100"), now_s)
    assert 10 < times < 40
    assert ends[0].fault is not None
    assert ends[0].fault.kind == "stuck"


def test_a_download_by_the_station_sends_nothing() -> None:
    upload = Upload(size_bytes=0, fetched=True)
    talk = Conversation("install", "c", 0.0, upload=upload, patience=Patience())
    talk.step(Joined(), 0.0)
    for second in range(1, 20):
        assert talk.step(ack("chunk", detail=str(second * 1000)), float(second)) == ()
    assert talk.offset == 19_000
    assert end_of(talk.step(ack("install", detail="pending b 00"), 21.0)).ack is not None
