"""Other people's clients against our server, as they come from the package index."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from mcumgr_toolkit import MCUmgrClient
from sensor_bundles import Family
from sensor_rig import Rig
from served_sensor import SIMULATE, process, served
from smpclient import SMPClient
from smpclient.exceptions import SMPUploadError
from smpclient.generics import error, success
from smpclient.requests.image_management import ImageErase, ImageStatesRead, ImageStatesWrite
from smpclient.requests.os_management import (
    BootloaderInformationRead,
    EchoWrite,
    MCUMgrParametersRead,
    OSApplicationInfoRead,
    ResetWrite,
)
from smpclient.transport.serial import Cobs, SMPSerialRawTransport, SMPSerialTransport
from tiny_bundle import TinyBundle

from lineside.bundle import generate_key_pair
from lineside.slots import SlotName, SlotState
from lineside_bridge import custom
from lineside_bridge.custom import Code
from lineside_bridge.mcuboot import ImageVersion, read_image, wrap_image

SLOT_BYTES = 1 << 16
SMPMGR = Path(sys.executable).with_name("smpmgr")
TRANSPORTS: dict[str, Callable[[], Any]] = {
    "console": SMPSerialTransport,
    "raw": lambda: SMPSerialRawTransport(mtu=2048),
    "cobs": lambda: SMPSerialRawTransport(mtu=2000, framing=Cobs()),
}


@pytest.fixture
def rig(family: Family) -> Rig:
    return family.rig(slot_bytes=SLOT_BYTES)


@pytest.fixture
def port(rig: Rig) -> Iterator[str]:
    with served(rig) as end:
        yield end.name


@pytest.fixture(scope="session")
def image(family: Family) -> bytes:
    """The new bundle as an MCUboot image."""
    return wrap_image(
        family.new.data,
        version=ImageVersion.parse("2.0.0"),
        security_counter=1,
        signer=generate_key_pair("boot"),
    )


def running(rig: Rig) -> bytes:
    assert rig.sensor.running is not None
    return bytes.fromhex(rig.sensor.running.checked.hash)


def with_smpclient(
    port: str, transport: str, talk: Callable[[SMPClient], Coroutine[Any, Any, None]]
) -> None:
    async def connected() -> None:
        async with asyncio.timeout(60):
            async with SMPClient(TRANSPORTS[transport](), port, timeout_s=20) as client:
                await talk(client)

    asyncio.run(connected())


async def ask(client: SMPClient, request: Any) -> Any:
    answer = await client.request(request)
    assert success(answer), answer
    return answer


@pytest.mark.parametrize("transport", list(TRANSPORTS))
def test_smpclient_goes_all_of_the_way(rig: Rig, port: str, family: Family, transport: str) -> None:
    async def talk(client: SMPClient) -> None:
        assert (await ask(client, EchoWrite(d="hello"))).r == "hello"
        assert (await ask(client, MCUMgrParametersRead())).buf_size == 2048
        offsets = [offset async for offset in client.upload(family.new.data)]
        assert offsets[-1] == len(family.new.data)
        states = (await ask(client, ImageStatesRead())).images
        assert [(state.slot, state.version) for state in states] == [(0, "1.0.0"), (1, "2.0.0")]
        assert states[1].hash == family.new.hash
        tested = await ask(client, ImageStatesWrite(hash=family.new.hash))
        assert [bool(state.pending) for state in tested.images] == [False, True]
        await ask(client, ResetWrite())
        states = (await ask(client, ImageStatesRead())).images
        assert [(state.active, state.confirmed) for state in states] == [
            (False, True),
            (True, False),
        ]
        await ask(client, ImageStatesWrite(hash=b"", confirm=True))
        states = (await ask(client, ImageStatesRead())).images
        assert [state.confirmed for state in states] == [False, True]

    with_smpclient(port, transport, talk)
    assert running(rig) == family.new.hash


def test_smpclient_survives_a_refusal_by_our_own_numbers(
    rig: Rig, port: str, family: Family
) -> None:
    async def talk(client: SMPClient) -> None:
        damaged = family.new.data[:-1] + b"?"
        with pytest.raises(SMPUploadError, match=f"group={custom.GROUP}"):
            async for _ in client.upload(damaged):
                pass
        answer = await client.request(ImageStatesWrite(hash=family.new.hash))
        assert error(answer)
        assert (answer.err.group, int(answer.err.rc)) == (custom.GROUP, Code.NO_SLOT)
        assert error(await client.request(ImageErase(slot=0)))
        await ask(client, ImageErase(slot=1))
        assert (await ask(client, OSApplicationInfoRead(format="p"))).output == "cpu"
        assert (await ask(client, BootloaderInformationRead())).bootloader == "Lineside"
        async for _ in client.upload(family.new.data):
            pass

    with_smpclient(port, "console", talk)
    assert running(rig) == family.old.hash


def test_smpclient_goes_on_with_an_upload_that_was_left(port: str, family: Family) -> None:
    async def begin(client: SMPClient) -> None:
        async for offset in client.upload(family.new.data):
            if offset > 5000:
                return

    async def end(client: SMPClient) -> None:
        offsets = [offset async for offset in client.upload(family.new.data)]
        assert offsets[0] > 5000
        assert offsets[-1] == len(family.new.data)

    with_smpclient(port, "raw", begin)
    with_smpclient(port, "console", end)


@pytest.mark.parametrize("wrapped", [True, False])
def test_smpmgr_goes_all_of_the_way(
    rig: Rig, port: str, family: Family, image: bytes, tmp_path: Path, wrapped: bool
) -> None:
    """With an MCUboot image, and with a bundle by the words of docs/sensor.md."""
    file = tmp_path / "new"
    file.write_bytes(image if wrapped else family.new.data)
    kind = () if wrapped else ("--format", "any")
    name = read_image(image).digest if wrapped else family.new.hash

    def smpmgr(*words: str) -> None:
        done = subprocess.run(
            [SMPMGR, "--port", port, "--timeout", "20", "--line-buffers", "16", *words],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    smpmgr("image", "upload", *kind, str(file))
    smpmgr("image", "state-write", name.hex())
    smpmgr("os", "reset")
    smpmgr("image", "state-write", "--confirm")
    assert running(rig) == family.new.hash
    assert rig.sensor.store.record.find(SlotState.CONFIRMED) is SlotName.B


def test_mcumgr_toolkit_goes_all_of_the_way_in_both_its_framings(
    tiny_bundle: TinyBundle, family: Family, image: bytes
) -> None:
    """It lets no other thread run while it waits, so the sensor is a process of its own."""
    words = ("--pty", "--slot-mib", 1, "--engine", "onnxruntime", "--hardware", "cpu")
    words = (*words, "--trust", tiny_bundle.public_key_path, "--bundle", tiny_bundle.path)
    with process(SIMULATE, *words) as ready:
        with MCUmgrClient.serial(ready["port"], timeout_ms=20_000) as client:
            look_around(client)
            with pytest.raises(RuntimeError, match=f"group=76,rc={Code.DAMAGED.value}"):
                client.image_upload(family.new.data[:-1] + b"?")
            # Upload, test and reset at once; that takes MCUboot images only.
            client.firmware_update(image, bootloader_type="MCUboot")
            assert [state.active for state in client.image_get_state()] == [False, True]
            client.image_set_state(None, True)
        with MCUmgrClient.raw_serial(ready["port"], timeout_ms=20_000) as client:
            look_around(client)
            client.image_upload(family.later.data)
            client.image_set_state(family.later.hash)
            client.os_system_reset()
            states = {state.hash: state for state in client.image_get_state()}
            assert states[family.later.hash].active
            client.os_system_reset()
            states = {state.hash: state for state in client.image_get_state()}
            assert states.keys() == {family.new.hash}
            assert states[family.new.hash].confirmed
            client.image_erase()


def look_around(client: MCUmgrClient) -> None:
    client.check_connection()
    client.use_auto_frame_size()
    assert client.os_mcumgr_parameters().buf_size == 2048
    assert client.os_bootloader_info()["name"] == "Lineside"
    assert [slot.size for slot in client.image_slot_info()[0].slots] == [1 << 20, 1 << 20]
