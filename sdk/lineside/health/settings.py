"""Section ``[health]`` of a station's configuration."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

import msgspec

from lineside.errors import ConfigurationError

_PATH = "health.prometheus"


@dataclass(frozen=True, kw_only=True)
class ListenAddress:
    """Where to listen: a number, never a name, so that no name server is asked."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class HealthSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of the station's health is to be had besides its topic.

    Attributes:
        prometheus: ``ADDRESS:PORT`` that answers ``GET /metrics`` and ``/healthz``; empty: no
            socket is opened.
    """

    prometheus: str = ""

    def __post_init__(self) -> None:
        _ = self.listen

    @property
    def listen(self) -> ListenAddress | None:
        """The address taken apart; ``None`` where nothing is to be opened."""
        return parse_listen(self.prometheus) if self.prometheus else None


def parse_listen(text: str) -> ListenAddress:
    """Take ``127.0.0.1:9464`` or ``[::1]:9464`` apart.

    Raises:
        ConfigurationError: a name instead of a number, no port, or one out of range.
    """
    host, colon, port = text.rpartition(":")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    try:
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        address = ipaddress.ip_address(bare)
    except ValueError:
        address = None
    bracketed = host.startswith("[")
    if not colon or address is None or bracketed != (address.version == 6):
        number = 0
    if address is None or not 1 <= number <= 65_535:
        raise ConfigurationError(
            f"{_PATH} = {text!r}: write ADDRESS:PORT with numbers, e.g. 127.0.0.1:9464 or "
            "[::1]:9464",
            path=_PATH,
        )
    return ListenAddress(host=str(address), port=number)
