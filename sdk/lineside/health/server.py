"""The one listener that may be configured: one thread, sixteen connections, five seconds each.

One who connects and says nothing, or one byte a second, keeps nobody else out: each connection has
one deadline for all of it, and where all places are taken the oldest gives way.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from lineside.errors import ConfigurationError
from lineside.health.exposition import expose
from lineside.health.http import answer_to
from lineside.health.monitor import HealthSnapshot
from lineside.health.settings import ListenAddress
from lineside.worker import Worker

CONNECTIONS_LIMIT: Final = 16
PATIENCE_S: Final = 5.0
# However often somebody asks, the figures are put together once a second.
_FRESH_S: Final = 1.0
_TICK_S: Final = 0.5
_CHUNK_BYTES: Final = 4096
_LISTENER_REST_S: Final = 0.1


@dataclass(eq=False, kw_only=True)
class _Guest:
    socket: socket.socket
    until_s: float
    heard: bytearray = field(default_factory=bytearray)
    answer: memoryview | None = None
    sent_all: bool = False


class HealthServer:
    """Answers ``GET /metrics`` and ``/healthz`` until stopped; inspection never waits for it.

    Args:
        address: where to listen.
        snapshot: must not wait.
        trouble: why the station does not live, ``""`` when it does; must not wait.
        patience_s: for a request and its answer together.

    Raises:
        ConfigurationError: the port is in use, not permitted, or the address is not this machine's.
    """

    def __init__(
        self,
        address: ListenAddress,
        *,
        snapshot: Callable[[], HealthSnapshot],
        trouble: Callable[[], str] = lambda: "",
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.address = address
        self.trouble = trouble
        self._snapshot = snapshot
        self._patience_s = patience_s
        self._text = ""
        self._text_until_s = 0.0
        self._guests: dict[_Guest, None] = {}  # the oldest first
        self._stopping = threading.Event()
        self._listener = _listen(address)
        self._worker = Worker(self._run, name="lineside-prometheus")

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """End the thread and free the port."""
        self._stopping.set()
        self._worker.join(timeout_s)
        self._listener.close()

    @property
    def fault(self) -> str:
        """Why nobody answers, ``""`` when all is well."""
        failure = self._worker.failure
        return "" if failure is None else f"{self.address} answers no more: {failure!r}"

    def metrics(self) -> str:
        """The page, at most a second old."""
        now_s = time.monotonic()
        if now_s >= self._text_until_s:
            self._text = expose(self._snapshot())
            self._text_until_s = now_s + _FRESH_S
        return self._text

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._stopping.is_set():
                for key, _ in selector.select(_TICK_S):
                    if key.data is None:
                        self._welcome(selector)
                    elif key.data in self._guests:  # else it gave way a moment ago
                        self._attend(selector, key.data)
                self._dismiss_late(selector)
            for guest in list(self._guests):
                self._dismiss(selector, guest)

    def _welcome(self, selector: selectors.BaseSelector) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # it has gone again, or the process has no descriptor left
            self._stopping.wait(_LISTENER_REST_S)
            return
        connection.setblocking(False)
        while len(self._guests) >= CONNECTIONS_LIMIT:
            self._dismiss(selector, next(iter(self._guests)))
        guest = _Guest(socket=connection, until_s=time.monotonic() + self._patience_s)
        self._guests[guest] = None
        selector.register(connection, selectors.EVENT_READ, guest)

    def _attend(self, selector: selectors.BaseSelector, guest: _Guest) -> None:
        try:
            if guest.answer is None:
                self._hear(selector, guest)
            elif guest.sent_all:
                # Until the other side has closed: closing over bytes that nobody has read would
                # reset the connection, and the answer would be lost with it.
                if not guest.socket.recv(_CHUNK_BYTES):
                    self._dismiss(selector, guest)
            else:
                self._tell(selector, guest)
        except BlockingIOError:
            return
        except OSError:
            self._dismiss(selector, guest)

    def _hear(self, selector: selectors.BaseSelector, guest: _Guest) -> None:
        data = guest.socket.recv(_CHUNK_BYTES)
        if not data:
            self._dismiss(selector, guest)
            return
        guest.heard += data
        answer = answer_to(bytes(guest.heard), self)
        if answer is not None:
            guest.answer = memoryview(answer)
            selector.modify(guest.socket, selectors.EVENT_WRITE, guest)

    def _tell(self, selector: selectors.BaseSelector, guest: _Guest) -> None:
        assert guest.answer is not None
        guest.answer = guest.answer[guest.socket.send(guest.answer) :]
        if not guest.answer:
            guest.sent_all = True
            guest.socket.shutdown(socket.SHUT_WR)
            selector.modify(guest.socket, selectors.EVENT_READ, guest)

    def _dismiss_late(self, selector: selectors.BaseSelector) -> None:
        now_s = time.monotonic()
        for guest in [one for one in self._guests if now_s >= one.until_s]:
            self._dismiss(selector, guest)

    def _dismiss(self, selector: selectors.BaseSelector, guest: _Guest) -> None:
        del self._guests[guest]
        with contextlib.suppress(OSError, KeyError, ValueError):
            selector.unregister(guest.socket)
        guest.socket.close()


def _listen(address: ListenAddress) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        listener = socket.create_server((address.host, address.port), family=family, backlog=16)
    except OSError as error:
        raise ConfigurationError(
            f"health.prometheus: {address}: {error.strerror or error}; choose another port or "
            "address, or take it out",
            path="health.prometheus",
        ) from error
    listener.setblocking(False)
    return listener
