"""An HTTP server with one file, that may be as bad as servers are."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_BLOCK_BYTES = 100_000


@dataclass
class BundleServer:
    """What it does with requests; may be changed at any time.

    Attributes:
        data: the file, at ``/bundles/new.lsb``.
        cut_bytes: each answer ends after so many, while `cuts` are left.
        ranges: whether ``Range`` is answered with a part.
        sized: whether the size is told.
        hold_bytes: before the byte of this number it waits until it is `released`.
        drip_s: from there on, until it is released, it sends a byte after each such pause; 0: none.
        moved: by path, where it sends to.
        status: instead of an answer.
        asked: paths and ``Range`` headers in the order in which they came.
    """

    data: bytes
    cut_bytes: int = 0
    cuts: int = 0
    ranges: bool = True
    sized: bool = True
    hold_bytes: int = 2**40
    drip_s: float = 0.0
    released: threading.Event = field(default_factory=threading.Event)
    moved: dict[str, str] = field(default_factory=dict)
    status: int = 200
    asked: list[tuple[str, str]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        """The place below which it lies."""
        return f"http://127.0.0.1:{self.port}/bundles"


@contextmanager
def serving(data: bytes) -> Iterator[BundleServer]:
    """For as long as the block lasts."""
    server = BundleServer(data)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            return

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            server.asked.append((self.path, wanted))
            self.close_connection = True
            if self.path in server.moved:
                self._head(302, {"Location": server.moved[self.path], "Content-Length": "0"})
            elif server.status != 200:
                self._head(server.status, {"Content-Length": "0"})
            elif self.path != "/bundles/new.lsb":
                self._head(404, {"Content-Length": "0"})
            else:
                self._give(wanted)

        def _give(self, wanted: str) -> None:
            size, begin = len(server.data), 0
            headers = {}
            found = re.fullmatch(r"bytes=(\d+)-", wanted)
            if found and server.ranges:
                begin = int(found[1])
                headers["Content-Range"] = f"bytes {begin}-{size - 1}/{size}"
            if server.sized:
                headers["Content-Length"] = str(size - begin)
            self._head(206 if begin else 200, headers)
            body = server.data[begin:]
            if server.cuts > 0:
                server.cuts -= 1
                body = body[: server.cut_bytes]
            with contextlib.suppress(ConnectionError):  # who asks may have gone
                for offset in range(0, len(body), _BLOCK_BYTES):
                    if begin + offset >= server.hold_bytes:
                        if server.drip_s:
                            self._drip(body[offset:])
                            return
                        server.released.wait(30)
                    self.wfile.write(body[offset : offset + _BLOCK_BYTES])

        def _drip(self, body: bytes) -> None:
            for at in range(len(body)):
                if server.released.wait(server.drip_s):
                    self.wfile.write(body[at:])
                    return
                self.wfile.write(body[at : at + 1])

        def _head(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.port = httpd.server_port
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()
