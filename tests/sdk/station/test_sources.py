"""The folder source: complete files only, in order, none twice and none forgotten."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from lineside.errors import ConfigurationError, InputDataError
from lineside.framekey import FrameKey
from lineside.outbox import Draft, Outbox
from lineside.outbox.settings import OutboxSettings
from lineside.sources import (
    CallTrigger,
    CameraSettings,
    Capture,
    FolderSettings,
    FolderSource,
    FreeTrigger,
    IntervalTrigger,
    MqttTrigger,
    SerialTrigger,
    Source,
    SourceSettings,
    TriggerSettings,
    VideoSettings,
    check_source,
    open_source,
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


class Watching:
    """Runs a watching source in a thread and keeps what it gives."""

    def __init__(self, source: Source) -> None:
        self.captures: list[Capture] = []
        self._source = source
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def parts(self) -> list[str]:
        return [capture.part_id for capture in self.captures]

    def _run(self) -> None:
        for capture in self._source.captures(self._stopping):
            if capture is not None:
                self.captures.append(capture)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(5)
        assert not self._thread.is_alive()


def folder_source(path: Path, memory: Remembered | None = None, **settings: object) -> FolderSource:
    built = msgspec.convert({"path": str(path), **settings}, FolderSettings, dec_hook=_path)
    return FolderSource(built, memory=memory or Remembered())


def _path(kind: type, value: object) -> Path:
    assert kind is Path
    return Path(str(value))


def take(source: FolderSource) -> list[Capture]:
    return [capture for capture in source.captures(threading.Event()) if capture is not None]


def test_files_come_in_name_order_and_then_it_ends(
    tmp_path: Path, write_frames: Callable[..., list[str]]
) -> None:
    stems = write_frames(tmp_path / "frames", 12)
    (tmp_path / "frames" / "notes.txt").write_text("no image", encoding="utf-8")
    (tmp_path / "frames" / ".hidden.png").write_bytes(b"partial")
    (tmp_path / "frames" / "folder.png").mkdir()
    captures = take(folder_source(tmp_path / "frames", settle_ms=50))
    assert [capture.part_id for capture in captures] == stems
    assert all(capture.frame is not None and capture.fault is None for capture in captures)
    assert [capture.frame.part_id for capture in captures if capture.frame] == stems
    taken = [capture.taken_unix_ns for capture in captures]
    assert taken == sorted(taken)
    assert abs(taken[-1] - time.time_ns()) < 60e9


def test_a_bad_image_is_a_capture_with_a_fault(
    tmp_path: Path, write_frames: Callable[..., list[str]]
) -> None:
    folder = tmp_path / "frames"
    write_frames(folder, 3)
    (folder / "part-00001.png").write_bytes(b"\x89PNG\r\n\x1a\n cut short")
    (folder / "part-00003.png").write_bytes(b"")
    captures = take(folder_source(folder, settle_ms=0))
    assert [capture.fault.reason if capture.fault else None for capture in captures] == [
        None,
        "frame_decode",
        None,
        "frame_decode",
    ]
    assert captures[1].part_id == "part-00001"
    assert captures[1].frame is None


def test_what_was_inspected_before_is_passed_over(
    tmp_path: Path, write_frames: Callable[..., list[str]]
) -> None:
    folder, memory = tmp_path / "frames", Remembered()
    write_frames(folder, 6)
    for capture in take(folder_source(folder, memory, settle_ms=0))[:4]:
        memory.keep(capture)
    source = folder_source(folder, memory, settle_ms=0)
    assert [capture.part_id for capture in take(source)] == ["part-00004", "part-00005"]
    assert source.passed_over == 4


def test_another_picture_under_a_known_name_is_a_new_frame(
    tmp_path: Path, write_frames: Callable[..., list[str]]
) -> None:
    folder, memory = tmp_path / "frames", Remembered()
    write_frames(folder, 2)
    for capture in take(folder_source(folder, memory, settle_ms=0)):
        memory.keep(capture)
    file = folder / "part-00001.png"
    os.utime(file, ns=(1, 1))
    captures = take(folder_source(folder, memory, settle_ms=0))
    assert [capture.part_id for capture in captures] == ["part-00001"]


def test_a_file_that_is_being_written_waits_and_holds_nobody_back(
    tmp_path: Path, write_frames: Callable[..., list[str]], wait_until: Callable[..., None]
) -> None:
    folder = tmp_path / "frames"
    write_frames(folder, 2)
    whole = (folder / "part-00000.png").read_bytes()
    watching = Watching(folder_source(folder, watch=True, settle_ms=300, poll_ms=20))
    slow = folder / "a-slow.png"
    with slow.open("wb", buffering=0) as file:
        for byte in whole[:-1]:
            file.write(bytes([byte]))
            time.sleep(1.2 / len(whole))
        assert "a-slow" not in watching.parts
        assert sorted(watching.parts) == ["part-00000", "part-00001"]
        file.write(whole[-1:])
    wait_until(lambda: "a-slow" in watching.parts)
    watching.stop()
    assert all(capture.fault is None for capture in watching.captures)


def test_new_files_are_taken_as_they_arrive_each_once(
    tmp_path: Path, write_frames: Callable[..., list[str]], wait_until: Callable[..., None]
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    watching = Watching(folder_source(folder, watch=True, settle_ms=0, poll_ms=10))
    expected: list[str] = []
    for start in range(0, 40, 8):
        expected += write_frames(folder, 8, first=start)
        time.sleep(0.03)
    wait_until(lambda: len(watching.captures) >= 40)
    time.sleep(0.1)
    watching.stop()
    assert sorted(watching.parts) == expected


def test_a_folder_that_goes_away_is_a_fault_until_it_returns(
    tmp_path: Path, write_frames: Callable[..., list[str]], wait_until: Callable[..., None]
) -> None:
    folder = tmp_path / "frames"
    write_frames(folder, 1)
    source = folder_source(folder, watch=True, settle_ms=0, poll_ms=10)
    watching = Watching(source)
    wait_until(lambda: len(watching.captures) == 1)
    folder.rename(tmp_path / "elsewhere")
    wait_until(lambda: "No such file" in source.fault)
    (tmp_path / "elsewhere").rename(folder)
    wait_until(lambda: source.fault == "")
    write_frames(folder, 1, first=1)
    wait_until(lambda: "part-00001" in watching.parts)
    watching.stop()


def test_the_memory_of_a_watching_source_is_no_larger_than_its_folder(
    tmp_path: Path, write_frames: Callable[..., list[str]], wait_until: Callable[..., None]
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    source = folder_source(folder, watch=True, settle_ms=0, poll_ms=10)
    watching = Watching(source)
    for start in range(0, 30, 10):
        stems = write_frames(folder, 10, first=start)
        wait_until(lambda stems=stems: set(stems) <= set(watching.parts))
        for stem in stems:
            (folder / f"{stem}.png").unlink()
    wait_until(lambda: len(source._files._done) == 0)
    watching.stop()


@pytest.mark.parametrize(
    ("part_id", "name", "expected"),
    [
        ("stem", "B12.left.png", "B12.left"),
        (r"sn(\d+)_", "cam1_sn0042_top.png", "0042"),
        (r"sn(\d+)_", "cam1_unreadable.png", ""),
    ],
)
def test_part_ids(tmp_path: Path, part_id: str, name: str, expected: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    [capture] = take(folder_source(tmp_path, part_id=part_id, settle_ms=0))
    assert capture.part_id == expected


@pytest.mark.parametrize("part_id", ["(", "nogroup", "(a)(b)"])
def test_a_part_id_needs_one_group(tmp_path: Path, part_id: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="part_id"):
        folder_source(tmp_path, part_id=part_id)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputDataError, match="no such folder"):
        folder_source(tmp_path / "nowhere")


def test_a_file_is_gone_only_when_the_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "here.png").write_bytes(b"x")
    source = folder_source(tmp_path)
    assert not source.is_gone(b"here.png")
    assert source.is_gone(b"taken-away.png")
    # The file system refuses to answer, as a stale network share does.
    assert not source.is_gone(b"x" * 5000)
    tmp_path.rename(tmp_path.with_name("elsewhere"))
    assert not source.is_gone(b"here.png")


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    name = os.fsencode(str(tmp_path)) + b"/\xff\xfe.png"
    with open(name, "wb") as file:  # noqa: PTH123 - pathlib takes no bytes
        file.write(b"x")
    memory = Remembered()
    [capture] = take(folder_source(tmp_path, memory, settle_ms=0))
    memory.keep(capture)
    assert take(folder_source(tmp_path, memory, settle_ms=0)) == []


@pytest.mark.parametrize("target", ["loop.png", "file/below.png"])
def test_a_link_that_leads_nowhere_is_one_part_s_fault(tmp_path: Path, target: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "loop.png").symlink_to(target)
    (tmp_path / "part.png").write_bytes(b"x")
    memory = Remembered()

    captures = take(folder_source(tmp_path, memory, settle_ms=0))

    assert [capture.part_id for capture in captures] == ["loop", "part"]
    assert captures[0].fault is not None
    assert captures[0].fault.reason == "frame_missing"
    for capture in captures:
        memory.keep(capture)
    assert take(folder_source(tmp_path, memory, settle_ms=0)) == []


def test_a_pipe_among_the_images_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "part.png").write_bytes(b"x")
    assert [capture.part_id for capture in take(folder_source(tmp_path, settle_ms=0))] == ["part"]


def test_a_file_too_large_for_memory_is_undecided_and_the_next_one_comes(tmp_path: Path) -> None:
    (tmp_path / "huge.png").touch()
    os.truncate(tmp_path / "huge.png", 200 * 2**30)  # a hole: it takes no room on the disk
    (tmp_path / "part.png").write_bytes(b"x")

    huge, part = take(folder_source(tmp_path, settle_ms=0))

    assert huge.fault is not None
    assert "at most 536,870,912 are read" in str(huge.fault)
    assert part.part_id == "part"


# 1901, 1970, 2262 (the end of 64 bits of nanoseconds) and 2400: cameras have had each of them.
@pytest.mark.parametrize("second", [-2_147_483_000, 0, 9_223_372_037, 13_569_465_600])
def test_a_mad_clock_s_time_fits_into_the_memory(tmp_path: Path, second: int) -> None:
    image = tmp_path / "part.png"
    image.write_bytes(b"x")
    with contextlib.closing(Outbox(OutboxSettings(path=tmp_path / "outbox.sqlite"))) as outbox:
        for by_ns in (0, 1):
            os.utime(image, ns=(0, second * 10**9 + by_ns))
            [capture] = take(
                FolderSource(FolderSettings(path=tmp_path, settle_ms=0), memory=outbox)
            )
            outbox.put(Draft(encode=lambda _: b"", key=capture.key), stopping=threading.Event())
            assert outbox.flush(10)
        source = FolderSource(FolderSettings(path=tmp_path, settle_ms=0), memory=outbox)
        assert take(source) == []
        assert source.passed_over == 1


def test_a_folder_whose_name_is_not_utf8_can_be_remembered(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    folder_source(folder).identity.encode("utf-8")


def triggered_folder(
    path: Path, memory: Remembered | None = None, *, settle_ms: int = 0, **trigger: object
) -> Source:
    folder = FolderSettings(path=path, watch=True, settle_ms=settle_ms, poll_ms=10)
    given = {"frame_timeout_ms": 400, "part_timeout_ms": 400, **trigger}
    settings = msgspec.convert({"kind": "call", **given}, CallTrigger)
    return open_source(folder, settings, memory=memory or Remembered())


def test_files_and_triggers_meet_by_part_in_either_order(
    tmp_path: Path, write_frames: Callable[..., list[str]], wait_until: Callable[..., None]
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    source = triggered_folder(folder, match="part", frame_timeout_ms=8000, part_timeout_ms=8000)
    watching = Watching(source)
    late = trigger_now("part-00001", product="joint")
    assert source.offer(late)
    write_frames(folder, 1, first=0)
    time.sleep(0.1)
    write_frames(folder, 1, first=1)
    wait_until(lambda: watching.parts == ["part-00001"])
    assert source.offer(trigger_now("part-00000"))
    wait_until(lambda: len(watching.captures) == 2)
    watching.stop()
    first, second = watching.captures
    assert (first.taken_ns, first.taken_unix_ns) == (late.at_ns, late.at_unix_ns)
    assert (first.product, second.product) == ("joint", "")
    assert [capture.part_id for capture in watching.captures] == ["part-00001", "part-00000"]
    assert all(capture.frame and capture.key for capture in watching.captures)
    assert source.counts["frames_without_part"] == source.counts["parts_without_frame"] == 0


def test_the_next_file_is_the_trigger_s_whatever_its_name(
    tmp_path: Path, write_frames: Callable[..., list[str]], wait_until: Callable[..., None]
) -> None:
    folder = tmp_path / "frames"
    write_frames(folder, 2)
    memory = Remembered()
    source = triggered_folder(folder, memory, match="next", frame_timeout_ms=8000)
    watching = Watching(source)
    # What lies there already belongs to nobody who comes now.
    wait_until(lambda: len(watching.captures) == 2)
    for name in ("A", "B"):
        assert source.offer(trigger_now(name))
    write_frames(folder, 2, first=10)
    wait_until(lambda: len(watching.captures) == 4)
    watching.stop()
    assert watching.parts == ["", "", "A", "B"]
    assert [one.frame.part_id for one in watching.captures if one.frame] == ["A", "B"]
    assert [one.key.name for one in watching.captures if one.key] == [
        b"part-00000.png",
        b"part-00001.png",
        b"part-00010.png",
        b"part-00011.png",
    ]
    faults = [one.fault.reason for one in watching.captures if one.fault]
    assert faults == ["part_missing", "part_missing"]
    for capture in watching.captures:
        memory.keep(capture)
    again = Watching(triggered_folder(folder, memory, match="next"))
    time.sleep(0.2)
    again.stop()
    assert again.captures == []


def test_a_part_without_a_frame_and_a_frame_without_a_part_are_told(
    tmp_path: Path, write_frames: Callable[..., list[str]], wait_until: Callable[..., None]
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    source = triggered_folder(folder, match="part")
    watching = Watching(source)
    assert source.offer(trigger_now("P-1"))
    assert source.offer(trigger_now(""))
    write_frames(folder, 1)
    wait_until(lambda: len(watching.captures) == 3)
    watching.stop()
    told = {(one.part_id, one.fault.reason) for one in watching.captures if one.fault}
    assert told == {("P-1", "frame_missing"), ("", "part_missing")}
    [orphan] = [one for one in watching.captures if one.key]
    assert (orphan.part_id, orphan.frame) == ("", None)
    assert "part-00000.png: no trigger within 400 ms" in str(orphan.fault)
    assert source.counts["frames_without_part"] == 1
    assert source.counts["parts_without_frame"] == 2


def test_a_folder_that_goes_away_is_why_no_file_came(
    tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    source = triggered_folder(folder, match="next")
    watching = Watching(source)
    folder.rename(tmp_path / "elsewhere")
    wait_until(lambda: "No such file" in source.fault)
    assert source.offer(trigger_now("P-1"))
    wait_until(lambda: len(watching.captures) == 1)
    watching.stop()
    assert "no file within 400 ms" in str(watching.captures[0].fault)
    assert "No such file" in str(watching.captures[0].fault)


def test_a_file_that_is_taken_away_before_it_is_read_leaves_its_trigger_undecided(
    tmp_path: Path, write_frames: Callable[..., list[str]]
) -> None:
    folder = tmp_path / "frames"
    write_frames(folder, 1)
    source = triggered_folder(folder, match="part")
    stopping = threading.Event()
    captures = source.captures(stopping)
    assert next(captures) is None
    assert source.offer(trigger_now("part-00000"))
    (folder / "part-00000.png").unlink()
    [capture] = [one for one in (next(captures), next(captures)) if one is not None]
    assert capture.part_id == "part-00000"
    assert capture.fault is not None
    assert capture.fault.reason == "frame_missing"
    assert "taken away" in str(capture.fault)
    stopping.set()
    assert list(captures) == []


CAMERA = CameraSettings(address=0)
FOLDER = FolderSettings(path=Path("frames"), watch=True)


@pytest.mark.parametrize(
    ("source", "trigger", "path"),
    [
        (FOLDER, IntervalTrigger(every_ms=100), "trigger.kind"),
        (VideoSettings(path=Path("x")), IntervalTrigger(every_ms=100), "trigger.kind"),
        (VideoSettings(path=Path("x")), MqttTrigger(), "trigger.kind"),
        (CAMERA, MqttTrigger(match="next"), "trigger.match"),
        (FOLDER, MqttTrigger(frame_timeout_ms=2000), "trigger.match"),
        (FOLDER, MqttTrigger(match="part", frame_timeout_ms=900), "trigger.frame_timeout_ms"),
        (FOLDER, MqttTrigger(match="part", frame_timeout_ms=2000, delay_ms=1), "trigger.delay_ms"),
        (FolderSettings(path=Path("x")), MqttTrigger(match="part"), "source.watch"),
        (CAMERA, CallTrigger(frame_timeout_ms=1000), "trigger.frame_timeout_ms"),
        (CAMERA, IntervalTrigger(every_ms=10, frame_timeout_ms=1001), "trigger.frame_timeout_ms"),
    ],
)
def test_what_does_not_fit_together_is_refused_by_path(
    source: SourceSettings, trigger: TriggerSettings, path: str
) -> None:
    with pytest.raises(ConfigurationError, match=path) as caught:
        check_source(source, trigger, 1000)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("source", "trigger"),
    [
        (FOLDER, FreeTrigger()),
        (FOLDER, SerialTrigger(port="/dev/x", match="next", frame_timeout_ms=901)),
        (VideoSettings(path=Path("x")), FreeTrigger()),
        (CAMERA, FreeTrigger()),
        (CAMERA, IntervalTrigger(every_ms=10)),
        (CAMERA, MqttTrigger(delay_ms=-100, frame_timeout_ms=999)),
        (CAMERA, SerialTrigger(port="/dev/x")),
        (CAMERA, CallTrigger()),
    ],
)
def test_what_fits_together(source: SourceSettings, trigger: TriggerSettings) -> None:
    check_source(source, trigger, 1000)
    check_source(source, trigger, None)


def test_nobody_triggers_a_folder_whose_files_are_all_parts(tmp_path: Path) -> None:
    source = open_source(FolderSettings(path=tmp_path), FreeTrigger(), memory=Remembered())
    assert isinstance(source, FolderSource)
    assert not source.offer(trigger_now("P"))
    assert (source.warn, source.counts) == ("", {})
    source.close()
