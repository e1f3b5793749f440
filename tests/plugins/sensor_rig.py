"""A simulated sensor that boots in a blink, and what a host does with it, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from memory_link import MemoryLink

from lineside.bundle import TrustedKeys
from lineside.bundle.checks import check_bundle
from lineside.slots import SimulatedFlash
from lineside_bridge import custom, requests
from lineside_bridge.chunks import ImageSource, PageSource, Source
from lineside_bridge.client import Client
from lineside_bridge.custom import Command, Device, Revert, SelfTestReport
from lineside_bridge.framing import Framing
from lineside_bridge.header import Operation
from lineside_bridge.pages import Stretch
from lineside_bridge.probe import Peer
from lineside_bridge.requests import ImageState, ImageStates
from lineside_bridge.sensor import Facts, FlashSensor, NoiseSettings, Server, make_server
from lineside_bridge.sensor.contents import Contents
from lineside_bridge.sensor.proving import judge_by_engine
from lineside_bridge.sensor.simulation import Setup, put_bundle
from lineside_bridge.upload import Outcome, Upload

FACTS = Facts(serial="S-1", hardware="cpu", engine="onnxruntime")


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """A bundle's bytes and its hash, 32 bytes."""

    data: bytes
    hash: bytes

    @classmethod
    def read(cls, path: Path, trusted: TrustedKeys) -> Sealed:
        """Of a file."""
        data = path.read_bytes()
        checked = check_bundle(memoryview(data), trusted=trusted, source=str(path))
        return cls(data=data, hash=bytes.fromhex(checked.hash))


class RememberingJudge:
    """The golden self-test with the real engine, run once for each bundle."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def __call__(self, contents: Contents, name: str) -> str:
        found = self._found.get(contents.checked.hash)
        if found is None:
            found = judge_by_engine(contents, name, engine=FACTS.engine)
            self._found[contents.checked.hash] = found
        return found


@dataclass(kw_only=True)
class Rig:
    """A sensor whose self-test is over when it has booted; power on and off as often as you like.

    Attributes:
        seen: told of each boot.
        sensor: of the last boot.
    """

    flash: SimulatedFlash
    trusted: TrustedKeys
    judge: Callable[[Contents, str], str] = field(default_factory=RememberingJudge)
    buffer_bytes: int = 2048
    seen: Callable[[FlashSensor], None] = lambda _sensor: None
    sensor: FlashSensor = field(init=False)

    def put(self, sealed: Sealed) -> None:
        """As the maker delivers it."""
        setup = Setup(trusted=self.trusted, facts=FACTS)
        assert put_bundle(self.flash, sealed.data, setup=setup, name="delivered")

    def start(self) -> Server:
        """Power on."""
        self.flash.restart()
        self.sensor = FlashSensor(
            self.flash, trusted=self.trusted, facts=FACTS, judge=self.judge, threaded=False
        )
        self.seen(self.sensor)
        return make_server(self.sensor, buffer_bytes=self.buffer_bytes)

    def link(self, noise: NoiseSettings | None = None) -> MemoryLink:
        """Power on, and a line to it."""
        return MemoryLink(self.start, noise)

    def host(self, framing: Framing = Framing.CONSOLE) -> Host:
        """Power on, and somebody at the other end."""
        return Host(self.link().client(framing, self.buffer_bytes), self.buffer_bytes)


class Host:
    """Somebody at the other end."""

    def __init__(self, client: Client, buffer_bytes: int = 2048) -> None:
        self.client = client
        self.peer = Peer(framing=client.framing, buffer_bytes=buffer_bytes, window=3, offer=None)

    def states(self) -> dict[int, ImageState]:
        """By slot."""
        found = custom.decode(self.client.call(requests.read_states()), ImageStates)
        return {state.slot: state for state in found.images}

    def find(self, image_hash: bytes) -> ImageState | None:
        """Where an image lies; the slot in use, where it lies in both."""
        states = sorted(self.states().values(), key=lambda state: not state.active)
        return next((state for state in states if state.hash == image_hash), None)

    def device(self) -> Device:
        """What it says of itself."""
        return custom.decode(self.client.call(custom.ask(Operation.READ, Command.DEVICE)), Device)

    def selftest(self) -> SelfTestReport:
        """How the last one went."""
        return custom.decode(
            self.client.call(custom.ask(Operation.READ, Command.SELF_TEST)), SelfTestReport
        )

    def upload(self, data: bytes) -> Outcome:
        """All of it; over a framing without checks by checked pages."""
        source: Source = ImageSource(data)
        if self.peer.framing is Framing.RAW:
            source = PageSource(data, (Stretch(start=0, stop=len(data)),), 0)
        return Upload(self.client, self.peer, source, is_there=lambda: False).run()

    def test(self, image_hash: bytes) -> None:
        """Try it at the next start."""
        self.client.call(requests.test_image(image_hash))

    def reset(self) -> None:
        """Start again."""
        self.client.call(requests.reset())

    def confirm(self, image_hash: bytes = b"") -> None:
        """Keep it."""
        self.client.call(requests.confirm_image(image_hash))

    def revert(self) -> None:
        """Go back."""
        self.client.call(custom.ask(Operation.WRITE, Command.REVERT, Revert(reason="command")))

    def flash(self, sealed: Sealed) -> None:
        """All of the way, from wherever the sensor is on it."""
        state = self.find(sealed.hash)
        if state is not None and state.active and state.confirmed:
            return
        if state is None or not (state.active or state.pending):
            self.upload(sealed.data)
            self.test(sealed.hash)
            state = self.find(sealed.hash)
        if state is not None and not state.active:
            self.reset()
        self.confirm(sealed.hash)
