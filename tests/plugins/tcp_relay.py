"""A TCP relay that a test can shut, stall, or make swallow a broker's acknowledgements."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time


class TcpRelay:
    """Listens on a port of its own; every connection is passed on to ``target_port``.

    Attributes:
        port: where clients connect.
        swallow_pubacks: drop PUBACK packets on their way back (MQTT 3.1.1, section 3.4).
        unacknowledged_peak: most PUBLISH packets of QoS 1 that were ever without their PUBACK on
            one connection.
        stalled: pass nothing on, and say nothing: a cable that was pulled.
        connections: how many were passed on so far.
    """

    def __init__(self, target_port: int) -> None:
        self.swallow_pubacks = False
        self.stalled = False
        self.unacknowledged_peak = 0
        self.connections = 0
        self._target_port = target_port
        self._is_open = True
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
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
        for pair in self._pairs:
            for sock in pair:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End for good."""
        self.shut()
        self._server.close()

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
            self.connections += 1
            self._pairs.append((client, broker))
            threading.Thread(target=self._pump, args=(client, broker), daemon=True).start()

    def _pump(self, client: socket.socket, broker: socket.socket) -> None:
        up, down = _Packets(), _Packets()
        waiting: set[bytes] = set()
        with client, broker, contextlib.suppress(OSError):
            while True:
                readable, _, _ = select.select([client, broker], [], [], 0.05)
                if self.stalled:
                    time.sleep(0.05)
                    continue
                if client in readable:
                    data = client.recv(65536)
                    if not data:
                        return
                    for packet in up.feed(data):
                        if packet[0] >> 4 == 3 and packet[0] & 0x06:
                            waiting.add(_packet_id(packet))
                            self.unacknowledged_peak = max(self.unacknowledged_peak, len(waiting))
                    broker.sendall(data)
                if broker in readable:
                    data = broker.recv(65536)
                    if not data:
                        return
                    for packet in down.feed(data):
                        if packet[0] >> 4 == 4:
                            if self.swallow_pubacks:
                                continue
                            waiting.discard(packet[2:4])
                        client.sendall(packet)


def _packet_id(packet: bytes) -> bytes:
    start = 1
    while packet[start] & 0x80:
        start += 1
    start += 1
    topic_bytes = int.from_bytes(packet[start : start + 2], "big")
    return packet[start + 2 + topic_bytes : start + 4 + topic_bytes]


class _Packets:
    """Cuts a stream into MQTT control packets (section 2.2.3)."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[bytes]:
        self._buffer += data
        packets = []
        while (length := self._complete()) is not None:
            packets.append(self._buffer[:length])
            self._buffer = self._buffer[length:]
        return packets

    def _complete(self) -> int | None:
        remaining, shift = 0, 0
        for index, byte in enumerate(self._buffer[1:5], start=1):
            remaining |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                total = 1 + index + remaining
                return total if len(self._buffer) >= total else None
        return None
