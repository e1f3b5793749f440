"""The sensor's side on a Linux camera: into the store of its station, which decides."""

from __future__ import annotations

import hashlib
import resource
import time
from pathlib import Path

import pytest
from memory_link import MemoryLink
from sensor_bundles import Family
from sensor_rig import Host, Sealed
from slot_bundles import SlotBundles, put
from tiny_bundle import TinyBundle

from lineside.slots import Incoming, SlotName, SlotState, Store, open_store
from lineside_bridge import custom
from lineside_bridge.custom import Code, Command, SlotQuery
from lineside_bridge.errors import SensorFullError, SensorRefusedError
from lineside_bridge.framing import Framing
from lineside_bridge.header import Operation
from lineside_bridge.sensor import Facts, FolderSensor, make_server


@pytest.fixture
def station(tiny_bundle: TinyBundle, tmp_path: Path) -> Store:
    """What the station has open: its first bundle is confirmed."""
    bundle = SlotBundles(tiny=tiny_bundle, folder=tmp_path).seal("0.9.0")
    return put(tmp_path / "store", bundle, tiny_bundle.public_key_path)


class Camera:
    """Its SMP server, to be started as often as you like."""

    def __init__(self, folder: Path, family: Family, restart: tuple[str, ...] = ()) -> None:
        self.folder, self.family, self.restart = folder, family, restart
        self.start()

    def start(self) -> None:
        """Its process starts anew."""
        self.sensor = FolderSensor(
            open_store(self.folder, make=True),
            trusted=self.family.trusted,
            facts=Facts(serial="C-7", hardware="jetson cpu", engine="onnxruntime"),
            restart=self.restart,
        )
        server = make_server(self.sensor)
        self.host = Host(MemoryLink(lambda: server).client(Framing.CONSOLE))


def offer(host: Host, bundle: Sealed) -> None:
    host.upload(bundle.data)
    host.test(bundle.hash)


def test_the_station_tries_what_is_pending_and_the_client_confirms(
    station: Store, family: Family, tmp_path: Path
) -> None:
    camera = Camera(tmp_path / "store", family)
    offer(camera.host, family.new)
    assert station.record.find(SlotState.PENDING) is SlotName.B
    camera.host.reset()
    assert station.record.find(SlotState.PENDING) is SlotName.B
    with pytest.raises(SensorRefusedError, match="not in this state"):
        camera.host.confirm()
    assert camera.host.selftest().state == "running"
    station.start_trial()
    assert camera.host.selftest().state == "passed"
    state = camera.host.find(family.new.hash)
    assert state is not None
    assert (state.active, state.confirmed) == (True, False)
    camera.host.confirm(family.new.hash)
    assert station.record.find(SlotState.CONFIRMED) is SlotName.B
    camera.host.confirm()
    assert camera.host.selftest().state == "none"


def test_what_the_station_reverts_is_told_and_the_client_may_revert_too(
    station: Store, family: Family, tmp_path: Path
) -> None:
    camera = Camera(tmp_path / "store", family)
    offer(camera.host, family.new)
    station.start_trial()
    station.revert("disagreement")
    report = camera.host.selftest()
    assert (report.state, report.hash) == ("failed", family.new.hash)
    assert "disagreement" in report.words
    assert camera.host.device().reverted == "disagreement"
    offer(camera.host, family.new)
    station.start_trial()
    camera.host.revert()
    assert station.record.find(SlotState.TRIAL) is None
    assert camera.host.device().reverted == "command"


def test_after_its_process_was_killed_an_upload_goes_on_or_is_found_whole(
    station: Store, family: Family, tmp_path: Path
) -> None:
    camera = Camera(tmp_path / "store", family)
    camera.host.upload(family.new.data)
    camera.start()
    state = camera.host.find(family.new.hash)
    assert state is not None
    assert not state.pending
    assert camera.host.upload(family.new.data).resumed_bytes == len(family.new.data)
    camera.host.test(family.new.hash)
    assert station.record.find(SlotState.PENDING) is SlotName.B


def test_what_somebody_else_installs_meanwhile_is_not_taken_for_the_upload(
    station: Store, family: Family, tmp_path: Path
) -> None:
    camera = Camera(tmp_path / "store", family)
    camera.host.upload(family.new.data)
    other = family.beside.data
    station.begin(Incoming(sha256=hashlib.sha256(other).digest(), size_bytes=len(other)))
    assert camera.host.find(family.new.hash) is None
    with pytest.raises(SensorRefusedError) as caught:
        camera.host.test(family.new.hash)
    assert caught.value.code == Code.NO_SLOT
    offer(camera.host, family.new)
    assert station.record.find(SlotState.PENDING) is SlotName.B


def test_into_an_empty_store_the_first_is_confirmed(family: Family, tmp_path: Path) -> None:
    camera = Camera(tmp_path / "store", family)
    assert not camera.sensor.health.ok
    offer(camera.host, family.new)
    assert open_store(tmp_path / "store").record.active is SlotName.A
    assert camera.sensor.health.ok


def test_a_bundle_may_be_made_for_any_of_its_words(
    family: Family, tiny_bundle: TinyBundle, tmp_path: Path
) -> None:
    camera = Camera(tmp_path / "store", family)
    bundles = SlotBundles(tiny=tiny_bundle, folder=tmp_path)
    for target, taken in (("plc", False), ("jetson", True)):
        path = bundles.thin(bundles.seal(f"1.{len(target)}", target=target), "onnxruntime")
        bundle = Sealed.read(path, family.trusted)
        if taken:
            offer(camera.host, bundle)
            continue
        with pytest.raises(SensorRefusedError) as caught:
            offer(camera.host, bundle)
        assert caught.value.code == Code.TARGET


def test_a_reset_runs_what_it_was_told_to_and_says_how_it_ended(
    family: Family, tmp_path: Path
) -> None:
    mark = tmp_path / "restarted"
    camera = Camera(tmp_path / "store", family, ("sh", "-c", f"touch {mark}; exit 3"))
    camera.host.reset()
    until_s = time.monotonic() + 30
    while not any("ended with 3" in line for line in camera.sensor.log.read(0, 9999)[1]):
        assert time.monotonic() < until_s
        time.sleep(0.01)
    assert mark.exists()
    camera = Camera(tmp_path / "store", family, (str(tmp_path / "missing"),))
    camera.host.reset()
    until_s = time.monotonic() + 30
    while not any("No such file" in line for line in camera.sensor.log.read(0, 9999)[1]):
        assert time.monotonic() < until_s
        time.sleep(0.01)


def test_only_the_station_proves(station: Store, family: Family, tmp_path: Path) -> None:
    camera = Camera(tmp_path / "store", family)
    with pytest.raises(SensorRefusedError) as caught:
        camera.host.client.call(custom.ask(Operation.WRITE, Command.SELF_TEST, SlotQuery(slot=0)))
    assert caught.value.code == Code.STATE


def test_a_disk_that_is_full_is_told_as_such_and_takes_it_when_there_is_room(
    station: Store, family: Family, tmp_path: Path
) -> None:
    camera = Camera(tmp_path / "store", family)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, before[1]))
    try:
        with pytest.raises(SensorFullError):
            camera.host.upload(family.new.data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert station.record.find(SlotState.CONFIRMED) is SlotName.A
    assert camera.host.upload(family.new.data).matches
