"""What systemd wants to hear (sd_notify(3)), as datagrams to the socket that it names.

Without ``$NOTIFY_SOCKET`` no socket is opened and nothing is said.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from typing import Final

from lineside.errors import ConfigurationError

_STATUS_LIMIT_CHARS: Final = 200
# sockaddr_un holds 108 bytes, one of them the end of a path.
_ADDRESS_LIMIT_BYTES: Final = 107


class Notifier:
    """Says how the service stands; from any thread, and never waits.

    Args:
        address: a path, or ``@`` and an abstract name; empty: nobody listens.
        watchdog_s: systemd restarts us after so long without ``alive``; ``None``: it does not.

    Raises:
        ConfigurationError: the address is of another kind.
    """

    def __init__(self, address: str = "", *, watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s
        self._socket: socket.socket | None = None
        self._address = _socket_address(address) if address else b""
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            # systemd may be busy; an inspection never waits for it.
            self._socket.setblocking(False)

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> Notifier:
        """As systemd set the environment; the variables are taken out, so no child answers for us.

        Raises:
            ConfigurationError: ``NOTIFY_SOCKET`` or ``WATCHDOG_USEC`` is nonsense.
        """
        address = environment.pop("NOTIFY_SOCKET", "")
        limit_us = environment.pop("WATCHDOG_USEC", "")
        process = environment.pop("WATCHDOG_PID", "")
        if process and process != str(os.getpid()):
            limit_us = ""  # meant for another process
        if limit_us and not (limit_us.isascii() and limit_us.isdigit() and int(limit_us) > 0):
            raise ConfigurationError(
                f"WATCHDOG_USEC = {limit_us!r}: is no number of microseconds", path="WATCHDOG_USEC"
            )
        return cls(address, watchdog_s=int(limit_us) / 1e6 if limit_us else None)

    def ready(self, status: str = "") -> bool:
        """The first frame can be judged."""
        return self._send("READY=1", _status(status))

    def status(self, words: str) -> bool:
        """A line for ``systemctl status``."""
        return self._send(_status(words))

    def alive(self) -> bool:
        """Restart us where this does not come again within ``watchdog_s``."""
        return self._send("WATCHDOG=1")

    def stopping(self, status: str = "") -> bool:
        """The end has begun, on purpose."""
        return self._send("STOPPING=1", _status(status))

    def close(self) -> None:
        """Free the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> bool:
        """Whether systemd has it; ``False`` also where nobody listens."""
        if self._socket is None:
            return False
        text = "\n".join(line for line in lines if line)
        try:
            self._socket.sendto(text.encode("utf-8", "replace"), self._address)
        except OSError:
            return False  # its queue is full, or it is gone: the next one tries again
        return True


def _status(words: str) -> str:
    line = " ".join(words.split())[:_STATUS_LIMIT_CHARS]
    return f"STATUS={line}" if line else ""


def _socket_address(address: str) -> bytes:
    data = os.fsencode(address)
    if address[0] not in "/@" or len(data) < 2 or len(data) > _ADDRESS_LIMIT_BYTES:
        raise ConfigurationError(
            f"NOTIFY_SOCKET = {address!r}: is neither a path nor an abstract name (@…) of at most "
            f"{_ADDRESS_LIMIT_BYTES} bytes; unset it to run without systemd",
            path="NOTIFY_SOCKET",
        )
    return b"\0" + data[1:] if address[0] == "@" else data
