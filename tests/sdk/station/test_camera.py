"""A camera: a real one of the network that dies, comes back, hangs, freezes and goes black."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from mjpeg_server import MjpegCamera

from lineside.errors import ConfigurationError, FrameError, InputDataError
from lineside.framekey import FrameKey
from lineside.sources import (
    CallTrigger,
    CameraSettings,
    Capture,
    FreeTrigger,
    IntervalTrigger,
    Source,
    TriggerSettings,
    open_source,
    probe_camera,
    trigger_now,
)
from lineside.sources.picture_watch import PictureWatch

QUICK = {"reconnect_min_s": 0.05, "reconnect_max_s": 0.2, "silence_s": 1.0}


class Nothing:
    """A memory that knows nothing."""

    def recall(self, source: str, name: bytes) -> FrameKey | None:
        return None


class Watched:
    """A source whose captures are taken by a thread."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.captures: list[Capture] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for capture in self.source.captures(self._stopping):
            if capture is not None:
                self.captures.append(capture)

    @property
    def faults(self) -> list[str]:
        return [capture.fault.reason if capture.fault else "" for capture in self.captures]

    def of(self, part_id: str) -> list[Capture]:
        return [capture for capture in self.captures if capture.part_id == part_id]

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(10)
        assert not self._thread.is_alive()
        self.source.close()


@pytest.fixture
def camera() -> Iterator[MjpegCamera]:
    made = MjpegCamera()
    yield made
    made.kill()


@pytest.fixture
def watch() -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def make(settings: CameraSettings, trigger: TriggerSettings | None = None) -> Watched:
        source = open_source(settings, trigger or FreeTrigger(), memory=Nothing())
        made.append(Watched(source))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def level(capture: Capture) -> float:
    assert capture.frame is not None
    return float(capture.frame.pixels_hwc.mean())


def test_running_freely_every_picture_is_a_part(
    camera: MjpegCamera, watch: Callable[..., Watched], wait_until: Callable[..., None]
) -> None:
    watched = watch(CameraSettings(address=camera.url, **QUICK))
    wait_until(lambda: len(watched.captures) >= 10)
    assert watched.source.fault == ""
    assert set(watched.faults) == {""}
    for capture in watched.captures:
        assert capture.part_id == ""
        assert capture.key is None
        assert capture.frame is not None
        assert capture.frame.pixels_hwc.shape == (48, 64, 3)
        assert capture.frame.captured_unix_ns == capture.taken_unix_ns
        assert level(capture) == pytest.approx(121.5, abs=3)
    moments = [capture.taken_ns for capture in watched.captures]
    assert moments == sorted(set(moments))


def test_colours_are_red_green_blue(watch: Callable[..., Watched], tmp_path: Path) -> None:
    film = tmp_path / "red.avi"
    write_film(film, [np.full((48, 64, 3), (0, 0, 200), np.uint8)] * 5)
    watched = watch(CameraSettings(address=str(film), frozen_frames=0, **QUICK))
    until_s = time.monotonic() + 15
    while not watched.captures:
        assert time.monotonic() < until_s
        time.sleep(0.01)
    frame = watched.captures[0].frame
    assert frame is not None
    red, green, blue = frame.pixels_hwc.reshape(-1, 3).mean(axis=0)
    assert red > 150
    assert max(green, blue) < 60


def test_a_camera_that_is_unplugged_is_a_fault_until_it_is_back(
    camera: MjpegCamera, watch: Callable[..., Watched], wait_until: Callable[..., None]
) -> None:
    watched = watch(CameraSettings(address=camera.url, **QUICK))
    for _ in range(2):
        before = len(watched.captures)
        wait_until(lambda before=before: len(watched.captures) > before + 3)
        assert watched.source.fault == ""
        camera.kill()
        wait_until(lambda: watched.source.fault != "")
        assert camera.host in watched.source.fault
        camera.start()
        wait_until(lambda: watched.source.fault == "")
    assert watched.source.counts["reconnects"] == 2


def test_a_camera_that_is_not_there_at_the_start_comes_later(
    watch: Callable[..., Watched], wait_until: Callable[..., None]
) -> None:
    camera = MjpegCamera()
    camera.kill()
    watched = watch(CameraSettings(address=camera.url, **QUICK))
    wait_until(lambda: "cannot be opened" in watched.source.fault)
    assert watched.captures == []
    camera.start()
    wait_until(lambda: len(watched.captures) > 3)
    assert watched.source.counts["reconnects"] == 0
    camera.kill()


def test_a_camera_that_hangs_is_a_fault_and_is_opened_again(
    camera: MjpegCamera, watch: Callable[..., Watched], wait_until: Callable[..., None]
) -> None:
    watched = watch(CameraSettings(address=camera.url, **QUICK))
    wait_until(lambda: len(watched.captures) > 3)
    camera.sending = False
    wait_until(lambda: watched.source.fault != "")
    camera.sending = True
    wait_until(lambda: watched.source.fault == "")
    seen = len(watched.captures)
    wait_until(lambda: len(watched.captures) > seen + 3)


def test_a_host_that_never_answers_holds_nobody_up(
    watch: Callable[..., Watched], wait_until: Callable[..., None]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"http://127.0.0.1:{mute.getsockname()[1]}/video"
        settings = CameraSettings(address=address, open_timeout_s=60, **QUICK)
        watched = watch(settings, CallTrigger(frame_timeout_ms=200))
        assert watched.source.offer(trigger_now("P1"))
        wait_until(lambda: len(watched.captures) == 1)
        assert watched.faults == ["frame_missing"]
        wait_until(lambda: "no picture for 1 s" in watched.source.fault)
        watched.source.close()


def test_a_frozen_picture_is_noticed_and_ends(
    camera: MjpegCamera, watch: Callable[..., Watched], wait_until: Callable[..., None]
) -> None:
    watched = watch(CameraSettings(address=camera.url, frozen_frames=4, **QUICK))
    wait_until(lambda: len(watched.captures) > 3)
    camera.noise = False
    wait_until(lambda: "frame_frozen" in watched.faults)
    wait_until(lambda: "frozen" in watched.source.fault)
    camera.noise = True
    wait_until(lambda: watched.source.fault == "" and watched.faults[-1] == "")
    assert watched.source.counts["frame_frozen"] == watched.faults.count("frame_frozen")


def test_a_black_picture_is_noticed_and_ends(
    camera: MjpegCamera, watch: Callable[..., Watched], wait_until: Callable[..., None]
) -> None:
    watched = watch(CameraSettings(address=camera.url, **QUICK))
    wait_until(lambda: len(watched.captures) > 3)
    camera.level = 0
    wait_until(lambda: "frame_black" in watched.faults)
    wait_until(lambda: "black" in watched.source.warn)
    camera.level = 120
    wait_until(lambda: watched.source.warn == "" and watched.faults[-1] == "")


def test_a_triggered_part_gets_the_first_frame_after_its_delay(
    camera: MjpegCamera, watch: Callable[..., Watched], wait_until: Callable[..., None]
) -> None:
    trigger = CallTrigger(delay_ms=100, frame_timeout_ms=5000)
    watched = watch(CameraSettings(address=camera.url, **QUICK), trigger)
    moments = {}
    for number in range(6):
        made = trigger_now(f"P{number}", product="joint")
        moments[made.part_id] = made
        assert watched.source.offer(made)
    wait_until(lambda: len(watched.captures) == 6)
    for capture in watched.captures:
        made = moments[capture.part_id]
        assert capture.frame is not None
        assert capture.frame.part_id == capture.part_id
        assert capture.product == "joint"
        assert (capture.taken_ns, capture.taken_unix_ns) == (made.at_ns, made.at_unix_ns)
        # The wall clock has not jumped in these seconds.
        assert capture.frame.captured_unix_ns - made.at_unix_ns > 99e6
    assert watched.source.counts["triggers"] == 6


def test_every_trigger_is_answered_while_the_camera_is_gone(
    camera: MjpegCamera, watch: Callable[..., Watched], wait_until: Callable[..., None]
) -> None:
    trigger = CallTrigger(frame_timeout_ms=300, most_waiting=3)
    watched = watch(CameraSettings(address=camera.url, **QUICK), trigger)
    assert watched.source.offer(trigger_now("first"))
    wait_until(lambda: len(watched.captures) == 1)
    camera.kill()
    wait_until(lambda: watched.source.fault != "")
    taken = [watched.source.offer(trigger_now(f"P{number}")) for number in range(6)]
    wait_until(lambda: len(watched.captures) == 1 + sum(taken))
    time.sleep(0.5)
    assert len(watched.captures) == 1 + sum(taken)
    assert set(watched.faults[1:]) == {"frame_missing", "overload"}
    assert watched.faults.count("frame_missing") == 3
    [told] = {str(one.fault) for one in watched.captures if "within" in str(one.fault)}
    assert told.startswith("no frame within 300 ms of the trigger: camera http://127")
    counts = watched.source.counts
    assert counts["triggers"] == 1 + sum(taken)
    assert counts["triggers_refused"] == 6 - sum(taken)
    assert counts["parts_without_frame"] == sum(taken)


def test_triggers_that_wait_when_the_station_stops_are_answered(camera: MjpegCamera) -> None:
    trigger = CallTrigger(frame_timeout_ms=60_000, delay_ms=50_000)
    settings = CameraSettings(address=camera.url, **QUICK)
    watched = Watched(open_source(settings, trigger, memory=Nothing()))
    assert watched.source.offer(trigger_now("P1"))
    watched.stop()
    assert [capture.part_id for capture in watched.captures] == ["P1"]
    assert watched.faults == ["frame_missing"]
    assert not watched.source.offer(trigger_now("P2"))


def test_the_clock_triggers(
    camera: MjpegCamera, watch: Callable[..., Watched], wait_until: Callable[..., None]
) -> None:
    watched = watch(CameraSettings(address=camera.url, **QUICK), IntervalTrigger(every_ms=100))
    wait_until(lambda: watched.faults.count("") >= 5)
    moments = [capture.taken_ns for capture in watched.captures]
    steps = {(later - first) % 100_000_000 for first, later in itertools.pairwise(moments)}
    assert steps == {0}
    assert not watched.source.offer(trigger_now("P1")), "the clock triggers here, nobody else"


def test_one_who_is_slow_gets_the_newest_and_the_others_are_counted(
    camera: MjpegCamera, wait_until: Callable[..., None]
) -> None:
    settings = CameraSettings(address=camera.url, ring=3, **QUICK)
    source = open_source(settings, FreeTrigger(), memory=Nothing())
    stopping = threading.Event()
    with contextlib.closing(source):
        captures = source.captures(stopping)
        first = next(capture for capture in captures if capture is not None)
        wait_until(lambda: source.counts["frames_skipped"] >= 5)
        skipped = source.counts["frames_skipped"]
        waiting = [next(captures) for _ in range(3)]
        assert all(capture is not None for capture in waiting)
        assert waiting[0].taken_ns > first.taken_ns
        assert skipped >= 5
        stopping.set()


def test_a_pipe_in_the_camera_s_place(
    watch: Callable[..., Watched], wait_until: Callable[..., None], tmp_path: Path
) -> None:
    """As ``libcamera-vid`` writes into one: it waits for the writer, ends with it, and goes on."""
    film, pipe = tmp_path / "film.avi", tmp_path / "camera"
    write_film(film, noise(30))
    os.mkfifo(pipe)
    watched = watch(CameraSettings(address=str(pipe), **QUICK))
    try:
        wait_until(lambda: "no picture" in watched.source.fault)
        for _ in range(2):
            before = len(watched.captures)
            # A station that was slow to begin has given the first writer up: here is another.
            while len(watched.captures) <= before + 10:
                with contextlib.suppress(BrokenPipeError):
                    pipe.write_bytes(film.read_bytes())
                time.sleep(0.1)
        wait_until(lambda: watched.source.fault != "")
        watched.stop()
    finally:
        # OpenCV waits for a writer and holds up all other openings of this process meanwhile.
        os.close(os.open(pipe, os.O_RDWR))


def test_a_device_that_is_not_there_is_named(
    watch: Callable[..., Watched], wait_until: Callable[..., None]
) -> None:
    watched = watch(CameraSettings(address="/dev/video-none", **QUICK))
    wait_until(lambda: "there is no such device" in watched.source.fault)
    numbered = watch(CameraSettings(address=987, **QUICK))
    wait_until(lambda: "camera 987: cannot be opened" in numbered.source.fault)


def test_user_and_password_are_used_and_never_told(
    watch: Callable[..., Watched],
    wait_until: Callable[..., None],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    password = "ge/he:im@1"
    file = tmp_path / "camera.password"
    file.write_text("wrong-one\n", encoding="utf-8")
    camera = MjpegCamera(credentials=f"me:{password}")
    with contextlib.closing(Closing(camera)):
        settings = CameraSettings(address=camera.url, username="me", password_file=file, **QUICK)
        watched = watch(settings)
        wait_until(lambda: camera.turned_away > 0 and watched.source.fault != "")
        told = [watched.source.fault, watched.source.identity, settings.place]
        file.write_text(f"{password}\n", encoding="utf-8")
        wait_until(lambda: len(watched.captures) > 3)
        camera.kill()
        wait_until(lambda: watched.source.fault != "")
        assert watched.captures[0].frame is not None
        told += [watched.source.fault, watched.captures[0].frame.source]
    out, err = capfd.readouterr()
    for text in (*told, out, err):
        for secret in ("wrong-one", "he:im", "he%3Aim"):
            assert secret not in text


class Closing:
    """A camera that is unplugged in the end."""

    def __init__(self, camera: MjpegCamera) -> None:
        self.close = camera.kill


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"address": "rtsp://me:geheim@host/1"}, "username with password_file"),
        ({"address": "rtspsrc location=rtsp://host user-pw=geheim ! appsink"}, "password_file"),
        ({"address": ""}, "empty"),
        ({"address": "a\nb"}, "control"),
        ({"address": -1}, "counted from 0"),
        ({"address": "rtsp://[::1"}, "IPv6"),
        ({"address": "rtsp://host", "username": "me"}, "belong together"),
        ({"address": "rtsp://host", "password_env": "X"}, "belong together"),
        ({"address": 0, "username": "me", "password_env": "X"}, "for a URL"),
        ({"address": "rtsp://host", "width": 640}, "width is for a device"),
        ({"address": 0, "fourcc": "MJPEG"}, "regex"),
        ({"address": 0, "frozen_frames": 1}, "0 switches it off"),
        ({"address": 0, "reconnect_max_s": 0.1}, "shorter"),
    ],
)
def test_settings_that_cannot_be_meant(settings: dict[str, object], words: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=words) as caught:
        msgspec.convert({"kind": "camera", **settings}, CameraSettings)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "read_by"),
    [
        (0, "v4l2"),
        ("/dev/v4l/by-id/usb-cam-index0", "v4l2"),
        ("rtsp://cam/stream", "ffmpeg"),
        ("film.avi", "ffmpeg"),
        ("v4l2src ! videoconvert ! appsink", "gstreamer"),
    ],
)
def test_what_reads_a_camera_goes_by_its_address(address: int | str, read_by: str) -> None:
    assert CameraSettings(address=address).read_by == read_by


def test_an_opencv_without_gstreamer_says_so() -> None:
    if cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        pytest.fail("this OpenCV reads GStreamer: test it with a real pipeline then")
    settings = CameraSettings(address="videotestsrc ! appsink")
    with pytest.raises(ConfigurationError, match="built without gstreamer"):
        open_source(settings, FreeTrigger(), memory=Nothing())


def test_a_password_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    settings = CameraSettings(
        address="rtsp://host/1", username="me", password_file=tmp_path / "none"
    )
    with pytest.raises(ConfigurationError, match=r"source\.password_file"):
        open_source(settings, FreeTrigger(), memory=Nothing())


def test_the_doctor_s_look_at_a_camera(camera: MjpegCamera) -> None:
    settings = CameraSettings(address=camera.url, **QUICK)
    assert probe_camera(settings) == f"camera {camera.url}: 64 × 48 pixels"
    camera.level = 0
    with pytest.raises(FrameError, match="black"):
        probe_camera(settings)
    camera.kill()
    with pytest.raises(InputDataError, match="cannot be opened"):
        probe_camera(settings)


def test_pictures_that_differ_in_one_value_are_not_frozen() -> None:
    watch = PictureWatch(frozen_frames=3, black_mean=0, black_spread=1)
    one = np.full((2000, 3000), 90, np.uint8)
    other = one.copy()
    other[777, 1234] += 1
    assert [watch.judge(pixels, "x") for pixels in (one, other, one, other)] == [None] * 4
    faults = [watch.judge(other, "x") for _ in range(2)]
    assert faults[0] is None
    assert faults[1] is not None
    assert faults[1].reason == "frame_frozen"


def test_dark_is_not_black_where_something_is_to_be_seen() -> None:
    watch = PictureWatch(frozen_frames=0, black_mean=8, black_spread=4)
    dark = np.full((480, 640), 2, np.uint8)
    assert watch.judge(dark, "x") is not None
    dark[100:200, 100:300] = 60
    assert watch.judge(dark, "x") is None
    off = PictureWatch(frozen_frames=0, black_mean=0, black_spread=4)
    assert off.judge(np.zeros((480, 640), np.uint8), "x") is None


def noise(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(3)
    return [random.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(count)]


def write_film(file: Path, pictures: list[np.ndarray]) -> None:
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for picture in pictures:
        writer.write(picture)
    writer.release()
