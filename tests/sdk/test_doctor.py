"""`lineside doctor`: tells the truth about this machine, and what to do."""

from __future__ import annotations

import json
import os
import pty
import shutil
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner
from mjpeg_server import MjpegCamera
from slot_bundles import put
from tiny_bundle import TinyBundle

from lineside.bundle import load_public_key, revoke_key, write_key_pair
from lineside.cli.main import lineside
from lineside.doctor import State, examine_machine, examine_station
from lineside.doctor.clock import check_clock, judge_clock
from lineside.doctor.disk import check_disk
from lineside.doctor.engines import check_engines
from lineside.doctor.permissions import check_cache, check_serial_ports, check_trust
from lineside.doctor.station import check_broker, check_trigger
from lineside.errors import RevokedKeyError
from lineside.mqtt.settings import MqttSettings
from lineside.sources import SerialTrigger

STATION = """
[station]
site = "plant1"
line = "line3"
name = "aoi1"
[bundle]
path = "tiny.lsb"
trust = ["tiny.pub"]
[source]
kind = "folder"
path = "frames"
[outbox]
path = "spool/outbox.sqlite"
[mqtt]
url = "mqtt://127.0.0.1:{port}"
"""


@pytest.fixture
def listening() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def station(tiny_bundle: TinyBundle, tmp_path: Path, listening: int) -> Path:
    folder = tmp_path / "station"
    for name in ("frames", "spool"):
        (folder / name).mkdir(parents=True)
    shutil.copy(tiny_bundle.path, folder / "tiny.lsb")
    shutil.copy(tiny_bundle.public_key_path, folder / "tiny.pub")
    file = folder / "station.toml"
    file.write_text(STATION.format(port=listening), encoding="utf-8")
    return file


def run(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(lineside, ["doctor", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout


def test_this_machine_is_fit_and_every_topic_is_looked_at() -> None:
    code, text = run("--json")
    checks = {check["topic"]: check for check in json.loads(text)}
    assert code == 0
    assert set(checks) == {
        *("python", "glibc", "openvino", "onnxruntime", "cpu", "memory", "container"),
        *("target", "clock", "disk", "cache", "trust", "serial"),
    }
    for name in ("openvino", "onnxruntime"):
        assert checks[name]["state"] == "ok"
        assert "CPU" in checks[name]["found"]


def test_whatever_is_not_ok_comes_with_a_remedy(tmp_path: Path) -> None:
    checks = examine_machine(folder=tmp_path, trust_places=[tmp_path])
    for check in checks:
        assert check.found
        assert bool(check.remedy) == (check.state is not State.OK), check


def test_the_table_ends_with_what_to_do() -> None:
    code, text = run()
    assert code == 0
    assert text.splitlines()[0].split() == ["state", "topic", "found"]
    assert ("What to do:" in text) == ("warning" in text)


def test_without_any_engine_something_needed_is_missing() -> None:
    checks = check_engines(installed=tuple)
    assert [check.state for check in checks] == [State.WARNING, State.WARNING, State.MISSING]
    assert "pip install 'lineside[openvino]'" in checks[-1].remedy


def test_one_engine_is_enough() -> None:
    checks = check_engines(installed=lambda: ("onnxruntime",))
    assert [check.state for check in checks] == [State.WARNING, State.OK]


def test_the_kernel_is_asked_for_the_clock() -> None:
    assert check_clock().found.startswith(("synchronised", "not synchronised"))


def test_an_undisciplined_or_coarse_clock_is_a_warning() -> None:
    assert judge_clock(synchronised=False, largest_error_s=0.001).state is State.WARNING
    assert judge_clock(synchronised=True, largest_error_s=2.0).state is State.WARNING
    good = judge_clock(synchronised=True, largest_error_s=0.0015)
    assert (good.state, good.remedy) == (State.OK, "")
    assert "1.5 ms" in good.found


def test_the_disk_is_measured_and_left_clean(tmp_path: Path) -> None:
    check = check_disk("outbox", tmp_path, needed=True)
    assert check.state is State.OK
    assert "GiB free" in check.found
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("needed", "state"), [(True, State.MISSING), (False, State.WARNING)])
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, needed: bool, state: State) -> None:
    check = check_disk("outbox", tmp_path / "absent", needed=needed)
    assert check.state is state
    assert str(tmp_path / "absent") in check.found
    assert "mkdir" in check.remedy


def test_a_cache_that_others_may_write_to_is_a_warning(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert check_cache(tmp_path).state is State.WARNING
    tmp_path.chmod(0o700)
    assert check_cache(tmp_path).state is State.OK


def test_trusted_keys_are_listed(tmp_path: Path, tiny_bundle: TinyBundle) -> None:
    assert check_trust([tmp_path]).state is State.WARNING
    found = check_trust([tmp_path, tiny_bundle.public_key_path.parent])
    assert found.state is State.OK
    assert str(tiny_bundle.public_key_path) in found.found
    assert check_trust([tiny_bundle.public_key_path]) == found


def test_the_trust_variable_counts_as_it_does_for_every_verb(
    tiny_bundle: TinyBundle, station: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyless = station.with_name("keyless.toml")
    keyless.write_text(station.read_text().replace('trust = ["tiny.pub"]', ""), encoding="utf-8")
    monkeypatch.setenv("LINESIDE_TRUST", str(tiny_bundle.public_key_path))
    code, text = run("--station", keyless, "--json")
    checks = {check["topic"]: check for check in json.loads(text)}
    assert (code, checks["trust"]["state"], checks["bundle"]["state"]) == (0, "ok", "ok")


def test_a_key_that_only_the_station_s_file_trusts_is_one(
    tiny_bundle: TinyBundle, station: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LINESIDE_TRUST", raising=False)
    checks = {check["topic"]: check for check in json.loads(run("--station", station, "--json")[1])}
    assert checks["trust"]["state"] == "ok"
    assert str(station.with_name("tiny.pub").resolve()) in checks["trust"]["found"]


def test_the_trust_variable_comes_before_the_file_s_as_it_does_for_run(
    station: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, stranger = write_key_pair(tmp_path, "stranger")
    monkeypatch.setenv("LINESIDE_TRUST", str(stranger))
    code, text = run("--station", station, "--json")
    checks = {check["topic"]: check for check in json.loads(text)}
    assert (code, checks["trust"]["state"], checks["bundle"]["state"]) == (1, "ok", "missing")


def test_what_this_machine_revoked_is_refused_by_doctor_and_by_the_station(
    tiny_bundle: TinyBundle, station: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The station's own file names the key, which may not bring it back."""
    folder = tmp_path / "home" / ".config" / "lineside" / "trust"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LINESIDE_TRUST", raising=False)
    assert run("--station", station)[0] == 0
    revoke_key(folder, load_public_key(tiny_bundle.public_key_path))
    code, text = run("--station", station, "--json")
    [bundle] = [check for check in json.loads(text) if check["topic"] == "bundle"]
    assert (code, bundle["state"]) == (1, "missing")
    assert "was revoked on this machine" in bundle["found"]
    started = CliRunner().invoke(lineside, ["run", str(station)])
    assert isinstance(started.exception, RevokedKeyError)


def test_a_serial_port_without_access_names_its_group(tmp_path: Path) -> None:
    assert check_serial_ports(tmp_path).found == "no serial port here"
    (tmp_path / "ttyUSB0").touch()
    assert check_serial_ports(tmp_path).state is State.OK
    # A link to nowhere: even root, for whom every mode is open, has no access to it.
    (tmp_path / "ttyACM0").symlink_to(tmp_path / "unplugged")
    check = check_serial_ports(tmp_path)
    assert check.state is State.WARNING
    assert "ttyACM0" in check.found
    assert "usermod -aG dialout" in check.remedy


def test_a_station_that_can_run(station: Path) -> None:
    code, text = run("--station", station, "--json")
    checks = {check["topic"]: check for check in json.loads(text)}
    assert code == 0
    for topic in ("station", "bundle", "source", "outbox", "broker"):
        assert checks[topic]["state"] == "ok", checks[topic]
    assert "tiny 1.0.0" in checks["bundle"]["found"]


@pytest.mark.parametrize(
    ("topic", "spoil"),
    [
        ("station", lambda folder: (folder / "station.toml").write_text("[station]\nsit = 1\n")),
        ("bundle", lambda folder: (folder / "tiny.lsb").write_bytes(b"LSB1 torn")),
        ("bundle", lambda folder: (folder / "tiny.pub").unlink()),
        ("source", lambda folder: (folder / "frames").rmdir()),
        ("outbox", lambda folder: (folder / "spool").rmdir()),
    ],
    ids=["station", "bundle", "key", "source", "outbox"],
)
def test_what_a_station_lacks_is_missing_with_a_remedy(
    station: Path, topic: str, spoil: object
) -> None:
    spoil(station.parent)  # type: ignore[operator]
    (check,) = [check for check in examine_station(station) if check.topic == topic]
    assert check.state is State.MISSING
    assert check.remedy
    code, _ = run("--station", station)
    assert code == 1


def test_pictures_that_cannot_be_are_told_with_a_remedy(
    station: Path, anomaly_bundle: TinyBundle
) -> None:
    """Of a model without a map the station would not start; without the folder it only warns."""
    folder = station.parent
    text = station.read_text(encoding="utf-8")
    station.write_text(text + '[maps]\npath = "maps"\n', encoding="utf-8")
    found = [check for check in examine_station(station) if check.topic == "maps"]
    assert [check.state for check in found] == [State.MISSING, State.WARNING]
    assert all(check.remedy for check in found)
    assert "gives no map" in found[0].found
    shutil.copy(anomaly_bundle.path, folder / "tiny.lsb")
    shutil.copy(anomaly_bundle.public_key_path, folder / "tiny.pub")
    (folder / "maps").mkdir()
    (check,) = [check for check in examine_station(station) if check.topic == "maps"]
    assert check.state is State.OK, check


def test_who_may_give_commands_is_listed_and_a_key_that_is_not_there_missing(
    station: Path,
) -> None:
    folder = station.parent
    write_key_pair(folder, "operator")
    section = '[[commands.keys]]\npath = "operator.pub"\nverbs = ["resume", "pause"]\n'
    station.write_text(station.read_text(encoding="utf-8") + section, encoding="utf-8")
    (check,) = [check for check in examine_station(station) if check.topic == "commands"]
    assert (check.state, check.found) == (State.OK, "operator: pause, resume")
    revoke_key(folder, load_public_key(folder / "operator.pub"))
    (check,) = [check for check in examine_station(station) if check.topic == "commands"]
    assert (check.state, check.found) == (State.OK, "operator: revoked")
    (folder / "operator.pub").unlink()
    (check,) = [check for check in examine_station(station) if check.topic == "commands"]
    assert check.state is State.MISSING
    assert "operator.pub" in check.found
    assert check.remedy


def test_the_bundle_in_a_store_is_looked_at_as_one_in_a_file(
    station: Path, tiny_bundle: TinyBundle
) -> None:
    text = station.read_text(encoding="utf-8").replace('path = "tiny.lsb"', 'store = "slots"')
    station.write_text(text, encoding="utf-8")
    (missing,) = [check for check in examine_station(station) if check.topic == "slots"]
    assert missing.state is State.MISSING
    put(station.with_name("slots"), tiny_bundle.path, tiny_bundle.public_key_path)
    checks = {check.topic: check for check in examine_station(station)}
    assert {checks[topic].state for topic in ("slots", "store", "bundle", "limits")} == {State.OK}
    assert "slot a: tiny 1.0.0, confirmed" in checks["slots"].found


def test_the_folder_of_kept_frames_is_looked_at(station: Path) -> None:
    text = station.read_text(encoding="utf-8")
    station.write_text(text + '[keep]\npath = "kept"\n', encoding="utf-8")
    (check,) = [check for check in examine_station(station) if check.topic == "keep"]
    assert check.state is State.WARNING
    assert "mkdir" in check.remedy
    (station.parent / "kept").mkdir()
    (check,) = [check for check in examine_station(station) if check.topic == "keep"]
    assert check.state is State.OK, check


def test_a_broker_that_is_away_is_a_warning_because_verdicts_wait() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    check = check_broker(MqttSettings(url=f"mqtt://127.0.0.1:{port}"))
    assert check.state is State.WARNING
    assert f"127.0.0.1:{port}" in check.found


def test_places_that_the_system_will_not_look_at_are_findings(
    station: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As under a folder that may not be entered, which root, who runs tests in containers, may.
    closed = "x" * 5000
    monkeypatch.setenv("LINESIDE_TRUST", closed)
    text = station.read_text(encoding="utf-8").replace('"frames"', f'"{closed}"')
    station.write_text(text.replace('"tiny.lsb"', f'"{closed}"'), encoding="utf-8")
    code, out = run("--station", station, "--json")
    states = {check["topic"]: check["state"] for check in json.loads(out)}
    assert code == 1
    assert (states["trust"], states["bundle"], states["source"]) == (
        "warning",
        "missing",
        "missing",
    )


def test_a_folder_that_was_removed_below_us_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    _, out = run("--json")
    [disk] = [check for check in json.loads(out) if check["topic"] == "disk"]
    assert disk["state"] == "warning"


def source_of(station: Path, source: str) -> dict[str, dict[str, str]]:
    text = station.read_text("utf-8").replace('kind = "folder"\npath = "frames"', source)
    station.write_text(text, "utf-8")
    _, told = run("--station", station, "--json")
    return {check["topic"]: check for check in json.loads(told)}


def test_a_station_s_camera_is_looked_through(station: Path) -> None:
    camera = MjpegCamera()
    try:
        checks = source_of(station, f'kind = "camera"\naddress = "{camera.url}"')
    finally:
        camera.kill()
    assert checks["source"]["state"] == "ok"
    assert "64 × 48 pixels" in checks["source"]["found"]
    assert "trigger" not in checks


def test_a_camera_and_a_serial_port_that_are_not_there_are_missing(station: Path) -> None:
    trigger = '[trigger]\nkind = "serial"\nport = "/dev/tty-none"'
    checks = source_of(station, f'kind = "camera"\naddress = "/dev/video-none"\n{trigger}')
    assert checks["source"]["state"] == checks["trigger"]["state"] == "missing"
    assert "no such device" in checks["source"]["found"]
    assert "/dev/tty-none: No such file" in checks["trigger"]["found"]
    assert "[trigger] port" in checks["trigger"]["remedy"]


def test_a_serial_port_that_opens_is_fine() -> None:
    ours, theirs = pty.openpty()
    [check] = check_trigger(SerialTrigger(port=os.ttyname(theirs)))
    os.close(theirs)
    os.close(ours)
    assert check.state is State.OK


def test_a_station_s_video_that_is_none_is_missing(station: Path) -> None:
    (station.parent / "film.avi").write_bytes(b"rubbish" * 100)
    checks = source_of(station, 'kind = "video"\npath = "film.avi"')
    assert checks["source"]["state"] == "missing"
    assert "is no video" in checks["source"]["found"]
