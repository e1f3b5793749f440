"""Canary and waves: every station once, in order, as many as was said."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.errors import ConfigurationError
from lineside.fleet import Amount, Plan, make_plan, parse_amount, parse_waves, put_in_order

NAMES = st.lists(
    st.integers(0, 9999).map(lambda number: f"hall/line/{number}"), unique=True, max_size=60
)
AMOUNTS = st.one_of(
    st.integers(1, 80).map(lambda count: Amount(number=Fraction(count), is_share=False)),
    st.integers(1, 100).map(lambda share: Amount(number=Fraction(share, 100), is_share=True)),
)


def stations(count: int) -> list[str]:
    return [f"hall/line/{number}" for number in range(count)]


def sizes(plan: Plan) -> list[tuple[str, int]]:
    return [(wave.name, len(wave.stations)) for wave in plan.waves]


def test_the_issues_own_words_for_a_hall_of_sixty() -> None:
    plan = make_plan(stations(60), canary=1, waves=parse_waves("10,50,100%"))

    assert sizes(plan) == [("canary", 1), ("wave 1", 9), ("wave 2", 40), ("wave 3", 10)]
    assert plan.waves[0].is_canary
    assert not plan.rest


def test_shares_are_rounded_up() -> None:
    plan = make_plan(stations(7), canary=1, waves=parse_waves("10%,50%,100%"))

    assert sizes(plan) == [("canary", 1), ("wave 1", 3), ("wave 2", 3)]


def test_what_no_wave_reaches_is_left_as_rest() -> None:
    plan = make_plan(stations(10), canary=2, waves=parse_waves("50%"))

    assert sizes(plan) == [("canary", 2), ("wave 1", 3)]
    assert plan.rest == tuple(stations(10)[5:])


def test_waves_that_go_back_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="50% is 4 of 8 stations, fewer than the 10"):
        make_plan(stations(8), canary=0, waves=parse_waves("10,50%"))


@pytest.mark.parametrize("text", ["", "x", "-1", "10 %x", "1e3", "101%", "0.5", "٣", "10%,"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="waves:"):
        parse_waves(text)


def test_a_wave_of_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="a wave of none"):
        parse_waves("0,100%")


def test_a_share_is_exact() -> None:
    share = parse_amount("14.5%", path="waves")

    assert (share.most_of(200), share.least_of(200)) == (29, 29)  # 0.145 * 200 is 28.999… in floats
    assert str(share) == "14.5%"


@given(NAMES, st.integers(0, 20), st.lists(AMOUNTS, min_size=1, max_size=5))
def test_every_station_comes_once_and_in_order(
    names: list[str], canary: int, waves: list[Amount]
) -> None:
    try:
        plan = make_plan(names, canary=canary, waves=waves)
    except ConfigurationError:
        ends = [wave.most_of(len(names)) for wave in waves]
        assert ends != sorted(ends)
        return

    assert [*plan.stations, *plan.rest] == names
    assert all(wave.stations for wave in plan.waves)
    assert all(len(wave.stations) == min(canary, len(names)) for wave in plan.waves[:1] if canary)
    reached = 0
    for wave in plan.waves:
        reached += len(wave.stations)
        assert wave.is_canary or reached in {
            min(one.most_of(len(names)), len(names)) for one in waves
        }


@given(NAMES)
def test_the_order_by_hash_is_the_same_each_time_and_another_for_another_bundle(
    names: list[str],
) -> None:
    drawn = put_in_order(names, "hash", "ab" * 32)

    assert sorted(drawn) == sorted(names)
    assert put_in_order(list(reversed(names)), "hash", "ab" * 32) == drawn
    assert put_in_order(names, "file", "ab" * 32) == tuple(names)


def test_another_bundle_meets_another_canary() -> None:
    firsts = {put_in_order(stations(50), "hash", f"{number:064x}")[0] for number in range(20)}

    assert len(firsts) > 5
