"""The loop between a port and a server: the only place here that has a clock and a port."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import select
import termios
import time
import tty
from collections.abc import Callable
from typing import Final, Protocol

from lineside.slots import PowerCut
from lineside_bridge.errors import PortError, SensorSilentError
from lineside_bridge.link import SerialLink
from lineside_bridge.sensor.line import Line
from lineside_bridge.sensor.noise import Noise, NoiseSettings
from lineside_bridge.sensor.server import Reply
from lineside_bridge.sensor.wire import Wire

# Longer than a pause inside a frame, shorter than any client's patience.
QUIET_S: Final = 0.1
_READ_BYTES: Final = 65_536
_AGAIN_S: Final = 1.0
_SPEEDS: Final = {
    getattr(termios, name): int(name[1:])
    for name in dir(termios)
    if name.startswith("B") and name[1:].isdigit() and name != "B0"
}


class End(Protocol):
    """Our end of a line."""

    name: str

    def read(self, timeout_s: float, most_bytes: int) -> bytes:
        """What has come, as soon as there is any."""

    def write(self, data: bytes) -> None:
        """Send it; what nobody takes is lost."""

    def set_baud(self, baud: int) -> None:
        """From the next byte on."""

    @property
    def peer_baud(self) -> int:
        """What the other end is set to; 0: unknown."""

    def close(self) -> None:
        """Let go of it."""


class Answering(Protocol):
    """A `Server`, or what stands for one."""

    def feed(self, data: bytes) -> list[Reply]:
        """See `Server`."""

    def quiet(self) -> list[Reply]:
        """See `Server`."""


class PseudoTerminal:
    """A pseudo-terminal, which others open as they open a serial port: an `End`.

    Clients may come and go: one end of it stays open here.
    """

    def __init__(self) -> None:
        self._fd, self._held_fd = os.openpty()
        tty.setraw(self._held_fd)
        os.set_blocking(self._fd, False)
        self.name = os.ttyname(self._held_fd)

    def read(self, timeout_s: float, most_bytes: int) -> bytes:
        """See `End`."""
        ready, _, _ = select.select([self._fd], [], [], max(0.0, timeout_s))
        if not ready:
            # A client that had it to itself and went leaves it locked, because we hold it open.
            fcntl.ioctl(self._held_fd, termios.TIOCNXCL)
            return b""
        with contextlib.suppress(BlockingIOError):
            return os.read(self._fd, most_bytes)
        return b""

    def write(self, data: bytes) -> None:
        """See `End`."""
        # Full: nobody reads, as with a cable that hangs in the air.
        with contextlib.suppress(BlockingIOError):
            os.write(self._fd, data)

    def set_baud(self, baud: int) -> None:
        """See `End`: what it is set to is its client's business."""

    @property
    def peer_baud(self) -> int:
        """See `End`."""
        return _SPEEDS.get(termios.tcgetattr(self._fd)[4], 0)

    def close(self) -> None:
        """See `End`."""
        os.close(self._fd)
        os.close(self._held_fd)


class SerialEnd:
    """A serial port, e.g. of a USB gadget, whose host comes and goes: an `End`.

    Raises:
        PortError: it cannot be opened at the start.
    """

    peer_baud = 0

    def __init__(self, port: str, baud: int) -> None:
        self.name = port
        self._baud = baud
        self._link: SerialLink | None = SerialLink(port, baud)
        self._again_s = 0.0

    def read(self, timeout_s: float, most_bytes: int) -> bytes:  # noqa: ARG002
        """See `End`; all that has come, because a real line paces itself."""
        link = self._find()
        if link is None:
            time.sleep(timeout_s)
            return b""
        try:
            return link.read(timeout_s)
        except PortError:
            self._lose()
            return b""

    def write(self, data: bytes) -> None:
        """See `End`."""
        link = self._find()
        if link is None:
            return
        try:
            link.write(data)
        except SensorSilentError:
            return
        except PortError:
            self._lose()

    def set_baud(self, baud: int) -> None:
        """See `End`."""
        self._baud = baud
        if self._link is not None:
            with contextlib.suppress(PortError):
                self._link.change_baud(baud)

    def close(self) -> None:
        """See `End`."""
        if self._link is not None:
            self._link.close()

    def _find(self) -> SerialLink | None:
        if self._link is None and time.monotonic() >= self._again_s:
            self._again_s = time.monotonic() + _AGAIN_S
            with contextlib.suppress(PortError):
                self._link = SerialLink(self.name, self._baud)
        return self._link

    def _lose(self) -> None:
        self.close()
        self._link = None
        self._again_s = time.monotonic() + _AGAIN_S


class Port:
    """Serves whoever comes.

    Args:
        end: of the line.
        start: makes the server: at the beginning, and after each loss of power.
        line: its rate; the server has the same.
        paced: bytes take the time that they would take at this rate, and other rates see noise.
        noise: of the line.
    """

    def __init__(
        self,
        end: End,
        start: Callable[[], Answering],
        *,
        line: Line | None = None,
        paced: bool = False,
        noise: NoiseSettings | None = None,
    ) -> None:
        self._end = end
        self._start = start
        self._line = line or Line()
        self._paced = paced
        settings = noise or NoiseSettings()
        self._noise_in, self._noise_out = Noise(settings, "in"), Noise(settings, "out")
        self._garble = random.Random(settings.seed)
        self._baud = self._line.baud
        self._in, self._out = Wire(), Wire()
        self._set_wires()
        self._heard_s = time.monotonic()
        self._server = self._power_up()

    def serve(self, is_stopped: Callable[[], bool]) -> None:
        """Until it is stopped, which is asked every tenth of a second."""
        while not is_stopped():
            self.step()

    def step(self) -> None:
        """Wait a moment for something to happen, and do it."""
        now_s = time.monotonic()
        self._listen(now_s)
        now_s = time.monotonic()
        try:
            self._hear(now_s)
            self._send(now_s)
        except PowerCut:
            self._server = self._power_up()
        self._settle(now_s)

    def _listen(self, now_s: float) -> None:
        """From the port into the wire, no faster than the wire carries."""
        dues = [due for due in (self._in.due_s, self._out.due_s) if due is not None]
        wait_s = min([QUIET_S, *(due - now_s for due in dues)])
        if self._in.due_s is not None:
            time.sleep(max(0.0, wait_s))
            return
        waiting = self._end.read(0, self._in.slice_bytes)
        data = waiting or self._end.read(wait_s, self._in.slice_bytes)
        if data:
            arrived = self._noise_in.pass_on(self._distort(data))
            self._in.put(arrived, time.monotonic(), follows=bool(waiting))

    def _hear(self, now_s: float) -> None:
        data = b"".join(arrival.data for arrival in self._in.take(now_s))
        if data:
            self._heard_s = now_s
            replies = self._server.feed(data)
        elif now_s - self._heard_s >= QUIET_S and self._in.due_s is None:
            self._heard_s = now_s
            replies = self._server.quiet()
        else:
            return
        if replies:
            self._line.hear(now_s)
        for reply in replies:
            frame = self._noise_out.pass_on(reply.frame)
            self._out.put(frame, now_s, delay_s=self._noise_out.delay_s(), then=reply.then)

    def _send(self, now_s: float) -> None:
        for arrival in self._out.take(now_s):
            if arrival.data:
                self._end.write(self._distort(arrival.data))
            arrival.then()

    def _settle(self, now_s: float) -> None:
        self._line.settle(now_s)
        if self._line.baud != self._baud:
            self._baud = self._line.baud
            self._end.set_baud(self._baud)
            self._set_wires()

    def _set_wires(self) -> None:
        self._in.baud = self._out.baud = self._baud if self._paced else 0

    def _distort(self, data: bytes) -> bytes:
        """Both ends at different rates understand nothing."""
        if not self._paced or self._end.peer_baud in (0, self._baud):
            return data
        return self._garble.randbytes(len(data))

    def _power_up(self) -> Answering:
        self._in.clear()
        self._out.clear()
        while True:
            with contextlib.suppress(PowerCut):
                return self._start()
