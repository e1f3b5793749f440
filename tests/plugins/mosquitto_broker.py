"""A real mosquitto on a free loopback port, that tests may kill and start again."""

from __future__ import annotations

import getpass
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

NOT_INSTALLED = "mosquitto is missing; `apt-get install mosquitto` brings it"


def free_port() -> int:
    """A port that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Mosquitto:
    """One broker; the port stays the same over restarts.

    Args:
        folder: for its configuration and log.
        extra: further lines of ``mosquitto.conf``; ``allow_anonymous true`` unless it says else.
        log_type: what goes into its log; ``all`` costs it half of its speed.
    """

    def __init__(self, folder: Path, *extra: str, log_type: str = "all") -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        rules = (
            extra
            if any("allow_anonymous" in line for line in extra)
            else (
                "allow_anonymous true",
                *extra,
            )
        )
        self._configuration = folder / f"mosquitto-{self.port}.conf"
        # Without limits of its own towards subscribers: a test's receiver must hear all that the
        # broker acknowledged, and what waits inside a broker dies with it.
        lines = (
            f"listener {self.port} 127.0.0.1",
            # Started by root it would become another user, who may not read the test's files.
            f"user {getpass.getuser()}",
            *rules,
            "persistence false",
            f"log_type {log_type}",
            "max_queued_messages 0",
            "set_tcp_nodelay true",
        )
        self._configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        assert program is not None, NOT_INSTALLED
        with (self._folder / f"mosquitto-{self.port}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-c", str(self._configuration)], stdout=log, stderr=log
            )
        deadline_s = time.monotonic() + 10
        while time.monotonic() < deadline_s:
            assert self._process.poll() is None, self.log()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError(f"mosquitto does not answer: {self.log()}")

    def kill(self) -> None:
        """As `kill -9` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stall(self) -> None:
        """SIGSTOP: its sockets stand and nobody answers, until `resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """What it said."""
        return (self._folder / f"mosquitto-{self.port}.log").read_text(encoding="utf-8")
