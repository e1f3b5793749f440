"""A sensor at a port, as flashing needs it: what it is, what it holds, what it is told to do.

Sensors without our group answer by the published ones alone; then less is known.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Final

import msgspec

from lineside.closing import Closing
from lineside_bridge import custom, requests
from lineside_bridge.body import Body
from lineside_bridge.client import ONCE, PATIENT, Client, Patience
from lineside_bridge.custom import (
    Command,
    Device,
    Digest,
    Health,
    LogLines,
    LogQuery,
    Revert,
    SelfTestReport,
    SlotQuery,
    SlotReport,
)
from lineside_bridge.errors import (
    MalformedError,
    PortError,
    SensorGarbledError,
    SensorRefusedError,
    SensorSilentError,
)
from lineside_bridge.framing import Framing
from lineside_bridge.header import Operation
from lineside_bridge.link import Link
from lineside_bridge.message import Request
from lineside_bridge.probe import Peer, find_baud, find_sensor, give_back
from lineside_bridge.requests import ImageStates, Parameters

SLOTS: Final = (0, 1)

# Hashes megabytes of flash, begins a self-test, erases, ends a trial.
_SLOW: Final = Patience(answer_s=5.0, longest_s=20.0, attempts=4)
_RETRY_S: Final = 0.2
_DOUBTS: Final = 4
_AWAY: Final = (PortError, SensorSilentError, SensorGarbledError)


class Session(Closing):
    """One sensor at one port; a context manager.

    Args:
        open_link: opens the port, at the rate of the sensor's firmware.
        framing: ``None``: the best that both understand.
        faster: change to the highest rate that holds.

    Attributes:
        name: the port.
    """

    def __init__(
        self,
        open_link: Callable[[], Link],
        framing: Framing | None = None,
        *,
        faster: bool = False,
    ) -> None:
        self._open_link = open_link
        self._framing = framing
        self._link = open_link()
        self._firmware_baud = self._link.baud
        self.name = self._link.name
        try:
            self._client, self._peer = find_sensor(self._link, framing)
            if faster:
                find_baud(self._client, self._peer)
        except BaseException:
            self._link.close()
            raise

    @property
    def client(self) -> Client:
        """To ask by."""
        return self._client

    @property
    def peer(self) -> Peer:
        """What its line can do."""
        return self._peer

    @property
    def is_ours(self) -> bool:
        """Whether it has our group."""
        return self._peer.offer is not None

    def reconnect(self, within_s: float) -> None:
        """Find it again, at its firmware's own rate: it has started anew, or was unplugged.

        Raises:
            PortError, SensorSilentError, SensorGarbledError: not within that time.
        """
        self._link.close()
        until_s = time.monotonic() + within_s
        while True:
            try:
                self._link = self._open_link()
                self._client, self._peer = find_sensor(self._link, self._framing)
                return
            except _AWAY:
                self._link.close()
                if time.monotonic() >= until_s:
                    raise
            time.sleep(_RETRY_S)

    def read_device(self) -> Device | None:
        """Who it is; ``None``: it has no such word."""
        return self._ask_ours(Command.DEVICE, None, Device)

    def read_slots(self) -> tuple[SlotReport, ...]:
        """Both slots; none where it does not tell them."""
        found = (self._ask_ours(Command.SLOT, SlotQuery(slot=slot), SlotReport) for slot in SLOTS)
        return tuple(report for report in found if report is not None)

    def read_digest(self, slot: int) -> Digest | None:
        """Of a slot's file, read anew from its flash."""
        return self._ask_ours(Command.DIGEST, SlotQuery(slot=slot), Digest, _SLOW)

    def read_selftest(self) -> SelfTestReport | None:
        """How the self-test goes."""
        return self._ask_ours(Command.SELF_TEST, None, SelfTestReport)

    def start_selftest(self, slot: int) -> None:
        """Of the bundle in that slot."""
        self._client.call(
            custom.ask(Operation.WRITE, Command.SELF_TEST, SlotQuery(slot=slot)), _SLOW
        )

    def read_health(self) -> Health | None:
        """How it is."""
        return self._ask_ours(Command.HEALTH, None, Health)

    def read_log(self, first: int = 0) -> LogLines | None:
        """Lines from that number on, as many as fit an answer."""
        return self._ask_ours(Command.LOG, LogQuery(first=first), LogLines)

    def read_parameters(self) -> Parameters | None:
        """Of its buffers."""
        try:
            return custom.decode(self._client.call(requests.read_parameters()), Parameters)
        except (SensorRefusedError, MalformedError):
            return None

    def read_platform(self) -> str:
        """Its hardware in the words of a sensor without our group; empty: it has none."""
        try:
            return str(self._client.call(requests.read_info()).get("output", ""))
        except SensorRefusedError:
            return ""

    def read_bootloader(self) -> str:
        """Its bootloader's name; empty: it has none."""
        try:
            return str(self._client.call(requests.read_bootloader()).get("bootloader", ""))
        except SensorRefusedError:
            return ""

    def read_states(self) -> ImageStates:
        """What lies in its slots, by the published group."""
        return self._states(requests.read_states())

    def test(self, image_hash: bytes) -> ImageStates:
        """To be tried at its next start."""
        return self._states(requests.test_image(image_hash))

    def confirm(self, image_hash: bytes) -> ImageStates:
        """To be kept."""
        return self._states(requests.confirm_image(image_hash))

    def revert(self, reason: str = "command") -> None:
        """Back to the bundle before.

        Raises:
            SensorRefusedError: nothing to go back to; or it has no word for it but a reset.
        """
        asked = custom.ask(Operation.WRITE, Command.REVERT, Revert(reason=reason))
        before, repeated = self._read_bundles(), self._client.tally.repeated
        try:
            self._client.call(asked, _SLOW)
        except SensorRefusedError:
            # Done at once, its answer lost, and asked again: then there is nothing to go back to.
            if self._client.tally.repeated == repeated or self._read_bundles() == before:
                raise

    def erase(self, slot: int) -> None:
        """Forget what came into that slot."""
        self._client.call(requests.erase_slot(slot), _SLOW)

    def reset(self) -> bool:
        """Start it anew; whether it said that it will. The answer may be lost with it."""
        try:
            self._client.call(requests.reset(), ONCE)
        except _AWAY:
            return False
        return True

    def close(self) -> None:
        """Let go of the port, and leave the sensor at its firmware's own rate."""
        with contextlib.suppress(PortError):
            if self._link.baud != self._firmware_baud:
                give_back(self._client, self._firmware_baud)
        self._link.close()

    def _read_bundles(self) -> tuple[tuple[bytes, str], ...]:
        return tuple((report.hash, report.state) for report in self.read_slots())

    def _states(self, request: Request) -> ImageStates:
        body = self._ask(request, PATIENT)
        try:
            return custom.decode(body, ImageStates)
        except MalformedError as error:
            raise self._senseless(error) from error

    def _ask_ours(
        self,
        command: Command,
        struct: msgspec.Struct | None,
        kind: type[custom.StructKind],
        patience: Patience = PATIENT,
    ) -> custom.StructKind | None:
        if not self.is_ours:
            return None
        try:
            asked = custom.ask(Operation.READ, command, struct)
            return custom.decode(self._ask(asked, patience), kind)
        except SensorRefusedError:
            return None
        except MalformedError as error:
            raise self._senseless(error) from error

    def _senseless(self, error: MalformedError) -> SensorGarbledError:
        return SensorGarbledError(
            f"{self.name}: the sensor's answer cannot be: {error}: a fault of its firmware, or a "
            "line without a check (--framing console or cobs)"
        )

    def _ask(self, request: Request, patience: Patience) -> Body:
        """An answer to believe: one that nothing guards is asked for until it comes twice."""
        body = self._client.call(request, patience)
        if self._peer.framing is not Framing.RAW:
            return body
        for _ in range(_DOUBTS):
            again = self._client.call(request, patience)
            if again == body:
                break
            body = again
        return body
