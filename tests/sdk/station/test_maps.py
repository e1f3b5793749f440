"""Pictures of parts that are not OK: bounded, named as the verdict, never in a verdict's way."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mosquitto_broker import Mosquitto
from tiny_bundle import TinyBundle, anomaly_contract, anomaly_frame, tiny_contract

from lineside.errors import ConfigurationError
from lineside.frame import Frame, read_frame
from lineside.inspector import Inspection
from lineside.mqtt import decode_state, decode_verdict
from lineside.outbox import Outbox, OutboxSettings
from lineside.sources import Capture
from lineside.station import MapKeeper, MapSettings, ModelCard, Product, Products
from lineside.station.keepers import Keepers
from lineside.station.maps import check_map_given
from lineside.verdict import Evaluation, Reason, Verdict

T0_NS = 1_795_212_345_678 * 1_000_000
BAD = Verdict(evaluation=Evaluation.NOT_OK, reason=Reason.BEYOND_LIMIT, score=0.8, limit=0.6)
GOOD = Verdict(evaluation=Evaluation.OK, reason=Reason.WITHIN_LIMIT, score=0.1, limit=0.4)
UNSURE = Verdict(evaluation=Evaluation.NOT_DECIDABLE, reason=Reason.BETWEEN_LIMITS, score=0.5)


class Nobody:
    """An inspector that is not asked."""

    def inspect_batch(self, frames: Sequence[Frame]) -> list[Inspection]:
        raise AssertionError(f"{len(frames)} frames")


def capture(part_id: str = "p", *, after_ms: int = 0) -> Capture:
    return Capture(
        part_id=part_id,
        taken_unix_ns=T0_NS + after_ms * 1_000_000,
        taken_ns=0,
        read_us=1.0,
        frame=Frame(pixels_hwc=anomaly_frame(bright=True, seed=1)),
    )


def inspection(verdict: Verdict = BAD) -> Inspection:
    return Inspection(verdict=verdict, map_hw=np.eye(8, dtype=np.float32))


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Callable[..., MapKeeper]]:
    """``keep(most=3)``: a keeper that runs, stopped in the end."""
    made: list[MapKeeper] = []

    def make(**settings: Any) -> MapKeeper:
        given = {"path": tmp_path / "maps", "keep_free_mib": 0, **settings}
        made.append(MapKeeper(MapSettings(**given)))
        made[-1].start()
        return made[-1]

    yield make
    for keeper in made:
        keeper.stop(10)


def offer(keeper: MapKeeper, taken: Capture, found: Inspection) -> None:
    assert taken.frame is not None
    keeper.offer(taken, taken.frame, found, anomaly_contract())


def settle(keeper: MapKeeper, count: int) -> None:
    """Until so many pictures are written or lost."""
    deadline_s = time.monotonic() + 10
    while keeper.written + keeper.lost < count:
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_not_ok_is_kept_under_the_time_and_part_of_its_verdict(
    keep: Callable[..., MapKeeper], tmp_path: Path
) -> None:
    keeper = keep()
    offer(keeper, capture("LED-7"), inspection())
    offer(keeper, capture("good"), inspection(GOOD))
    offer(keeper, capture("a/b ü", after_ms=1), inspection(UNSURE))
    offer(keeper, capture("mapless"), Inspection(verdict=BAD))
    offer(keeper, capture("", after_ms=2), inspection())
    settle(keeper, 3)
    first, second, third = names(tmp_path / "maps")
    assert first == "1795212345678_LED-7.map.png"
    assert re.fullmatch(r"1795212345679_a_b__~[0-9a-f]{8}\.map\.png", second)
    assert third == "1795212345680_unknown.map.png"
    assert read_frame(tmp_path / "maps" / first).pixels_hwc.shape[1] == 480
    assert (keeper.written, keeper.lost, keeper.fault) == (3, 0, "")


def test_pictures_give_room_to_verdicts_on_their_disk_only(
    keep: Callable[..., MapKeeper], tmp_path: Path
) -> None:
    keeper = keep()
    offer(keeper, capture(), inspection())
    settle(keeper, 1)
    card = ModelCard(product="led", bundle="0" * 64, version="1", engine="x/y")
    outbox = Outbox(OutboxSettings(path=tmp_path / "outbox.sqlite"))
    keepers = Keepers(Products([Product(card=card, inspector=Nobody())]), outbox, maps=keeper)
    keepers.make_room(Path("/proc/self/stat"))
    assert len(names(tmp_path / "maps")) == 1
    keepers.make_room(outbox.path)
    outbox.close()
    assert names(tmp_path / "maps") == []


def test_the_oldest_go_first_and_what_is_not_ours_stays(
    keep: Callable[..., MapKeeper], tmp_path: Path
) -> None:
    folder = tmp_path / "maps"
    folder.mkdir()
    strangers = ["1795212345000_x.png", "a.map.png", "notes.txt"]
    torn = ".1795212345001_x.map.png.77.part"
    old = [f"179521234{index:04d}_old.map.png" for index in range(9)]
    for name in (*strangers, torn, *old):
        (folder / name).write_bytes(b"x")
    keeper = keep(most=3)
    for index in range(5):
        offer(keeper, capture(f"p{index}", after_ms=index), inspection())
        settle(keeper, index + 1)
        ours = [name for name in names(folder) if name not in strangers]
        assert len(ours) == 3
        assert ours[-1] == f"{1795212345678 + index}_p{index}.map.png"
    assert ours == [f"{1795212345680 + index}_p{index + 2}.map.png" for index in range(3)]
    assert set(strangers) < set(names(folder))


def test_two_parts_of_one_name_and_moment_have_a_picture_each(
    keep: Callable[..., MapKeeper], tmp_path: Path
) -> None:
    keeper = keep()
    for _ in range(3):
        offer(keeper, capture(), inspection())
    settle(keeper, 3)
    assert len(names(tmp_path / "maps")) == 3


def test_a_folder_that_cannot_be_written_is_told_and_heals(
    keep: Callable[..., MapKeeper], tmp_path: Path
) -> None:
    in_the_way = tmp_path / "place"
    in_the_way.write_bytes(b"")
    keeper = keep(path=in_the_way / "maps")
    for count in (1, 2):
        offer(keeper, capture(), inspection())
        settle(keeper, count)
    assert (keeper.written, keeper.lost) == (0, 2)
    assert str(in_the_way / "maps") in keeper.fault
    in_the_way.unlink()
    offer(keeper, capture(), inspection())
    settle(keeper, 3)
    assert (keeper.written, keeper.lost, keeper.fault) == (1, 2, "")


def test_a_disk_with_little_room_is_left_to_verdicts(
    keep: Callable[..., MapKeeper], tmp_path: Path
) -> None:
    keeper = keep(keep_free_mib=1_048_576)
    offer(keeper, capture(), inspection())
    settle(keeper, 1)
    assert (keeper.written, keeper.lost) == (0, 1)
    assert "keep_free_mib" in keeper.fault
    assert names(tmp_path / "maps") == []


def test_a_disk_that_is_full_in_the_middle_of_a_picture_leaves_no_half_one(
    keep: Callable[..., MapKeeper], tmp_path: Path
) -> None:
    """No file of this process may grow beyond 1 kB, as on a disk that fills up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    keeper = keep()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
        offer(keeper, capture(), inspection())
        settle(keeper, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (keeper.written, keeper.lost) == (0, 1)
    assert "File too large" in keeper.fault
    assert names(tmp_path / "maps") == []


def test_handing_over_never_waits_and_counts_what_is_let_go(tmp_path: Path) -> None:
    """As with a share that hangs in the kernel: nobody takes anything out."""
    keeper = MapKeeper(MapSettings(path=tmp_path))
    started_s = time.monotonic()
    for _ in range(50):
        offer(keeper, capture(), inspection())
    assert time.monotonic() - started_s < 1.0
    assert (keeper.written, keeper.lost) == (0, 46)
    assert "faster" in keeper.fault


def test_a_fault_of_ours_ends_the_pictures_and_nothing_else(
    keep: Callable[..., MapKeeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    keeper = keep()
    flat = Inspection(verdict=BAD, map_hw=np.zeros((2, 2, 2, 2), np.float32))
    offer(keeper, capture(), flat)
    deadline_s = time.monotonic() + 10
    while not keeper.fault and time.monotonic() < deadline_s:
        time.sleep(0.005)
    assert "until the next start" in keeper.fault
    for _ in range(20):
        offer(keeper, capture(), inspection())
    keeper.stop(10)
    assert (keeper.written, keeper.lost) == (0, 21)
    assert len(told) == 1


def test_a_model_without_a_map_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="gives no map") as caught:
        check_map_given(tiny_contract())
    assert caught.value.path == "maps.path"


STATION = """
[station]
site = "plant1"
line = "line3"
name = "aoi1"
[bundle]
path = "{bundle}"
trust = ["{trust}"]
engine = "onnxruntime"
threads = 1
[maps]
path = "{maps}"
keep_free_mib = 0
[source]
kind = "folder"
path = "{frames}"
settle_ms = 0
poll_ms = 10
[mqtt]
url = "{url}"
"""


def run(folder: Path, bundle: TinyBundle, maps: str, url: str) -> subprocess.CompletedProcess[str]:
    file = folder / "station.toml"
    text = STATION.format(
        bundle=bundle.path,
        trust=bundle.public_key_path,
        frames=bundle.frames[0].parent,
        maps=maps,
        url=url,
    )
    file.write_text(text, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-c", "from lineside.cli.main import main; main()", "run", file],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_station_keeps_pictures_of_what_it_rejects(
    broker: Mosquitto, ear: Any, tmp_path: Path, anomaly_bundle: TinyBundle
) -> None:
    done = run(tmp_path, anomaly_bundle, "maps", broker.url)
    assert done.returncode == 0, done.stderr
    assert "maps written 3, lost 0" in done.stdout
    heard = [decode_verdict(data, source="ear") for data in ear.payloads("verdict")]
    assert len(heard) == 6
    rejected = [one for one in heard if one.evaluation is not Evaluation.OK]
    assert names(tmp_path / "maps") == sorted(f"{one.t}_{one.part}.map.png" for one in rejected)


def test_no_verdict_is_lost_where_no_picture_can_be_written(
    broker: Mosquitto, ear: Any, tmp_path: Path, anomaly_bundle: TinyBundle
) -> None:
    done = run(tmp_path, anomaly_bundle, "/proc/maps", broker.url)
    assert done.returncode == 0, done.stderr
    assert "maps written 0, lost 3" in done.stdout
    assert "lineside: maps: /proc/maps: cannot be made" in done.stderr
    assert len(ear.payloads("verdict")) == 6
    states = [decode_state(data, source="ear") for data in ear.payloads("state")]
    assert {state.state.value for state in states} == {"online", "offline"}


def test_pictures_of_a_model_without_a_map_stop_the_start(
    tmp_path: Path, tiny_bundle: TinyBundle
) -> None:
    done = run(tmp_path, tiny_bundle, "maps", "mqtt://127.0.0.1:1")
    assert done.returncode == 4
    assert "station.toml: maps.path: the bundle's model gives no map" in done.stderr
