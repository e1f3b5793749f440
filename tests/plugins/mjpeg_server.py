"""A network camera: motion JPEG over HTTP. It can die, hang and go blind."""

from __future__ import annotations

import base64
import http.server
import socket
import threading
from typing import Final

import cv2
import numpy as np

_BOUNDARY: Final = "frame"


class MjpegCamera:
    """Serves noisy gray pictures of one brightness, until told otherwise.

    Attributes:
        url: where it is.
        level: brightness of the pictures, 0..255.
        noise: whether two pictures differ, as those of a sensor do.
        sending: a camera that hangs keeps its connection and sends nothing.
        sent: pictures so far.
        turned_away: requests without the right user and password.
    """

    def __init__(self, *, credentials: str = "", period_s: float = 0.02) -> None:
        self.level = 120
        self.noise = True
        self.sending = True
        self.sent = 0
        self.turned_away = 0
        self._credentials = credentials
        self._period_s = period_s
        self._dead = threading.Event()
        self._clients: list[socket.socket] = []
        self._server: http.server.ThreadingHTTPServer | None = None
        self._random = np.random.default_rng(1)
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/video"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def alive(self) -> bool:
        """Whether it is plugged in."""
        return self._server is not None

    def start(self) -> None:
        """Plug it in, at the address of before."""
        self._dead.clear()
        handler = type("Handler", (_Handler,), {"camera": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self._port), handler)
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def kill(self) -> None:
        """Pull the plug: connections end at once, nobody listens."""
        if self._server is None:
            return
        self._dead.set()
        self._server.shutdown()
        self._server.server_close()
        for client in self._clients:
            client.close()
        self._clients.clear()
        self._server = None

    def picture(self) -> bytes:
        pixels = np.full((48, 64, 3), self.level, np.uint8)
        if self.noise:
            pixels = pixels + self._random.integers(0, 4, pixels.shape, np.uint8)
        return bytes(cv2.imencode(".jpg", pixels)[1])

    def allows(self, header: str | None) -> bool:
        if not self._credentials:
            return True
        good = "Basic " + base64.b64encode(self._credentials.encode()).decode()
        self.turned_away += header != good
        return header == good

    def stream(self, client: http.server.BaseHTTPRequestHandler) -> None:
        self._clients.append(client.connection)
        while not self._dead.wait(self._period_s):
            if self.sending:
                jpeg = self.picture()
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}"
                client.wfile.write(head.encode() + b"\r\n\r\n" + jpeg + b"\r\n")
                self.sent += 1


class _Handler(http.server.BaseHTTPRequestHandler):
    camera: MjpegCamera

    def do_GET(self) -> None:
        if not self.camera.allows(self.headers.get("Authorization")):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.end_headers()
        try:
            self.camera.stream(self)
        except OSError:
            return  # whoever looked has gone

    def log_message(self, *_: object) -> None:
        """Say nothing."""
