"""A line without a port: a client's link whose other end is a server in the same process.

Nobody waits: where no answer lies there, none will come, and time jumps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from lineside.slots import PowerCut
from lineside_bridge.client import Client
from lineside_bridge.framing import Framing
from lineside_bridge.sensor import Noise, NoiseSettings
from lineside_bridge.sensor.port import QUIET_S, Answering
from lineside_bridge.sensor.server import Reply


class MemoryLink:
    """A `lineside_bridge.link.Link`.

    Args:
        start: makes the server: at the beginning, and after each loss of power.
        noise: of the line, both ways.

    Attributes:
        cuts: how often the power was lost.
    """

    name = "memory"

    def __init__(self, start: Callable[[], Answering], noise: NoiseSettings | None = None) -> None:
        self.baud = 0
        self.cuts = 0
        self._start = start
        settings = noise or NoiseSettings()
        self._to, self._back = Noise(settings, "in"), Noise(settings, "out")
        self._answers = bytearray()
        self._skipped_s = 0.0
        self._server = self._power_up()

    def client(self, framing: Framing = Framing.CONSOLE, buffer_bytes: int = 2048) -> Client:
        """Somebody at this end."""
        return Client(self, framing, buffer_bytes=buffer_bytes, first_sequence=0, now_s=self.now_s)

    def now_s(self) -> float:
        """Of a clock that stands still as long as an answer waits to be read."""
        if not self._answers:
            self._do(lambda: self._server.quiet())
        return time.monotonic() + (0.0 if self._answers else self._skipped_s)

    def read(self, timeout_s: float) -> bytes:
        """See `Link`."""
        if not self._answers and timeout_s >= QUIET_S:
            self._do(lambda: self._server.quiet())
        if not self._answers:
            self._skipped_s += max(timeout_s, 0.0)
        data = bytes(self._answers)
        self._answers.clear()
        return data

    def write(self, data: bytes) -> None:
        """See `Link`."""
        self._do(lambda: self._server.feed(self._to.pass_on(data)))

    def change_baud(self, baud: int) -> None:
        """See `Link`."""

    def clear(self) -> None:
        """See `Link`."""
        self._answers.clear()

    def close(self) -> None:
        """See `Link`."""

    def _do(self, serve: Callable[[], Sequence[Reply]]) -> None:
        try:
            for reply in serve():
                self._answers += self._back.pass_on(reply.frame)
                reply.then()
        except PowerCut:
            self.cuts += 1
            self._answers.clear()
            self._server = self._power_up()

    def _power_up(self) -> Answering:
        while True:
            try:
                return self._start()
            except PowerCut:
                self.cuts += 1
