"""The side that gives commands: one connection, many stations at once.

A thread of its own drives the connection and every conversation; whoever calls waits, in any number
of threads. After a loss it connects again, and each conversation goes on where it was.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from lineside.backoff import Backoff
from lineside.bundle import Signer
from lineside.closing import Closing
from lineside.errors import BrokerError, BrokerRefusedError, ConfigurationError
from lineside.mqtt.commands import AckMessage
from lineside.mqtt.link import Link
from lineside.mqtt.settings import MqttSettings
from lineside.mqtt.state import StateMessage
from lineside.mqtt.topics import StationTopics
from lineside.mqtt.wake import Wake
from lineside.remote.bundlefile import BundleFile
from lineside.remote.call import Call, OnProgress, Order, Talk, say_nothing
from lineside.remote.chunk import CHUNK_BYTES
from lineside.remote.conversation import INSTALL, Conversation, Patience
from lineside.remote.envelope import LIFETIME_S, sign_command
from lineside.remote.events import Upload
from lineside.remote.hearsay import Hearsay
from lineside.remote.switchboard import Switchboard
from lineside.remote.verbs import Scalar
from lineside.worker import Worker

_TICK_S: Final = 0.2
_ID_BYTES: Final = 8
_JOIN_S: Final = 5.0
_PATIENCE: Final = Patience()


class Caller(Closing):
    """Gives signed commands and hears their answers, and the states of the stations it speaks to.

    Use it in a ``with`` statement. Its methods are for any thread.

    Args:
        settings: the broker.
        signer: whose commands.
        chunk_bytes: of a message with a stretch of a bundle.
        patience: how long to wait for what.
        lifetime_s: so long a signed command may be done; one asked again is signed anew.
    """

    def __init__(
        self,
        settings: MqttSettings,
        signer: Signer,
        *,
        chunk_bytes: int = CHUNK_BYTES,
        patience: Patience = _PATIENCE,
        lifetime_s: float = LIFETIME_S,
    ) -> None:
        self._settings = settings
        self._signer = signer
        self._chunk_bytes = chunk_bytes
        self._patience = patience
        self._lifetime_s = lifetime_s
        self._client_id = f"lineside-command-{secrets.token_hex(4)}"
        self._wake = Wake()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._is_over = False
        self._new: deque[Talk] = deque()
        self._wanted: deque[StationTopics] = deque()
        self._stations: dict[StationTopics, None] = {}
        self._hearsay = Hearsay()
        self._board = Switchboard(
            settings.url,
            self._hearsay,
            sign=self._sign,
            window=settings.window,
            ack_timeout_s=settings.ack_timeout_s,
        )
        self._backoff = Backoff(settings.reconnect_min_s, min(settings.reconnect_max_s, 5.0))
        self._worker = Worker(self._run, name="lineside-caller")

    def __enter__(self) -> Caller:
        self._worker.start()
        return self

    def close(self) -> None:
        """Say goodbye; calls that are not over end as faults."""
        self._stopping.set()
        self._wake.set()
        self._worker.join(_JOIN_S)

    def call(
        self,
        station: StationTopics,
        verb: str,
        args: Mapping[str, Scalar],
        timeout_s: float | None = None,
    ) -> AckMessage:
        """Give a command and wait for its answer.

        Args:
            station: who is to do it.
            verb: what.
            args: as the verb asks.
            timeout_s: without an answer for so long it ends; ``None``: as `Patience` says.

        Raises:
            CommandRefusedError: the station said no.
            BrokerError: no answer in time, or no broker.
            InputDataError: no station would take it.
            SigningError: the key cannot sign.
        """
        order = Order(station=station, verb=verb, args=args)
        return self.submit(order, timeout_s=timeout_s).result()

    def install(
        self,
        station: StationTopics,
        bundle: str | Path | BundleFile,
        on_progress: OnProgress = say_nothing,
        *,
        product: str = "",
        timeout_s: float | None = None,
    ) -> AckMessage:
        """Send a bundle and wait until it is verified, proved and pending.

        Args:
            station: where to.
            bundle: a file, or one that was opened for many stations.
            on_progress: told of bytes that the station has; in the caller's thread.
            product: whose store; ``""``: of the product in use.
            timeout_s: without any sign of life for so long it ends.

        Raises:
            As `call`.
        """
        with contextlib.ExitStack() as stack:
            file = (
                bundle
                if isinstance(bundle, BundleFile)
                else stack.enter_context(BundleFile(bundle))
            )
            order = self.order_install(station, file, on_progress, product=product)
            return self.submit(order, timeout_s=timeout_s).result()

    def order_install(
        self,
        station: StationTopics,
        file: BundleFile,
        on_progress: OnProgress = say_nothing,
        *,
        product: str = "",
    ) -> Order:
        """What `install` submits; the file has to stay open until the call is over."""
        return Order(
            station=station,
            verb=INSTALL,
            args={"sha256": file.sha256.hex(), "size": file.size_bytes, "product": product},
            upload=Upload(size_bytes=file.size_bytes, chunk_bytes=self._chunk_bytes),
            file=file,
            on_progress=on_progress,
        )

    def order_download(
        self,
        station: StationTopics,
        name: str,
        on_progress: OnProgress = say_nothing,
        *,
        sha256: bytes,
        size_bytes: int = 0,
        product: str = "",
    ) -> Order:
        """Likewise of a bundle that the station downloads itself.

        Args:
            station: who.
            name: below the station's ``commands.url``.
            on_progress: as of `install`; the size may be 0, not known.
            sha256: of the whole file.
            size_bytes: of the whole file; 0: as the server says.
            product: as of `install`.
        """
        return Order(
            station=station,
            verb=INSTALL,
            args={"sha256": sha256.hex(), "size": size_bytes, "url": name, "product": product},
            upload=Upload(size_bytes=size_bytes, fetched=True),
            on_progress=on_progress,
        )

    def submit(self, order: Order, *, timeout_s: float | None = None) -> Call:
        """Set a command in motion and return at once.

        Raises:
            InputDataError: no station would take it.
            SigningError: the key cannot sign.
        """
        patience = self._patience if timeout_s is None else self._patience.with_answer(timeout_s)
        command_id = secrets.token_hex(_ID_BYTES)
        self._sign(order, command_id)  # what is wrong with it is raised here, not in our thread
        conversation = Conversation(
            order.verb, command_id, time.monotonic(), upload=order.upload, patience=patience
        )
        call = Call(order)
        with self._lock:
            if self._is_over:
                call.fail(self._closed_error())
                return call
            self._new.append(Talk(call=call, conversation=conversation))
        self._wake.set()
        return call

    def watch(self, stations: Iterable[StationTopics]) -> None:
        """Hear the states of these stations from now on, and of those that are given commands."""
        with self._lock:
            self._wanted.extend(stations)
        self._wake.set()

    def state(self, station: StationTopics) -> StateMessage | None:
        """The last one heard; ``None``: none yet."""
        return self._hearsay.state(station)

    def wait_for_news(self, seen: int, timeout_s: float) -> int:
        """Until a state has come since ``seen``; returns the number to wait for next."""
        return self._hearsay.wait(seen, timeout_s)

    def _closed_error(self) -> BrokerError:
        return BrokerError(f"{self._settings.url}: the connection was closed")

    def _sign(self, order: Order, command_id: str) -> bytes:
        return sign_command(
            self._signer,
            verb=order.verb,
            station=order.station,
            args=order.args,
            command_id=command_id,
            now_unix_ms=time.time_ns() // 1_000_000,
            lifetime_s=self._lifetime_s,
        )

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._attempt()
        finally:
            with self._lock:
                self._is_over = True
            self._admit()
            self._board.fail_all(self._closed_error())
            self._wake.close()

    def _attempt(self) -> None:
        try:
            with Link(self._settings, client_id=self._client_id, wake=self._wake) as link:
                self._serve(link)
        except (BrokerRefusedError, ConfigurationError) as error:
            self._admit()
            self._board.fail_all(error)
            self._pause(str(error))
        except BrokerError as error:
            self._pause(str(error))

    def _pause(self, words: str) -> None:
        self._board.lost(words)
        until_s = time.monotonic() + self._backoff.pause_s() * random.uniform(0.75, 1.25)
        while time.monotonic() < until_s and not self._stopping.wait(_TICK_S):
            if self._admit():
                self._board.lost(words)
            self._board.tick()

    def _serve(self, link: Link) -> None:
        self._subscribe(link, list(self._stations))
        self._board.joined()
        while not self._stopping.is_set():
            for talk in self._admit():
                self._follow(link, talk.call.order.station)
                self._board.join(talk)
            while self._wanted:
                self._follow(link, self._wanted.popleft())
            self._board.publish(link)
            if self._board.settle(link.step(_TICK_S)):
                self._backoff.succeeded()
            self._board.hear(link)
            self._board.tick()

    def _follow(self, link: Link, station: StationTopics) -> None:
        if station not in self._stations:
            self._stations[station] = None
            self._subscribe(link, [station])

    def _subscribe(self, link: Link, stations: Sequence[StationTopics]) -> None:
        # The broker works off what one client sends in order: whatever is asked after this, its
        # answer will be heard.
        if stations:
            filters = [topic for station in stations for topic in (station.ack, station.state)]
            link.subscribe(filters, optional=True)

    def _admit(self) -> list[Talk]:
        with self._lock:
            new = list(self._new)
            self._new.clear()
        for talk in new:
            self._board.add(talk)
        return new
