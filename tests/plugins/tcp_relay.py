"""A small TCP proxy between station and broker that does to a connection what networks do.

It can refuse, cut (also in the middle of a packet), stall, fall silent as a peer that vanished
without FIN, hear nothing in one direction, be slow, and swallow a broker's acknowledgements.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time

from mqtt_packets import PUBACK, PUBLISH, Packets, expects_puback, kind, packet_id

_LOOK_S = 0.05


class TcpRelay:
    """Listens on a port of its own; every connection is passed on to ``target_port``.

    Attributes:
        port: where clients connect.
        swallow_pubacks: drop PUBACK packets on their way back (MQTT 3.1.1, section 3.4).
        unacknowledged_peak: most PUBLISH packets of QoS 1 that were ever without their PUBACK on
            one connection.
        stalled: pass nothing on and read nothing, so that buffers fill: a broker that is stopped.
        deaf: read what clients send and throw it away; the way back stays open.
        delay_s: each packet waits so long on its way, in both directions.
        connections: how many were passed on so far.
    """

    def __init__(self, target_port: int) -> None:
        self.swallow_pubacks = False
        self.stalled = False
        self.deaf = False
        self.delay_s = 0.0
        self.unacknowledged_peak = 0
        self.connections = 0
        self._to_tear = 0
        self._target_port = target_port
        self._is_open = True
        self._lock = threading.Lock()
        self._pairs: list[_Pair] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"mqtt://127.0.0.1:{self.port}"

    def shut(self) -> None:
        """Cut what stands and refuse what comes, until `open`."""
        self._is_open = False
        self.cut()

    def open(self) -> None:
        """Pass on again."""
        self._is_open = True

    def cut(self) -> None:
        """Cut all standing connections, in the middle of whatever they do."""
        for pair in self._standing():
            pair.cut()

    def tear(self, publishes: int = 1) -> None:
        """Of the next PUBLISH packets let only the first half through, and cut the connection."""
        self._to_tear = publishes

    @property
    def torn(self) -> bool:
        """Whether all that `tear` asked for has happened."""
        return self._to_tear == 0

    def vanish(self) -> None:
        """Half-open: nobody is behind the standing connections any more, and no FIN ever says so.

        What is sent into them is taken and thrown away. New connections are passed on.
        """
        for pair in self._standing():
            pair.vanished = True

    def close(self) -> None:
        """End for good."""
        self.shut()
        self._server.close()

    def _standing(self) -> list[_Pair]:
        with self._lock:
            self._pairs = [pair for pair in self._pairs if not pair.ended]
            return list(self._pairs)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            try:
                if not self._is_open:
                    raise ConnectionRefusedError
                broker = socket.create_connection(("127.0.0.1", self._target_port), timeout=5)
            except OSError:
                client.close()
                continue
            for sock in (client, broker):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = _Pair(client, broker)
            self._standing()
            with self._lock:
                self.connections += 1
                self._pairs.append(pair)
            threading.Thread(target=self._pump, args=(pair,), daemon=True).start()

    def _pump(self, pair: _Pair) -> None:
        with pair.client, pair.broker, contextlib.suppress(OSError):
            while not pair.ended:
                if self.stalled and not pair.vanished:
                    time.sleep(_LOOK_S)
                    continue
                readable, _, _ = select.select([pair.client, pair.broker], [], [], _LOOK_S)
                for sock in readable:
                    if not self._read(pair, sock):
                        return
        pair.ended = True

    def _read(self, pair: _Pair, sock: socket.socket) -> bool:
        """Pass on what came from one end; ``False`` when it has closed."""
        data = sock.recv(65536)
        if pair.vanished:
            if not data:
                pair.hold_other(sock)
            return bool(data)
        if not data:
            return False
        if sock is pair.client:
            self._pass_up(pair, data)
        else:
            self._pass_down(pair, data)
        return True

    def _pass_up(self, pair: _Pair, data: bytes) -> None:
        if self.deaf:
            return
        for packet in pair.up.feed(data):
            time.sleep(self.delay_s)
            if kind(packet) == PUBLISH and self._to_tear:
                self._to_tear -= 1
                pair.broker.sendall(packet[: len(packet) // 2])
                pair.cut()
                return
            if expects_puback(packet):
                pair.waiting.add(packet_id(packet))
                self.unacknowledged_peak = max(self.unacknowledged_peak, len(pair.waiting))
            pair.broker.sendall(packet)

    def _pass_down(self, pair: _Pair, data: bytes) -> None:
        for packet in pair.down.feed(data):
            time.sleep(self.delay_s)
            if kind(packet) == PUBACK:
                if self.swallow_pubacks:
                    continue
                pair.waiting.discard(packet_id(packet))
            pair.client.sendall(packet)


class _Pair:
    """One connection: both ends, and what is on its way in each direction."""

    def __init__(self, client: socket.socket, broker: socket.socket) -> None:
        self.client, self.broker = client, broker
        self.up, self.down = Packets(), Packets()
        self.waiting: set[bytes] = set()
        self.vanished = False
        self.ended = False

    def hold_other(self, gone: socket.socket) -> None:
        """Where one end has given up: the other one must find out by itself, so no FIN for it."""
        left = self.broker if gone is self.client else self.client
        while left.recv(65536):
            pass

    def cut(self) -> None:
        self.ended = True
        for sock in (self.client, self.broker):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
