"""Options of verbs that speak to stations: which broker, and whose key signs.

`@calling_options` (calling): add it to a verb; the verb opens a `Caller` with `calling.open()`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import click

from lineside.cli.options import read_password

if TYPE_CHECKING:
    from lineside.mqtt import MqttSettings, StationTopics
    from lineside.remote.caller import Caller
    from lineside.remote.conversation import Patience

_Command = TypeVar("_Command", bound=Callable[..., Any])

CHUNK_KIB: Final = 32
TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class Calling:
    """What the options say.

    Attributes:
        broker: its URL.
        key: a ``.key`` file, or a plug-in's scheme.
        key_password_env, ask_password: where the key's password comes from.
        username, password_file, password_env: to be let in by the broker.
        ca_file, cert_file, cert_key_file: TLS.
    """

    broker: str
    key: str
    key_password_env: str | None
    ask_password: bool
    username: str
    password_file: Path | None
    password_env: str
    ca_file: Path | None
    cert_file: Path | None
    cert_key_file: Path | None

    def settings(self) -> MqttSettings:
        """How to reach the broker.

        Raises:
            ConfigurationError: the URL is none, options do not go together, or the password is not
                there.
        """
        from lineside.errors import ConfigurationError
        from lineside.mqtt import MqttSettings, parse_url

        parse_url(self.broker, path="--broker")
        try:
            settings = MqttSettings(
                url=self.broker,
                username=self.username,
                password_file=self.password_file,
                password_env=self.password_env,
                ca_file=self.ca_file,
                cert_file=self.cert_file,
                key_file=self.cert_key_file,
            )
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
        settings.check()
        settings.read_password()
        return settings

    def open(self, *, patience: Patience, chunk_kib: int = CHUNK_KIB) -> Caller:
        """The side that gives commands; use it in a ``with`` statement.

        Raises:
            ConfigurationError: see `settings`.
            KeyFileError, SigningError: the key cannot be had.
        """
        from lineside.bundle import open_signer
        from lineside.remote.caller import Caller

        settings = self.settings()
        password = read_password(self.key_password_env, self.ask_password)
        signer = open_signer(self.key, password)
        return Caller(settings, signer, chunk_bytes=chunk_kib * 1024, patience=patience)


_OPTIONS: Final = (
    click.option("--broker", required=True, metavar="mqtt://HOST:PORT", help="The broker."),
    click.option(
        "--key",
        required=True,
        metavar="FILE|URI",
        help="The private key that signs: NAME.key, or pkcs11:…",
    ),
    click.option(
        "--key-password-env", metavar="VAR", help="Environment variable with the key's password."
    ),
    click.option("--ask-password", is_flag=True, help="Ask for the key's password."),
    click.option("--username", default="", help="User at the broker."),
    click.option(
        "--password-file", type=click.Path(path_type=Path), help="First line: the user's password."
    ),
    click.option(
        "--password-env", default="", metavar="VAR", help="Environment variable with it instead."
    ),
    click.option(
        "--ca-file", type=click.Path(path_type=Path), help="Authorities to trust (mqtts)."
    ),
    click.option(
        "--cert-file", type=click.Path(path_type=Path), help="Our certificate, if it wants one."
    ),
    click.option(
        "--cert-key-file",
        type=click.Path(path_type=Path),
        help="The certificate's key; without it the key stands in --cert-file.",
    ),
)
_FIELDS: Final = tuple(Calling.__dataclass_fields__)


def calling_options(command: _Command) -> _Command:
    """Add them; the verb gets `calling`."""

    @functools.wraps(command)
    def run(**given: Any) -> Any:
        found = {name: given.pop(name) for name in _FIELDS}
        return command(calling=Calling(**found), **given)

    inner: Callable[..., Any] = run
    for option in reversed(_OPTIONS):
        inner = option(inner)
    return cast("_Command", inner)


class StationName(click.ParamType):  # type: ignore[type-arg]
    """``site/line/name``."""

    name = "station"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> StationTopics:
        """Take it apart.

        Raises:
            ConfigurationError: a part cannot stand in a topic.
        """
        from lineside.mqtt import StationTopics, check_topic_part

        if isinstance(value, StationTopics):
            return value
        parts = str(value).split("/")
        if len(parts) != 3:
            self.fail(f"{value!r}: write site/line/name", param, context)
        site, line, station = (check_topic_part(part, path="--station") for part in parts)
        return StationTopics(site=site, line=line, station=station)
