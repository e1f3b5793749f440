"""The ring of kept frames: which, how many, what is in them, and that a verdict never waits."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lineside.errors import ConfigurationError, FrameError
from lineside.frame import Frame, decode_frame, read_frame
from lineside.kept import KeepSettings, KeptFacts, Nearness, Ring, read_facts
from lineside.kept.facts import NAME, decode_facts, encode_kept
from lineside.kept.nearness import FEWEST, WINDOW
from lineside.outbox.entry import RegionEntry
from lineside.sources import Capture
from lineside.station import read_configuration
from lineside.station.keeping import FrameKeeper
from lineside.verdict import Evaluation, Reason, Region, Verdict

T0_NS = 1_795_212_345_678 * 1_000_000
GOOD = Verdict(
    evaluation=Evaluation.OK, reason=Reason.WITHIN_LIMIT, score=0.1, limit=0.4, model="m" * 16
)
BAD = msgspec.structs.replace(
    GOOD, evaluation=Evaluation.NOT_OK, reason=Reason.BEYOND_LIMIT, score=0.8, limit=0.6
)
UNSURE = msgspec.structs.replace(
    GOOD, evaluation=Evaluation.NOT_DECIDABLE, reason=Reason.BETWEEN_LIMITS, score=0.5, limit=0.6
)
BLACK = msgspec.structs.replace(
    UNSURE, reason=Reason.FRAME_BLACK, score=None, detail="all pixels are below 3"
)


def turn(number: int) -> str:
    return f"{number:016x}"


def capture(part_id: str = "p", *, after_ms: int = 0, side_px: int = 16) -> Capture:
    noise = np.random.default_rng(after_ms).integers(0, 256, (side_px, side_px, 3), np.uint8)
    return Capture(
        part_id=part_id,
        taken_unix_ns=T0_NS + after_ms * 1_000_000,
        taken_ns=0,
        read_us=1.0,
        frame=Frame(pixels_hwc=noise),
    )


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Callable[..., FrameKeeper]]:
    """``keep(most=3)``: a keeper that runs, stopped in the end."""
    made: list[FrameKeeper] = []

    def make(**settings: Any) -> FrameKeeper:
        made.append(
            FrameKeeper(KeepSettings(**{"path": tmp_path / "kept", "keep_free_mib": 0, **settings}))
        )
        made[-1].start()
        return made[-1]

    yield make
    for keeper in made:
        keeper.stop(10)


def settle(keeper: FrameKeeper, count: int) -> None:
    """Until so many frames are written or lost."""
    deadline_s = time.monotonic() + 10
    while keeper.written + keeper.lost < count:
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_undecided_is_kept_to_the_last_bit_with_what_was_said_of_it(
    keep: Callable[..., FrameKeeper], tmp_path: Path
) -> None:
    keeper, taken = keep(), capture("a/b ü\n")
    whole = RegionEntry(
        name="U7", region=Region(x0_px=0, y0_px=2, x1_px=4, y1_px=6), evaluation=3, score=0.5
    )
    with_outputs = msgspec.structs.replace(whole, outputs={"value": (0.5,)})
    why = keeper.offer(taken, UNSURE, turn=turn(7), regions=(with_outputs,))
    assert why == ("undecided",)
    assert keeper.offer(capture("q\udcff", after_ms=1), BLACK, turn=turn(8)) == ("fault",)
    assert keeper.offer(capture(after_ms=2), GOOD, turn=turn(9), drifting=True) == ("drifting",)
    assert keeper.offer(capture(after_ms=3), GOOD, turn=turn(10)) == ()
    assert keeper.offer(capture(after_ms=4), BAD, turn=turn(11)) == ()
    no_frame = Capture(part_id="", taken_unix_ns=T0_NS, taken_ns=0, read_us=0.0)
    assert keeper.offer(no_frame, BLACK, turn=turn(12)) == ()
    settle(keeper, 3)
    first, second, third = names(tmp_path / "kept")
    assert first.startswith("1795212345678_undecided_a_b___~")
    assert first.endswith(f"_{turn(7)}.frame.png")
    assert second == f"1795212345679_fault_q_udcff~c3c9f2ae_{turn(8)}.frame.png"
    assert third == f"1795212345680_drifting_p_{turn(9)}.frame.png"
    assert taken.frame is not None
    kept = read_frame(tmp_path / "kept" / first).pixels_hwc
    np.testing.assert_array_equal(kept, taken.frame.pixels_hwc)
    assert read_facts(tmp_path / "kept" / first) == KeptFacts(
        turn=turn(7),
        why=("undecided",),
        part="a/b ü\n",
        taken_unix_ns=T0_NS,
        evaluation=3,
        reason="between_limits",
        score=0.5,
        limit=0.6,
        unit="",
        model="m" * 16,
        regions=(whole,),
    )
    assert (keeper.written, keeper.lost, keeper.fault) == (3, 0, "")


@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3])),
    ),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40),
    st.data(),
)
def test_pixels_and_facts_come_back_and_a_damaged_chunk_says_nothing(
    pixels_hwc: np.ndarray, part: str, data: st.DataObject
) -> None:
    facts = KeptFacts(turn=turn(1), why=("near", "share"), part=part, score=1e-300)
    kept = encode_kept(pixels_hwc, facts)
    decoded = decode_frame(kept, source="kept").pixels_hwc
    assert decoded.dtype == pixels_hwc.dtype
    np.testing.assert_array_equal(decoded, pixels_hwc)
    assert decode_facts(kept) == facts
    assert NAME.fullmatch(facts.name)
    chunk = kept.index(b"iTXt")
    place = data.draw(st.integers(chunk, chunk + 40))
    spoilt = bytearray(kept)
    spoilt[place] ^= data.draw(st.integers(1, 255))
    assert decode_facts(bytes(spoilt)) is None
    cut = data.draw(st.integers(0, chunk + 40))
    assert decode_facts(kept[:cut]) is None


@pytest.mark.parametrize(
    "pixels_hwc",
    [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 1), np.uint8)],
)
def test_what_no_png_holds_is_lost_and_told(
    keep: Callable[..., FrameKeeper], pixels_hwc: np.ndarray
) -> None:
    with pytest.raises(FrameError):
        encode_kept(pixels_hwc, KeptFacts(turn=turn(1), why=("fault",)))
    keeper = keep()
    strange = Capture(
        part_id="", taken_unix_ns=0, taken_ns=0, read_us=0.0, frame=Frame(pixels_hwc=pixels_hwc)
    )
    keeper.offer(strange, BLACK, turn=turn(1))
    settle(keeper, 1)
    assert (keeper.written, keeper.lost) == (0, 1)
    assert "cannot be kept" in keeper.fault


def test_a_turn_that_is_none_is_a_fault_of_ours(keep: Callable[..., FrameKeeper]) -> None:
    with pytest.raises(ValueError, match="16 hex digits"):
        keep().offer(capture(), UNSURE, turn="7")


def judged(score: float, *, limit: float = 0.4, model: str = "m") -> Verdict:
    return msgspec.structs.replace(GOOD, score=score, limit=limit, model=model)


@given(
    st.integers(0, 2**32),
    st.floats(1e-3, 1e3),
    st.floats(-1e3, 1e3),
    st.sampled_from([0.01, 0.05, 0.2, 0.5]),
)
def test_near_is_a_share_of_all_parts_whatever_the_scale_of_scores(
    seed: int, scale: float, shift: float, share: float
) -> None:
    scores = np.random.default_rng(seed).normal(size=FEWEST + WINDOW)
    plain, other = Nearness(share), Nearness(share)
    told = [plain.is_near(judged(float(s), limit=0.4)) for s in scores]
    assert not any(told[:FEWEST])
    # Over 300 seeds its standard deviation was 0.016 for a half, and less for less.
    assert abs(sum(told[FEWEST:]) / WINDOW - share) < 0.08
    moved = scores * scale + shift
    assert (
        sum(
            other.is_near(judged(float(s), limit=0.4 * scale + shift)) != near
            for s, near in zip(moved, told, strict=True)
        )
        <= 2
    )  # rounding swaps ranks that are equal but for it


def test_near_is_nearer_than_nearly_all_before() -> None:
    nearness = Nearness(0.02)
    for number in range(200):
        assert not nearness.is_near(judged(0.3 - number * 1e-3))
    # The nearest 2 % of 200 are those up to 0.103 from the limit.
    assert nearness.is_near(judged(0.39))
    assert nearness.is_near(judged(0.41))
    assert not nearness.is_near(judged(0.29))
    # Another bundle has its own measure, and what the score does not decide does not count.
    assert not nearness.is_near(judged(0.4, model="other"))
    assert not nearness.is_near(UNSURE)
    assert not nearness.is_near(judged(float("nan")))
    assert not Nearness(0.0).is_near(judged(0.4))


def test_equal_scores_are_not_near() -> None:
    nearness = Nearness(0.5)
    assert not any(nearness.is_near(judged(0.2)) for _ in range(3 * FEWEST))


def test_many_bundles_take_no_more_memory() -> None:
    nearness = Nearness(0.1)
    for number in range(100):
        nearness.is_near(judged(0.2, model=f"{number}"))
    assert len(nearness._windows) == 16


def test_near_parts_and_shares_of_the_others_are_kept_too(
    keep: Callable[..., FrameKeeper],
) -> None:
    keeper = keep(ok_share=0.25, not_ok_share=1.0, near=0.02)
    assert keeper.offer(capture(), BAD, turn=turn(1)) == ("share",)
    for number in range(FEWEST):
        score = 0.1 - number * 1e-4
        keeper._nearness.is_near(msgspec.structs.replace(GOOD, score=score))
    nearest = msgspec.structs.replace(GOOD, score=0.39)
    (first, *_) = keeper.offer(capture(), nearest, turn=turn(2))
    assert first == "near"
    far = msgspec.structs.replace(GOOD, score=-5.0)
    drawn = [keeper.offer(capture(side_px=1), far, turn=turn(n)) for n in range(2000)]
    assert 400 < sum(why == ("share",) for why in drawn) < 600
    again = [keeper.offer(capture(side_px=1), far, turn=turn(n)) for n in range(2000)]
    assert again == drawn


def test_the_oldest_go_first_and_what_is_not_ours_stays(
    keep: Callable[..., FrameKeeper], tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    strangers = [
        "1795212345000_x.png",
        f"1795212340000_other_old_{turn(1)}.frame.png",
        ".1795212345001_x.frame.png.77.part",
        "notes.txt",
    ]
    torn = f".1795212345001_fault_x_{turn(1)}.frame.png.77.part"
    old = [f"179521234{index:04d}_undecided_old_{turn(index)}.frame.png" for index in range(9)]
    for name in (*strangers, torn, *old):
        (folder / name).write_bytes(b"x")
    keeper = keep(most=3)
    for index in range(5):
        keeper.offer(capture(f"p{index}", after_ms=index), UNSURE, turn=turn(index))
        settle(keeper, index + 1)
        ours = [name for name in names(folder) if name not in strangers]
        assert len(ours) == 3
        assert ours[-1] == f"{1795212345678 + index}_undecided_p{index}_{turn(index)}.frame.png"
    assert [name.split("_")[2] for name in ours] == ["p2", "p3", "p4"]
    assert set(strangers) < set(names(folder))


def test_a_storm_of_one_kind_does_not_push_out_another(
    keep: Callable[..., FrameKeeper], tmp_path: Path
) -> None:
    keeper = keep(most=6)
    for index in range(3):
        keeper.offer(capture(after_ms=index), UNSURE, turn=turn(index))
        settle(keeper, index + 1)
    for index in range(3, 40):
        keeper.offer(capture(after_ms=index), BLACK, turn=turn(index))
        settle(keeper, index + 1)
    kept = [name.split("_")[:2] for name in names(tmp_path / "kept")]
    assert [kind for _, kind in kept] == ["undecided"] * 3 + ["fault"] * 3
    assert kept[-1][0] == str(1795212345678 + 39)


def test_so_many_bytes_and_no_more(keep: Callable[..., FrameKeeper], tmp_path: Path) -> None:
    """Noise of 400x400 px in colour takes half a MiB: two of them fit into one."""
    keeper = keep(max_mib=1)
    for index in range(5):
        keeper.offer(capture(after_ms=index, side_px=400), UNSURE, turn=turn(index))
        settle(keeper, index + 1)
        sizes = [path.stat().st_size for path in (tmp_path / "kept").iterdir()]
        assert 0 < sum(sizes) <= 2**20
    assert (keeper.written, len(sizes)) == (5, 2)
    keeper.offer(capture(after_ms=9, side_px=700), UNSURE, turn=turn(9))
    settle(keeper, 6)
    assert (keeper.written, keeper.lost) == (5, 1)
    assert "keep.max_mib" in keeper.fault
    assert len(names(tmp_path / "kept")) == 2


def test_whoever_needs_the_disk_more_gets_room_the_oldest_first(
    keep: Callable[..., FrameKeeper], tmp_path: Path
) -> None:
    keeper = keep()
    for index in range(4):
        keeper.offer(capture(after_ms=index), UNSURE, turn=turn(index))
        settle(keeper, index + 1)
    stranger = tmp_path / "kept" / "notes.txt"
    stranger.write_bytes(b"x")
    assert keeper.free_room(1, beside=Path("/proc/self/stat")) == 0
    assert keeper.free_room(1, beside=tmp_path / "not there") == 0
    sizes = [path.stat().st_size for path in sorted((tmp_path / "kept").glob("*.png"))]
    assert keeper.free_room(sizes[0] + 1, beside=tmp_path) == sum(sizes[:2])
    assert [name[:13] for name in names(tmp_path / "kept")[:2]] == [
        str(1795212345678 + 2),
        str(1795212345678 + 3),
    ]
    assert keeper.free_room(2**40) == sum(sizes[2:])
    assert keeper.free_room(2**40) == 0
    assert names(tmp_path / "kept") == ["notes.txt"]
    # The next one is kept as ever, and what an earlier life left can go too.
    keeper.offer(capture(after_ms=9), UNSURE, turn=turn(9))
    settle(keeper, 5)
    later = FrameKeeper(KeepSettings(path=tmp_path / "kept"))
    assert later.free_room(1) > 0
    assert names(tmp_path / "kept") == ["notes.txt"]


def test_room_is_asked_for_without_waiting_for_a_share_that_hangs(tmp_path: Path) -> None:
    ring = Ring(tmp_path, NAME, section="keep", most=3, keep_free_mib=0)
    with ring._lock:  # as while the thread stands in the kernel
        assert ring.free_room(1) == 0


def test_frames_that_people_took_away_are_no_trouble(
    keep: Callable[..., FrameKeeper], tmp_path: Path
) -> None:
    keeper = keep(most=2)
    for index in range(4):
        keeper.offer(capture(after_ms=index), UNSURE, turn=turn(index))
        settle(keeper, index + 1)
        for path in (tmp_path / "kept").iterdir():
            path.unlink()
    assert (keeper.written, keeper.lost, keeper.fault) == (4, 0, "")


def test_a_folder_that_cannot_be_written_is_told_and_heals(
    keep: Callable[..., FrameKeeper], tmp_path: Path
) -> None:
    in_the_way = tmp_path / "place"
    in_the_way.write_bytes(b"")
    keeper = keep(path=in_the_way / "kept")
    keeper.offer(capture(), UNSURE, turn=turn(1))
    settle(keeper, 1)
    assert (keeper.written, keeper.lost) == (0, 1)
    assert str(in_the_way / "kept") in keeper.fault
    in_the_way.unlink()
    keeper.offer(capture(), UNSURE, turn=turn(2))
    settle(keeper, 2)
    assert (keeper.written, keeper.lost, keeper.fault) == (1, 1, "")


def test_a_disk_with_little_room_is_left_to_verdicts(
    keep: Callable[..., FrameKeeper], tmp_path: Path
) -> None:
    keeper = keep(keep_free_mib=1_048_576)
    keeper.offer(capture(), UNSURE, turn=turn(1))
    settle(keeper, 1)
    assert (keeper.written, keeper.lost) == (0, 1)
    assert "keep.keep_free_mib" in keeper.fault
    assert names(tmp_path / "kept") == []


def test_a_disk_that_is_full_in_the_middle_of_a_frame_leaves_no_half_one(
    keep: Callable[..., FrameKeeper], tmp_path: Path
) -> None:
    """No file of this process may grow beyond 1 kB, as on a disk that fills up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    keeper = keep()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
        keeper.offer(capture(side_px=64), UNSURE, turn=turn(1))
        settle(keeper, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (keeper.written, keeper.lost) == (0, 1)
    assert "File too large" in keeper.fault
    assert names(tmp_path / "kept") == []


def test_handing_over_never_waits_and_counts_what_is_let_go(tmp_path: Path) -> None:
    """As with a share that hangs in the kernel: nobody takes anything out."""
    keeper = FrameKeeper(KeepSettings(path=tmp_path))
    for index in range(50):
        keeper.offer(capture(), UNSURE, turn=turn(index))
    assert (keeper.written, keeper.lost) == (0, 46)
    assert "faster" in keeper.fault
    keeper.start()
    keeper.stop(10)
    assert (keeper.written, keeper.lost) == (4, 46)


def test_a_fault_of_ours_ends_the_keeping_and_nothing_else(
    keep: Callable[..., FrameKeeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    keeper = keep()
    no_pixels = Frame(pixels_hwc=None)  # type: ignore[arg-type]
    broken = Capture(part_id="", taken_unix_ns=0, taken_ns=0, read_us=0.0, frame=no_pixels)
    keeper.offer(broken, UNSURE, turn=turn(1))
    deadline_s = time.monotonic() + 10
    while not keeper.fault and time.monotonic() < deadline_s:
        time.sleep(0.002)
    assert "no more frames until the next start" in keeper.fault
    for index in range(20):
        keeper.offer(capture(), UNSURE, turn=turn(index))
    keeper.stop(10)
    assert (keeper.written, keeper.lost) == (0, 21)
    assert len(told) == 1


STATION = """
[station]
site = "plant1"
line = "line3"
name = "aoi1"
[bundle]
path = "joint.lsb"
[source]
kind = "folder"
path = "frames"
"""


def test_the_settings_are_read_and_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "station.toml"
    file.write_text(STATION + "[keep]\npath = 'kept'\nnear = 0.1\nmax_mib = 7\n", "utf-8")
    keep = read_configuration(file).keep
    assert keep == KeepSettings(path=tmp_path / "kept", near=0.1, max_mib=7)
    file.write_text(STATION, "utf-8")
    assert read_configuration(file).keep == KeepSettings()
    for change, path, words in (
        ("most = 3", "keep.path", "is missing"),
        ("path = 'frames'", "keep.path", "is source.path"),
        ("path = 'kept'\nnear = 0.6", "keep.near", "<= 0.5"),
        ("path = 'kept'\nok_share = -1", "keep.ok_share", ">= 0"),
        ("path = 'kept'\nmoist = 3", "keep.moist", "did you mean most"),
    ):
        file.write_text(STATION + "[keep]\n" + change, "utf-8")
        with pytest.raises(ConfigurationError, match=words) as caught:
            read_configuration(file)
        assert caught.value.path == path
    with pytest.raises(ConfigurationError, match="name a folder"):
        FrameKeeper(KeepSettings())
