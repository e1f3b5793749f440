"""A video file: its frames in turn, each once over restarts; damage is told in words."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from lineside.errors import InputDataError
from lineside.framekey import FrameKey
from lineside.sources import (
    Capture,
    FreeTrigger,
    Source,
    VideoSettings,
    open_source,
    probe_video,
    trigger_now,
)


class Remembered:
    """A memory that knows what a test told it."""

    def __init__(self) -> None:
        self.keys: dict[tuple[str, bytes], FrameKey] = {}

    def recall(self, source: str, name: bytes) -> FrameKey | None:
        return self.keys.get((source, name))

    def keep(self, capture: Capture) -> None:
        assert capture.key is not None
        self.keys[capture.key.source, capture.key.name] = capture.key


def write_film(file: Path, count: int) -> None:
    """Frames that get brighter by 5 each."""
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for number in range(count):
        writer.write(np.full((48, 64, 3), 5 * number % 250, np.uint8))
    writer.release()


@pytest.fixture
def film(tmp_path: Path) -> Path:
    file = tmp_path / "films" / "film.avi"
    file.parent.mkdir()
    write_film(file, 20)
    return file


def open_video(memory: Remembered | None = None, **settings: object) -> Source:
    return open_source(
        VideoSettings(**settings),  # type: ignore[arg-type]
        FreeTrigger(),
        memory=memory or Remembered(),
    )


def take(source: Source) -> list[Capture]:
    return [capture for capture in source.captures(threading.Event()) if capture is not None]


def level(capture: Capture) -> float:
    assert capture.frame is not None
    return float(capture.frame.pixels_hwc.mean())


def test_every_frame_is_a_part_in_turn_and_then_it_ends(film: Path) -> None:
    captures = take(open_video(path=film))
    assert [capture.part_id for capture in captures] == [f"film-{n:06d}" for n in range(20)]
    for number, capture in enumerate(captures):
        assert capture.frame is not None
        assert capture.frame.pixels_hwc.shape == (48, 64, 3)
        assert capture.frame.part_id == capture.part_id
        assert level(capture) == pytest.approx(5 * number, abs=3)


def test_each_nth_frame(film: Path) -> None:
    captures = take(open_video(path=film, every_nth=7))
    assert [capture.part_id[-2:] for capture in captures] == ["00", "07", "14"]


def test_a_restart_goes_on_where_it_was(film: Path) -> None:
    memory = Remembered()
    for capture in take(open_video(memory, path=film))[:15]:
        memory.keep(capture)
    source = open_video(memory, path=film)
    assert [capture.part_id[-2:] for capture in take(source)] == ["15", "16", "17", "18", "19"]
    assert source.passed_over == 15
    write_film(film, 3)
    assert len(take(open_video(memory, path=film))) == 3, "another film under its name"


def test_a_loop_begins_again_and_remembers_nothing(film: Path) -> None:
    source = open_video(path=film, loop=True)
    stopping = threading.Event()
    captures = source.captures(stopping)
    found = [next(captures) for _ in range(50)]
    assert [one.part_id[-2:] for one in found[18:22] if one] == ["18", "19", "00", "01"]
    assert all(one is not None and one.key is None for one in found)
    assert source.counts["rounds"] == 2
    stopping.set()
    assert list(captures) == []


def test_a_frame_is_read_when_it_is_asked_for(film: Path) -> None:
    captures = open_video(path=film).captures(threading.Event())
    first = next(captures)
    second = next(captures)
    assert first is not None
    assert second is not None
    assert second.taken_ns > first.taken_ns
    captures.close()  # type: ignore[attr-defined]


def test_nobody_triggers_a_video(film: Path) -> None:
    source = open_video(path=film)
    assert not source.offer(trigger_now("P"))
    assert (source.fault, source.warn) == ("", "")
    source.close()


def test_what_is_no_video_is_named(tmp_path: Path, film: Path) -> None:
    with pytest.raises(InputDataError, match="no such file"):
        open_video(path=tmp_path / "none.avi")
    for data in (b"", b"rubbish" * 1000, film.read_bytes()[:300]):
        bad = tmp_path / "bad.avi"
        bad.write_bytes(data)
        with pytest.raises(InputDataError, match=r"source\.path = .*bad\.avi: is no video"):
            open_video(path=bad)
        with pytest.raises(InputDataError, match="bad"):
            probe_video(VideoSettings(path=bad))


def test_a_video_that_is_cut_short_gives_what_it_has_and_says_so(film: Path) -> None:
    write_film(film, 200)
    whole = film.read_bytes()
    film.write_bytes(whole[: len(whole) * 3 // 4])
    captures: list[Capture] = []
    with pytest.raises(InputDataError, match="damaged or cut short"):
        for capture in open_video(path=film).captures(threading.Event()):
            captures += [] if capture is None else [capture]
    assert 0 < len(captures) < 200
    assert [capture.part_id for capture in captures] == [
        f"film-{number:06d}" for number in range(len(captures))
    ]


def test_a_video_that_goes_away_in_a_loop_is_named(film: Path) -> None:
    captures = open_video(path=film, loop=True).captures(threading.Event())
    next(captures)
    film.unlink()
    with pytest.raises(InputDataError, match="no such file"):
        for _ in captures:
            pass


def test_a_frame_is_gone_with_its_file(film: Path) -> None:
    source = open_video(path=film)
    assert not source.is_gone(b"3")
    film.unlink()
    assert source.is_gone(b"3")
    film.parent.rename(film.parent.with_name("elsewhere"))
    assert not source.is_gone(b"3")


def test_the_doctor_s_look_at_a_video(film: Path) -> None:
    assert probe_video(VideoSettings(path=film)) == f"{film}: 20 frames of 64 × 48 pixels"
