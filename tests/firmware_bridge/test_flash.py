"""The whole way into a stock sensor, which has nothing but the published groups."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from smp_responder import Responder, StockServer
from tiny_bundle import TinyBundle

from lineside.bundle import (
    load_private_key,
    load_public_key,
    load_trust,
    open_bundle,
    write_key_pair,
)
from lineside.errors import (
    BundleError,
    ConfigurationError,
    DowngradeError,
    IncompatibleBundleError,
    LinesideError,
    TargetError,
    UntrustedBundleError,
)
from lineside_bridge import probe, trial
from lineside_bridge import session as session_module
from lineside_bridge.admission import check_admission, check_hardware
from lineside_bridge.cli.flash import document_of, flash, tell_report
from lineside_bridge.cli.sensor import sensor as sensor_verbs
from lineside_bridge.client import Patience
from lineside_bridge.custom import Device
from lineside_bridge.errors import (
    PortError,
    SensorFullError,
    SensorGarbledError,
    SensorSilentError,
    UnprovenError,
)
from lineside_bridge.flash import FlashTerms, flash_bundle
from lineside_bridge.flash_report import FlashReport
from lineside_bridge.framing import Framing
from lineside_bridge.link import SerialLink
from lineside_bridge.mcuboot import ImageVersion, read_image, wrap_image
from lineside_bridge.payload import Payload, choose_engine, open_sendable, pack_payload
from lineside_bridge.progress import format_progress
from lineside_bridge.session import Session
from lineside_bridge.trial import Waits
from lineside_bridge.upload import Progress

FAST = 4_000_000


@pytest.fixture
def stock() -> StockServer:
    return StockServer(hardware="cpu")


@pytest.fixture
def port(stock: StockServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of a sensor that starts at once."""
    monkeypatch.setattr(trial, "_POLL_S", 0.01)
    with Responder(stock.answer) as sensor:
        yield sensor.port


def run(command: Any, *words: object) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


def call_flash(bundle: TinyBundle, port: str, *words: object) -> Result:
    given = (bundle.path, "--port", port, "--baud", FAST, "--trust", bundle.public_key_path)
    return run(flash, *given, "--framing", "console", *words)


def test_brings_it_tries_it_and_keeps_it(
    tiny_bundle: TinyBundle, stock: StockServer, port: str, tmp_path: Path
) -> None:
    inventory = tmp_path / "sensors.json"
    result = call_flash(tiny_bundle, port, "--json", "--inventory", inventory)

    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["state"], report["proof"], report["already"]) == ("confirmed", "answers", False)
    assert stock.uploaded == tiny_bundle.path.read_bytes()
    assert (stock.resets, stock.slots[1]["active"], stock.slots[1]["confirmed"]) == (1, True, True)
    assert report["sent_bytes"] == report["size_bytes"] == len(stock.uploaded)
    (told,) = json.loads(inventory.read_text())["sensors"]
    assert [image["confirmed"] for image in told["images"]] == [True, True]
    assert told["line"] == {
        "framing": "console",
        "baud": FAST,
        "buffer_bytes": 2048,
        "window": 3,
        "framings_offered": [],
        "bauds_offered": [],
    }


def test_a_second_time_nothing_is_sent(
    tiny_bundle: TinyBundle, stock: StockServer, port: str
) -> None:
    call_flash(tiny_bundle, port)
    sent = len(stock.offsets)
    result = call_flash(tiny_bundle, port)

    assert "it was confirmed there already; nothing was sent" in result.output
    assert (len(stock.offsets), stock.resets) == (sent, 1)


def test_may_be_left_on_trial_and_confirmed_later(
    tiny_bundle: TinyBundle, stock: StockServer, port: str
) -> None:
    line = ("--port", port, "--baud", FAST, "--framing", "console")
    assert "on trial" in call_flash(tiny_bundle, port, "--no-confirm").output
    assert not stock.slots[1].get("confirmed")

    assert "confirmed" in run(sensor_verbs, "confirm", *line).output
    assert stock.slots[1]["confirmed"]
    again = run(sensor_verbs, "confirm", *line)
    assert again.exception is not None
    assert "nothing is on trial" in str(again.exception)


def test_one_that_comes_back_without_it_is_said_so(
    tiny_bundle: TinyBundle, stock: StockServer, port: str
) -> None:
    stock.refuses_to_boot = True
    result = call_flash(tiny_bundle, port)

    assert isinstance(result.exception, UnprovenError)
    assert "came back without the new bundle" in str(result.exception)
    assert "the sensor judges by the bundle that it had before" in str(result.exception)
    assert (stock.slots[0]["active"], result.exception.exit_code) == (True, 12)


def test_one_that_never_restarts_is_not_waited_for(
    tiny_bundle: TinyBundle, stock: StockServer, port: str
) -> None:
    stock.ignores_reset = True
    terms = FlashTerms(waits=Waits(restart_s=0.3))
    trusted = load_trust(tiny_bundle.public_key_path)
    late = pytest.raises(UnprovenError, match="still waits to be tried")
    with Session(lambda: SerialLink(port, FAST), Framing.CONSOLE) as session, late:
        flash_bundle(session, tiny_bundle.path, trusted=trusted, terms=terms)


def test_one_that_answers_and_then_restarts_is_waited_for(
    tiny_bundle: TinyBundle, stock: StockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that it will, is found once more, and is away before it tells its slots."""
    monkeypatch.setattr(trial, "_POLL_S", 0.01)
    monkeypatch.setattr(session_module, "PATIENT", Patience(answer_s=0.2, attempts=2))
    unheard = 4  # both attempts before it is looked for again, and both after that

    def answer(request: bytes) -> bytes | None:
        nonlocal unheard
        if stock.resets and request[4:8] == b"\0\1" + request[6:7] + b"\0" and unheard:
            unheard -= 1
            return None
        return stock.answer(request)

    with Responder(answer) as sensor:
        result = call_flash(tiny_bundle, sensor.port)
    assert (result.exit_code, unheard) == (0, 0), result.exception


def test_a_trial_whose_yes_was_lost_is_refused_the_second_time_and_goes_on(
    tiny_bundle: TinyBundle, stock: StockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MCUboot's serial recovery refuses what is pending already."""
    monkeypatch.setattr(trial, "_POLL_S", 0.01)
    monkeypatch.setattr(session_module, "PATIENT", Patience(answer_s=0.2))
    asked = 0

    def answer(request: bytes) -> bytes | None:
        nonlocal asked
        if (request[0] & 7, request[4:6], request[7]) == (2, b"\0\1", 0) and not stock.resets:
            asked += 1
            if asked > 1:
                return bytes([request[0] + 1, 0, 0, 5, *request[4:8]]) + b"\xa1brc\x06"
            stock.answer(request)
            return None
        return stock.answer(request)

    with Responder(answer) as sensor:
        result = call_flash(tiny_bundle, sensor.port)
    assert (result.exit_code, asked) == (0, 2), result.exception


def test_nothing_is_sent_of_a_bundle_that_is_not_trusted(
    tiny_bundle: TinyBundle, stock: StockServer, port: str, tmp_path: Path
) -> None:
    _, stranger = write_key_pair(tmp_path, "stranger")
    result = run(flash, tiny_bundle.path, "--port", port, "--trust", stranger)

    assert isinstance(result.exception, UntrustedBundleError)
    assert stock.offsets == []


def test_nothing_is_sent_of_a_bundle_for_other_hardware(
    tiny_bundle: TinyBundle, stock: StockServer, port: str, tmp_path: Path
) -> None:
    identity = msgspec.structs.replace(tiny_bundle.manifest.identity, target="imx95")
    other = msgspec.structs.replace(tiny_bundle.manifest, identity=identity)
    path = tiny_bundle.reseal(tmp_path / "other.lsb", manifest=other)
    line = (path, "--port", port, "--baud", FAST, "--trust", tiny_bundle.public_key_path)

    result = run(flash, *line, "--framing", "console")
    assert isinstance(result.exception, TargetError)
    assert (result.exception.expected, result.exception.actual) == ("imx95", "cpu")
    assert stock.offsets == []
    assert run(flash, *line, "--framing", "console", "--hardware", "imx95").exit_code == 0


def test_an_mcuboot_sensor_gets_an_image(
    tiny_bundle: TinyBundle, stock: StockServer, port: str, tmp_path: Path
) -> None:
    """It names the image by the hash in its TLVs, and the bundle inside is the whole one."""
    private, public = write_key_pair(tmp_path, "mcuboot")
    stock.names_images = lambda data: read_image(bytes(data)).digest
    result = call_flash(tiny_bundle, port, "--mcuboot", private, "--json")

    assert result.exit_code == 0, (result.output, result.exception)
    image = read_image(bytes(stock.uploaded))
    assert image.bundle == tiny_bundle.path.read_bytes()
    assert str(image.version) == "1.0.0"
    assert image.is_signed_by(load_public_key(public))
    assert stock.slots[1]["confirmed"]


def test_an_image_that_was_made_before_goes_as_it_is(
    tiny_bundle: TinyBundle, stock: StockServer, port: str, tmp_path: Path
) -> None:
    private, _ = write_key_pair(tmp_path, "mcuboot")
    bare = tiny_bundle.path.read_bytes()
    signer = load_private_key(private)
    version = ImageVersion(major=1, minor=4, revision=0)
    image = wrap_image(bare, version=version, security_counter=2, signer=signer)
    path = tmp_path / "joint.img"
    path.write_bytes(image)
    line = (path, "--port", port, "--baud", FAST, "--framing", "console")
    trust = ("--trust", tiny_bundle.public_key_path)

    result = run(flash, *line, *trust, "--mcuboot", private)
    assert isinstance(result.exception, ConfigurationError)
    assert run(flash, *line, *trust).exit_code == 0
    assert stock.uploaded == image
    _, stranger = write_key_pair(tmp_path, "stranger")
    result = run(flash, *line, "--trust", stranger)
    assert isinstance(result.exception, UntrustedBundleError)


def test_a_missing_port_and_a_missing_bundle_are_named(tiny_bundle: TinyBundle) -> None:
    result = call_flash(tiny_bundle, "/dev/ttyNOSUCH0")
    assert isinstance(result.exception, PortError)
    trust = ("--trust", tiny_bundle.public_key_path)
    result = run(flash, "nowhere.lsb", "--port", "/dev/ttyNOSUCH0", *trust)
    assert isinstance(result.exception, BundleError)


@pytest.mark.parametrize(
    ("noise", "kind", "code"),
    [(b"", SensorSilentError, 10), (b"~~~ not a sensor ~~~\n", SensorGarbledError, 14)],
    ids=["silence", "garbage"],
)
def test_nobody_there_is_told_soon_and_by_its_own_code(
    tiny_bundle: TinyBundle,
    monkeypatch: pytest.MonkeyPatch,
    noise: bytes,
    kind: type[LinesideError],
    code: int,
) -> None:
    """By all framings, one after the other."""
    monkeypatch.setattr(probe, "_HELLO", Patience(answer_s=0.05, attempts=2))
    with Responder(lambda _: None, noise=noise) as sensor:
        began_s = time.monotonic()
        trust = ("--trust", tiny_bundle.public_key_path)
        result = run(flash, tiny_bundle.path, "--port", sensor.port, *trust)
        assert time.monotonic() - began_s < 20
    assert isinstance(result.exception, kind)
    assert result.exception.exit_code == code


def test_a_port_in_use_is_told_by_its_own_code(tiny_bundle: TinyBundle, port: str) -> None:
    with SerialLink(port):
        result = call_flash(tiny_bundle, port)
    assert isinstance(result.exception, PortError)
    assert result.exception.exit_code == 13


SENT = FlashReport(
    port="/dev/ttyUSB0",
    serial="S-1",
    hardware="cpu",
    product="joint",
    version="1.4.0",
    hash="2f" * 32,
    already=False,
    engine="",
    framing="console",
    baud=921_600,
    size_bytes=1_000_000,
    sent_bytes=640_000,
    resumed_bytes=0,
    lost=0,
    took_s=10.0,
    ceiling_bytes_per_s=66_000.0,
    proof="self_test",
    state="confirmed",
)


def test_the_share_of_the_line_is_told_where_the_line_has_a_rate() -> None:
    """USB takes any rate and keeps none; what passes it would be 10,090 % of the framing."""
    usb = dataclasses.replace(SENT, took_s=0.1)
    assert "62.5 KiB/s, 97% of what console framing carries at 921600 baud" in tell_report(SENT)
    resumed = dataclasses.replace(SENT, resumed_bytes=360_000)
    assert tell_report(resumed).splitlines()[1].endswith("; 360,000 had come before")
    assert tell_report(usb).splitlines()[1].endswith("6250.0 KiB/s")
    assert document_of(usb)["share_of_ceiling"] is None

    under_way = Progress(
        done_bytes=500, size_bytes=1000, sent_bytes=100_000, left_bytes=50_000, elapsed_s=1.0
    )
    assert "100% of the framing  0:00 left" in format_progress(under_way, 100_000.0)
    assert "of the framing" not in format_progress(under_way, 10_000.0)


def test_words_for_people(tiny_bundle: TinyBundle, stock: StockServer, port: str) -> None:
    line = ("--port", port, "--baud", FAST, "--framing", "console")
    assert "this sensor has no self-test" in call_flash(tiny_bundle, port).output

    info = run(sensor_verbs, "info", *line).output
    assert "2048 bytes, 3 requests at a time" in info
    table = run(sensor_verbs, "slots", *line).output
    assert "active confirmed" in table
    assert "is back" in run(sensor_verbs, "reset", *line, "--wait", 5).output
    assert "no word for it" in str(run(sensor_verbs, "revert", *line).exception)
    assert "has no log" in str(run(sensor_verbs, "log", *line).exception)
    assert run(sensor_verbs, "list").exit_code == 0


@pytest.fixture
def payload(tiny_bundle: TinyBundle) -> Payload:
    trusted = load_trust(tiny_bundle.public_key_path)
    with open_sendable(tiny_bundle.path, trusted=trusted) as sendable:
        return pack_payload(sendable, "onnxruntime")


def device(payload: Payload, **told: Any) -> Device:
    sound = {"serial": "1", "hardware": "cpu imx8", "capacity": 2**24, "keys": (payload.key_id,)}
    return Device(**{**sound, **told})


@pytest.mark.parametrize("engine", ["", "onnxruntime"])
def test_what_is_sent_is_what_was_checked(
    tiny_bundle: TinyBundle, tmp_path: Path, engine: str
) -> None:
    """Another bundle may come in the file's place while it is sent."""
    path = tmp_path / "joint.lsb"
    path.write_bytes(tiny_bundle.path.read_bytes())
    trusted = load_trust(tiny_bundle.public_key_path)
    with open_sendable(path, trusted=trusted) as sendable:
        before = pack_payload(sendable, engine)
        path.unlink()
        assert pack_payload(sendable, engine) == before
    if not engine:
        assert before.data == tiny_bundle.path.read_bytes()


def test_a_thin_copy_goes_out_under_the_same_hash(
    tiny_bundle: TinyBundle, payload: Payload
) -> None:
    assert len(payload.data) < tiny_bundle.path.stat().st_size
    check_admission(payload, device(payload), port="p")


@pytest.mark.parametrize(
    ("told", "kind", "words"),
    [
        ({"keys": (bytes(16),)}, UntrustedBundleError, "this sensor does not trust"),
        ({"capacity": 1000}, SensorFullError, "holds 1,000"),
        ({"runtime": "0.0.9"}, IncompatibleBundleError, "needs lineside 0.1.0"),
    ],
)
def test_what_a_sensor_says_is_held_against_the_bundle(
    payload: Payload, told: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        check_admission(payload, device(payload, **told), port="p")


def test_a_step_back_is_refused_here(payload: Payload) -> None:
    counters = {payload.key_id.hex(): 3}
    with pytest.raises(DowngradeError, match="has confirmed 3") as caught:
        check_admission(payload, device(payload, counters=counters), port="p")
    assert (caught.value.expected, caught.value.actual) == (3, 0)
    check_admission(payload, device(payload, counters={"00" * 16: 3}), port="p")


def test_a_runtime_that_is_no_release_is_not_compared(payload: Payload) -> None:
    check_admission(payload, device(payload, runtime="zephyr 4.4"), port="p")


def test_hardware_that_nobody_knows_takes_what_runs_anywhere(payload: Payload) -> None:
    check_hardware(payload, (), port="p")
    check_hardware(payload, ("x", "any"), port="p")


def test_the_engine_is_the_sensor_s(tiny_bundle: TinyBundle) -> None:
    with open_bundle(tiny_bundle.path, trust=tiny_bundle.public_key_path) as bundle:
        assert choose_engine(bundle, "auto", "openvino") == "openvino"
        assert choose_engine(bundle, "auto", "") == ""
        assert choose_engine(bundle, "onnxruntime", "openvino") == "onnxruntime"
        with pytest.raises(BundleError, match="the sensor's engine is tflite"):
            choose_engine(bundle, "auto", "tflite")
