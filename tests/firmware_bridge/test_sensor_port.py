"""The loop on a real pseudo-terminal, and `lineside sensor simulate` and `serve` as processes."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest
from memory_link import MemoryLink
from sensor_bundles import Family
from sensor_rig import FACTS, Host
from served_sensor import SERVE, SIMULATE, process, served
from tiny_bundle import TinyBundle

from lineside.errors import ConfigurationError
from lineside.slots import SimulatedFlash, SlotName, Store
from lineside_bridge import custom, requests
from lineside_bridge.client import Client, Patience
from lineside_bridge.custom import Command, LinkChange
from lineside_bridge.errors import SensorGarbledError, SensorRefusedError, SensorSilentError
from lineside_bridge.framing import Framing, encode_frame
from lineside_bridge.header import Operation
from lineside_bridge.link import SerialLink
from lineside_bridge.message import Request
from lineside_bridge.sensor import (
    Line,
    Logbook,
    NoiseSettings,
    PseudoTerminal,
    SerialEnd,
)
from lineside_bridge.sensor.flash_file import load_flash
from lineside_bridge.sensor.simulation import Setup, Simulation, put_bundle


def test_clients_come_and_go_in_whatever_framing(family: Family) -> None:
    with served(family.rig()) as end:
        for framing in (*Framing, *Framing):
            with SerialLink(end.name) as link:
                client = Client(link, framing)
                assert client.call(requests.echo("a" * 900)) == {"r": "a" * 900}


def test_a_client_that_does_not_read_stalls_nobody(family: Family) -> None:
    with served(family.rig()) as end:
        with SerialLink(end.name) as link:
            for number in range(40):
                link.write(encode_frame(Framing.RAW, requests.echo("b" * 900).message(number)))
        with SerialLink(end.name) as link:
            link.clear()
            soon = Patience(answer_s=0.3, attempts=8)
            assert Client(link, Framing.CONSOLE).call(requests.echo("c"), soon) == {"r": "c"}


def test_paced_it_is_no_faster_than_its_rate_in_either_direction(family: Family) -> None:
    line = Line(19_200, (19_200,))
    with served(family.rig(), line=line, paced=True) as end, SerialLink(end.name, 19_200) as link:
        client = Client(link, Framing.RAW)
        request = requests.echo("d" * 500)
        started_s = time.monotonic()
        client.call(request)
        # There and back; only too fast is a fault, a busy machine is slow.
        assert time.monotonic() - started_s >= 2 * request.size_bytes * 10 / 19_200


def test_a_client_at_another_rate_is_not_understood_and_a_rate_can_be_changed(
    family: Family,
) -> None:
    line = Line(115_200, (115_200, 921_600))
    once = Patience(answer_s=0.3, attempts=1)
    with served(family.rig(), line=line, paced=True) as end, SerialLink(end.name, 9_600) as link:
        client = Client(link, Framing.CONSOLE)
        with pytest.raises((SensorSilentError, SensorGarbledError)):
            client.call(requests.echo("e"), once)
        link.change_baud(115_200)
        client.call(requests.echo("e"))
        change = LinkChange(baud=921_600, hold_ms=60_000)
        client.call(custom.ask(Operation.WRITE, Command.LINK, change))
        link.change_baud(921_600)
        assert client.call(requests.echo("f" * 1000)) == {"r": "f" * 1000}
        change = LinkChange(baud=115_200, hold_ms=1)
        client.call(custom.ask(Operation.WRITE, Command.LINK, change))
        link.change_baud(115_200)
        assert client.call(requests.echo("g")) == {"r": "g"}


def test_a_rate_that_nobody_comes_to_is_left(family: Family) -> None:
    line = Line(115_200, (115_200, 921_600))
    with served(family.rig(), line=line, paced=True) as end, SerialLink(end.name, 115_200) as link:
        client = Client(link, Framing.CONSOLE)
        change = LinkChange(baud=921_600, hold_ms=1)
        client.call(custom.ask(Operation.WRITE, Command.LINK, change))
        assert client.call(requests.echo("h")) == {"r": "h"}


def test_uploads_finish_over_noise_on_a_real_terminal(family: Family) -> None:
    noise = NoiseSettings(bit_error_rate=1e-5, drop=0.002, duplicate=0.002, delay_ms=2, seed=4)
    with served(family.rig(), noise=noise) as end, SerialLink(end.name) as link:
        host = Host(Client(link, Framing.COBS))
        assert host.upload(family.new.data).matches is True


def test_a_serial_end_comes_back_with_its_port(family: Family, tmp_path: Path) -> None:
    place = tmp_path / "tty"
    first, second = PseudoTerminal(), PseudoTerminal()
    place.symlink_to(first.name)
    end = SerialEnd(str(place), 115_200)
    first.write(b"one")
    assert end.read(5, 10) == b"one"
    first.close()
    assert end.read(0.01, 10) == b""
    end.write(b"lost")
    place.unlink()
    place.symlink_to(second.name)
    until_s = time.monotonic() + 30
    while not (found := end.read(0.05, 10)):
        assert time.monotonic() < until_s
        second.write(b"two")
    assert found.startswith(b"two")
    end.set_baud(9_600)
    end.write(b"three")
    assert b"three" in second.read(5, 10)
    end.close()
    end.close()
    second.close()


def setup_of(family: Family, **settings: object) -> Setup:
    return Setup(trusted=family.trusted, facts=FACTS, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
def test_power_lost_again_and_again_costs_no_bundle(family: Family, seed: int) -> None:
    flash = SimulatedFlash(slot_bytes=1 << 16, seed=seed)
    setup = setup_of(family, noise=NoiseSettings(power_loss_every=25, seed=seed))
    assert put_bundle(flash, family.old.data, setup=setup, name="old")
    assert not put_bundle(flash, family.new.data, setup=setup, name="new")
    link = MemoryLink(Simulation(flash, setup, Logbook()).start)
    host = Host(link.client())
    wanted = itertools.cycle((family.beside, family.old))
    while link.cuts < 6:
        # After a loss it may find the sensor back at the bundle before.
        with contextlib.suppress(SensorRefusedError):
            host.flash(next(wanted))
    flash.restart()
    store = Store(flash)
    active = store.record.active
    assert active is not None
    card = store.record.slots[active].card
    assert card is not None
    data = store.read(active, 0, card.size_bytes)
    assert data in (family.old.data, family.beside.data)


def test_flash_is_kept_in_a_file(family: Family, tmp_path: Path) -> None:
    kept = tmp_path / "flash"
    setup = setup_of(family, kept=kept)
    flash = load_flash(kept, slot_bytes=1 << 16)
    put_bundle(flash, family.old.data, setup=setup, name="old")
    link = MemoryLink(Simulation(flash, setup, Logbook()).start)
    host = Host(link.client())
    host.upload(family.new.data)
    host.test(family.new.hash)
    # What changed a record was kept before it was answered.
    again = load_flash(kept, slot_bytes=1 << 16)
    assert Store(again).record == Store(flash).record
    assert again.wear == flash.wear
    assert Store(again).read(SlotName.B, 0, 1 << 20) == family.new.data
    with pytest.raises(ConfigurationError, match="slot-mib"):
        load_flash(kept, slot_bytes=1 << 20)
    kept.write_bytes(b"nothing")
    with pytest.raises(ConfigurationError, match="holds no simulated flash"):
        load_flash(kept, slot_bytes=1 << 16)


def test_simulate_is_found_by_its_link_and_remembers(
    tiny_bundle: TinyBundle, family: Family, tmp_path: Path
) -> None:
    place = tmp_path / "tty"
    words = ("--pty", "--link", place, "--trust", tiny_bundle.public_key_path, "--slot-mib", 1)
    words = (*words, "--flash", tmp_path / "flash", "--engine", "onnxruntime")
    place.symlink_to("/dev/null")
    with process(SIMULATE, *words, "--bundle", tiny_bundle.path) as ready:
        assert ready["port"] == str(place)
        assert str(place.readlink()) == ready["tty"]
        with SerialLink(str(place)) as link:
            host = Host(Client(link, Framing.RAW))
            assert host.states()[0].version == "1.0.0"
            host.upload(family.new.data)
            host.test(family.new.hash)
            host.reset()
            host.confirm(family.new.hash)
    assert not place.is_symlink()
    assert (tmp_path / "flash").exists()
    with process(SIMULATE, *words), SerialLink(str(place)) as link:
        host = Host(Client(link, Framing.CONSOLE))
        state = host.find(family.new.hash)
        assert state is not None
        assert (state.active, state.confirmed) == (True, True)


_SIGNALLED: Final = """
import os, signal
from lineside_bridge.cli.sensor_options import until_stopped
with until_stopped() as is_stopped:
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
        assert is_stopped()
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
"""


def test_a_second_sigterm_is_no_hurry_and_a_second_ctrl_c_is() -> None:
    """timeout(1) sends SIGTERM twice: what it ends still puts away its link and its flash."""
    # A process of its own: signals reach whichever thread there is, and may end it.
    done = subprocess.run([sys.executable, "-c", _SIGNALLED], capture_output=True, check=False)

    assert done.returncode == 0, done.stderr


def test_serve_takes_bundles_into_a_store(
    tiny_bundle: TinyBundle, family: Family, tmp_path: Path
) -> None:
    """Its port is one end of a pair; the client has the other."""
    end = PseudoTerminal()
    words = ("--port", end.name, "--store", tmp_path / "store", "--make")
    words = (*words, "--trust", tiny_bundle.public_key_path, "--hardware", "cpu")
    with process(SERVE, *words), contextlib.closing(end):
        host = Host(Client(_Cable(end), Framing.CONSOLE))
        host.upload(family.new.data)
        host.test(family.new.hash)
        state = host.find(family.new.hash)
        assert state is not None
        assert state.confirmed
        info = Request.make(Operation.READ, 0, 7, {"format": "p"})
        assert host.client.call(info) == {"output": "cpu"}


class _Cable:
    """The other end of a pseudo-terminal as a client's link."""

    name, baud = "cable", 0

    def __init__(self, end: PseudoTerminal) -> None:
        self._end = end

    def read(self, timeout_s: float) -> bytes:
        return self._end.read(timeout_s, 65_536)

    def write(self, data: bytes) -> None:
        self._end.write(data)

    def change_baud(self, baud: int) -> None: ...

    def clear(self) -> None: ...

    def close(self) -> None: ...
