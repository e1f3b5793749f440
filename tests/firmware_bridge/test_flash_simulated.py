"""The whole way into a simulated sensor of our own: pages, self-test, what it says of itself."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from tiny_bundle import TinyBundle, shift_expected

from lineside.bundle import PartData, load_trust, write_key_pair
from lineside.errors import DowngradeError, TargetError, UntrustedBundleError
from lineside.slots import SimulatedFlash
from lineside_bridge.cli.flash import flash as flash_verb
from lineside_bridge.cli.sensor import sensor as sensor_verbs
from lineside_bridge.errors import (
    PortError,
    SensorFullError,
    SensorRefusedError,
    UnprovenError,
)
from lineside_bridge.flash import Watch, flash_bundle
from lineside_bridge.framing import Framing
from lineside_bridge.link import SerialLink
from lineside_bridge.sensor import (
    Facts,
    Line,
    Logbook,
    NoiseSettings,
    Port,
    PseudoTerminal,
)
from lineside_bridge.sensor.simulation import Setup, Simulation, put_bundle
from lineside_bridge.session import Session

FAST = 921_600
PADDING = random.Random(4).randbytes(60_000)

Make = Callable[..., contextlib.AbstractContextManager[str]]


def facts(**told: str) -> Facts:
    return Facts(**{"serial": "S1", "hardware": "cpu imx8", "engine": "onnxruntime", **told})


@pytest.fixture
def simulated(tiny_bundle: TinyBundle) -> Make:
    """A sensor that the tiny bundle was delivered with, on a port."""

    @contextlib.contextmanager
    def make(
        *,
        slot_bytes: int = 1 << 18,
        trust: Path | None = None,
        line: Line | None = None,
        **more: Any,
    ) -> Iterator[str]:
        setup = Setup(
            trusted=load_trust(trust or tiny_bundle.public_key_path),
            facts=facts(),
            line=line or Line(),
            **more,
        )
        flash = SimulatedFlash(slot_bytes=slot_bytes)
        if trust is None:
            put_bundle(flash, tiny_bundle.path.read_bytes(), setup=setup, name="delivered")
        simulation = Simulation(flash, setup, Logbook())
        end, stopped = PseudoTerminal(), threading.Event()
        port = Port(end, simulation.start, line=setup.line, paced=False, noise=setup.noise)
        thread = threading.Thread(target=port.serve, args=(stopped.is_set,))
        thread.start()
        try:
            yield end.name
        finally:
            stopped.set()
            thread.join()
            simulation.close()
            end.close()

    return make


@pytest.fixture
def newer(tiny_bundle: TinyBundle, tmp_path: Path) -> Callable[..., Path]:
    """Seal another of the same model, with a part of 60,000 bytes besides."""

    def seal(version: str, *, padding: bytes = PADDING, **identity: Any) -> Path:
        new = msgspec.structs.replace(tiny_bundle.manifest.identity, version=version, **identity)
        manifest = msgspec.structs.replace(tiny_bundle.manifest, identity=new)
        part = PartData(name="extra.bin", data=padding)
        return tiny_bundle.reseal(tmp_path / f"{version}.lsb", manifest=manifest, changed=[part])

    return seal


def run(command: Any, *words: object) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


def call(tiny: TinyBundle, bundle: Path, port: str, *words: object) -> Result:
    line = ("--port", port, "--baud", FAST, "--trust", tiny.public_key_path, "--json")
    return run(flash_verb, bundle, *line, *words)


def told(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, (result.output, result.exception)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def slots(port: str) -> dict[str, str]:
    """State by version."""
    found = json.loads(run(sensor_verbs, "slots", "--port", port, "--json").stdout)
    return {slot["version"]: slot["state"] for slot in found["slots"]}


def test_only_what_is_new_goes_over_the_wire(
    tiny_bundle: TinyBundle, simulated: Make, newer: Callable[..., Path], tmp_path: Path
) -> None:
    retrained = PADDING[:30_000] + bytes(5) + PADDING[30_005:]
    with simulated() as port:
        first = told(call(tiny_bundle, newer("2.0.0"), port))
        inventory = tmp_path / "sensors.json"
        second = told(
            call(tiny_bundle, newer("3.0.0", padding=retrained), port, "--inventory", inventory)
        )
        assert slots(port) == {"3.0.0": "confirmed", "2.0.0": "revert"}

    assert (first["proof"], first["state"], first["serial"]) == ("self_test", "confirmed", "S1")
    assert (first["framing"], first["engine"]) == ("cobs", "onnxruntime")
    assert len(PADDING) < first["sent_bytes"] < first["size_bytes"]
    # Two pages: the header with the manifest, and that of the five bytes.
    assert second["sent_bytes"] <= 3 * 4096
    (found,) = json.loads(inventory.read_text())["sensors"]
    assert found["device"]["hardware"] == "cpu imx8"
    assert {slot["version"] for slot in found["slots"]} == {"2.0.0", "3.0.0"}


def test_one_that_is_confirmed_is_not_called_done_while_another_is_on_trial(
    tiny_bundle: TinyBundle, simulated: Make, newer: Callable[..., Path]
) -> None:
    with simulated() as port:
        told(call(tiny_bundle, newer("2.0.0"), port, "--no-confirm"))
        result = call(tiny_bundle, tiny_bundle.path, port)
        assert isinstance(result.exception, SensorRefusedError)
        assert "2.0.0" in str(result.exception)
        assert "is on trial: `lineside sensor revert`" in str(result.exception)
        assert slots(port) == {"1.0.0": "confirmed", "2.0.0": "trial"}
        assert run(sensor_verbs, "revert", "--port", port).exit_code == 0
        assert told(call(tiny_bundle, tiny_bundle.path, port))["already"]


class PulledCable(SerialLink):
    """Goes away at the first question for the hashes of pages."""

    pulled = False

    def write(self, data: bytes) -> None:
        if not PulledCable.pulled and (data[4:6], data[7:8]) == (b"\0\x4c", b"\3"):
            PulledCable.pulled = True
            raise PortError("pulled out", port=self.name)
        super().write(data)


def test_a_cable_may_be_pulled_while_it_is_asked_what_it_has(
    tiny_bundle: TinyBundle, simulated: Make, newer: Callable[..., Path]
) -> None:
    trusted, steps = load_trust(tiny_bundle.public_key_path), list[str]()
    with (
        simulated() as port,
        Session(lambda: PulledCable(port, FAST), Framing.RAW) as session,
    ):
        watch = Watch(step=steps.append)
        report = flash_bundle(session, newer("2.0.0"), trusted=trusted, watch=watch)
    assert PulledCable.pulled
    assert report.state == "confirmed"
    assert "the port went away; waiting for it" in steps


def test_a_step_back_is_refused_before_the_first_byte(
    tiny_bundle: TinyBundle, simulated: Make, newer: Callable[..., Path]
) -> None:
    with simulated() as port:
        told(call(tiny_bundle, newer("2.0.0", security_counter=3), port))
        result = call(tiny_bundle, newer("1.9.0", security_counter=2), port)
        assert isinstance(result.exception, DowngradeError)
        assert slots(port) == {"2.0.0": "confirmed", "1.0.0": "revert"}


def test_other_hardware_and_a_full_slot_are_refused_before_the_first_byte(
    tiny_bundle: TinyBundle, simulated: Make, newer: Callable[..., Path]
) -> None:
    with simulated(slot_bytes=1 << 16) as port:
        assert isinstance(
            call(tiny_bundle, newer("2.0.0", target="imx95"), port).exception, TargetError
        )
        result = call(tiny_bundle, newer("2.1.0", target="imx8"), port)
        assert isinstance(result.exception, SensorFullError)
        assert slots(port) == {"1.0.0": "confirmed", "": "empty"}


def test_a_key_that_counts_here_need_not_count_there(
    tiny_bundle: TinyBundle, simulated: Make, tmp_path: Path
) -> None:
    _, other = write_key_pair(tmp_path, "other")
    with simulated(trust=other) as port:
        result = call(tiny_bundle, tiny_bundle.path, port)
    assert isinstance(result.exception, UntrustedBundleError)
    assert "this sensor does not trust" in str(result.exception)


def test_one_that_fails_its_self_test_is_taken_back(
    tiny_bundle: TinyBundle, simulated: Make, tmp_path: Path
) -> None:
    failing = tiny_bundle.reseal_golden(
        tmp_path / "failing.lsb", lambda expectation: shift_expected(expectation, 0.25)
    )
    with simulated() as port:
        result = call(tiny_bundle, failing, port)
        log = run(sensor_verbs, "log", "--port", port).output
        info = run(sensor_verbs, "info", "--port", port).output
        assert list(slots(port).values()).count("confirmed") == 1
    assert isinstance(result.exception, UnprovenError)
    assert result.exception.exit_code == 12
    assert "golden self-test failed: slot.b: onnxruntime" in str(result.exception)
    # To its end, and no refusal of a word that was needless.
    assert "or export for this device. The sensor took it back by itself" in str(result.exception)
    assert "error" not in str(result.exception)
    assert "revert" in log
    assert "reverted" in info
    assert "bytes" in next(row for row in info.splitlines() if row.startswith("slot holds"))
    assert load_trust(tiny_bundle.public_key_path).valid[0].key_id.hex() in info


def test_what_was_left_on_trial_is_proved_and_confirmed_by_a_second_call(
    tiny_bundle: TinyBundle, simulated: Make, newer: Callable[..., Path]
) -> None:
    path = newer("2.0.0")
    with simulated() as port:
        assert told(call(tiny_bundle, path, port, "--no-confirm"))["state"] == "trial"
        again = told(call(tiny_bundle, path, port))
        assert (again["state"], again["sent_bytes"]) == ("confirmed", 0)
        line = ("--port", port)
        assert "now" in run(sensor_verbs, "revert", *line).output
        assert slots(port)["1.0.0"] == "confirmed"


def test_the_rate_is_raised_and_given_back(
    tiny_bundle: TinyBundle, simulated: Make, newer: Callable[..., Path]
) -> None:
    line = Line(115_200, (115_200, 230_400, 460_800))
    with simulated(line=line) as port:
        words = ("--port", port, "--trust", tiny_bundle.public_key_path, "--json", "--find-baud")
        report = told(run(flash_verb, newer("2.0.0"), *words))
        assert report["baud"] == 460_800
        # It changes the rate when its answer has left; the verb does not wait for that.
        until_s = time.monotonic() + 20
        while line.baud != 115_200 and time.monotonic() < until_s:
            time.sleep(0.01)
        assert line.baud == 115_200
        assert slots(port)["2.0.0"] == "confirmed"


@pytest.mark.parametrize("framing", ["console", "raw"])
def test_noise_and_losses_of_power_delay_it(
    tiny_bundle: TinyBundle, simulated: Make, newer: Callable[..., Path], framing: str
) -> None:
    noise = NoiseSettings(bit_error_rate=2e-5, power_loss_every=60, seed=5)
    path = newer("2.0.0", padding=PADDING[:9000])
    with simulated(noise=noise) as port:
        report = told(call(tiny_bundle, path, port, "--framing", framing))
    assert report["state"] == "confirmed"
