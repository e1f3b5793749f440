"""A real mosquitto of its own on a free loopback port, that may be stopped and started again."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

from lineside.errors import InputDataError

_START_S: Final = 10.0
_CONFIGURATION: Final = """\
listener {port} 127.0.0.1
user {user}
allow_anonymous true
persistence true
persistence_location {folder}/
log_type error
max_queued_messages 0
max_inflight_messages 0
set_tcp_nodelay true
"""


def find_mosquitto() -> str:
    """Where the program is.

    Raises:
        InputDataError: it is not installed.
    """
    # Debian puts it where only root looks.
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise InputDataError("mosquitto is not installed here: apt-get install mosquitto")
    return found


class Broker:
    """One broker; port and what waits for its clients stay over restarts.

    Args:
        folder: for its configuration and what it keeps.
    """

    def __init__(self, folder: Path) -> None:
        self._program = find_mosquitto()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._configuration = folder / "mosquitto.conf"
        self._configuration.write_text(
            _CONFIGURATION.format(port=self.port, user=getpass.getuser(), folder=folder),
            encoding="utf-8",
        )
        self._log = folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of its process, while it runs."""
        assert self._process is not None, "started first"
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it answers.

        Raises:
            InputDataError: it does not.
        """
        command = [self._program, "-c", str(self._configuration)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline_s = time.monotonic() + _START_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)
        self.stop()
        words = self._log.read_text(encoding="utf-8", errors="replace")
        raise InputDataError(f"mosquitto does not answer on port {self.port}: {words}")

    def stop(self) -> None:
        """Let it write down what waits for its clients, and end."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None
