"""Section ``[mqtt]`` of a station's configuration: where the broker is and how to be let in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from lineside.errors import ConfigurationError
from lineside.mqtt.topics import check_topic_prefix
from lineside.secret import read_secret, read_variable

_PORTS = {"mqtt": 1883, "mqtts": 8883}
# MQTT 3.1.1, sec. 1.5.3 and 3.1.3.5: lengths have 16 bits.
STRING_LIMIT_BYTES = 65_535
# Messages on their way without acknowledgement: what brokers take by default, and a PLC's broker
# often has no more buffers. More is faster only where the way is long: see docs/station.md.
WINDOW = 20


@dataclass(frozen=True, kw_only=True)
class BrokerAddress:
    """What a URL says."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"


class MqttSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to reach the broker. A password never stands here, only where to find it.

    Attributes:
        url: ``mqtt://host:1883``, or ``mqtts://host:8883`` for TLS.
        client_id: empty: made of site, line and station, so that it stays the same for ever (a new
            one at each start would let the old connection's last will come after the new birth).
        username: empty: none.
        password_file: its first line is the password.
        password_env: the environment variable that holds the password.
        ca_file: PEM of the authorities to trust; empty: the system's.
        cert_file: PEM of our own certificate, where the broker asks for one, with those between it
            and its authority behind it.
        key_file: PEM of its key; empty: it stands in ``cert_file``.
        key_password_env: the environment variable that holds the key's password.
        protocol: ``"5"`` also hears when the broker may not take a message (an access list).
        keepalive_s: a dead connection is noticed within twice this.
        ack_timeout_s: a verdict not acknowledged for so long is sent again over a new connection.
        reconnect_min_s, reconnect_max_s: first and longest pause between attempts; it doubles.
        state_interval_s: the state topic is written at least this often.
        health_interval_s: the health topic is written this often.
        window: messages on their way without acknowledgement; a broker of MQTT 5 may ask for fewer.
        binary: publish each verdict packed, too, on ``verdict/bin``.
        findings: publish what speaks against a part on ``findings``.
        discovery: ``"homeassistant"`` publishes what makes the station appear there.
        discovery_prefix: where Home Assistant looks for it.
    """

    url: str = "mqtt://127.0.0.1:1883"
    client_id: str = ""
    username: str = ""
    password_file: Path | None = None
    password_env: str = ""
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    key_password_env: str = ""
    protocol: Literal["3.1.1", "5"] = "3.1.1"
    keepalive_s: Annotated[int, msgspec.Meta(ge=2, le=3600)] = 20
    ack_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 20.0
    reconnect_min_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 0.5
    reconnect_max_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 30.0
    state_interval_s: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 10
    health_interval_s: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 60
    window: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = WINDOW
    binary: bool = False
    findings: bool = True
    discovery: Literal["", "homeassistant"] = ""
    discovery_prefix: str = "homeassistant"

    def __post_init__(self) -> None:
        if self.reconnect_max_s < self.reconnect_min_s:
            raise ValueError("reconnect_max_s is shorter than reconnect_min_s")
        if self.password_file is not None and self.password_env:
            raise ValueError("password_file and password_env are both given; keep one")
        if len(self.username.encode("utf-8", "replace")) > STRING_LIMIT_BYTES:
            raise ValueError(f"username is longer than {STRING_LIMIT_BYTES} bytes")
        if (self.password_file is not None or self.password_env) and not self.username:
            raise ValueError("a password is given without username")
        if (self.key_file is not None or self.key_password_env) and self.cert_file is None:
            raise ValueError("key_file or key_password_env is given without cert_file")

    @property
    def address(self) -> BrokerAddress:
        """The URL taken apart.

        Raises:
            ConfigurationError: it is none of ours.
        """
        return parse_url(self.url)

    def read_password(self) -> str | None:
        """The password of this moment: a changed file counts at the next connection.

        Raises:
            ConfigurationError: the file or the variable is not there, or MQTT cannot carry it.
        """
        password = read_secret(self.password_file, self.password_env, section="mqtt")
        if len(password.encode("utf-8")) > STRING_LIMIT_BYTES:
            path = f"mqtt.{'password_env' if self.password_file is None else 'password_file'}"
            raise ConfigurationError(
                f"{path}: the password is longer than {STRING_LIMIT_BYTES} bytes", path=path
            )
        return password or None

    def read_key_password(self) -> str | None:
        """The password of ``key_file``; ``None``: it has none.

        Raises:
            ConfigurationError: the variable is not there.
        """
        if not self.key_password_env:
            return None
        return read_variable(self.key_password_env, path="mqtt.key_password_env")

    def check(self) -> None:
        """See that the broker's address and the topics are some.

        Raises:
            ConfigurationError: the URL is none, or a topic could not be written to.
        """
        self.address  # noqa: B018 - raises where the URL is none
        check_topic_prefix(self.discovery_prefix, path="mqtt.discovery_prefix")
        if self.cert_file is not None and not self.address.tls:
            raise ConfigurationError(
                "mqtt.cert_file: is only of use with TLS; write mqtts:// in mqtt.url, or take it "
                "out",
                path="mqtt.cert_file",
            )


def parse_url(url: str, *, path: str = "mqtt.url") -> BrokerAddress:
    """Take a broker's URL apart.

    Raises:
        ConfigurationError: no host, another scheme, a port out of range, a password inside.
    """
    hint = "write mqtt://HOST:PORT, or mqtts://HOST:PORT for TLS"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}; {hint}", path=path) from error
    if parts.username is not None or parts.password is not None:
        # Not repeated in the message: it may be on its way to a log.
        raise ConfigurationError(
            f"{path}: user and password do not belong into the URL, which is logged; "
            "use username with password_file or password_env",
            path=path,
        )
    if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ConfigurationError(f"{path} = {url!r}: {hint}", path=path)
    if port == 0:
        raise ConfigurationError(f"{path} = {url!r}: port 0; {hint}", path=path)
    try:
        parts.hostname.encode("idna")  # as the resolver will; it raises what is no OSError
    except UnicodeError as error:
        raise ConfigurationError(f"{path} = {url!r}: no host name; {hint}", path=path) from error
    return BrokerAddress(
        host=parts.hostname, port=port or _PORTS[parts.scheme], tls=parts.scheme == "mqtts"
    )
