"""Options that the verbs about sensors share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lineside.cli.options import ENGINES, password_options, read_password

if TYPE_CHECKING:
    from lineside_bridge.payload import Wrapping
    from lineside_bridge.session import Session

_Command = TypeVar("_Command", bound=Callable[..., Any])

DEFAULT_BAUD = 115_200
FRAMINGS = ("auto", "console", "raw", "cobs")


def port_option(command: _Command) -> _Command:
    """Add `--port`; the verb gets `port`."""
    return click.option(
        "--port", required=True, metavar="PORT", help="Serial port of the sensor: /dev/ttyUSB0."
    )(command)


def line_options(command: _Command) -> _Command:
    """Add `--baud` and `--framing`; the verb gets `baud` and `framing`."""
    framing = click.option(
        "--framing",
        type=click.Choice(FRAMINGS),
        default="auto",
        show_default=True,
        help="auto: the one that is answered, then the best that the sensor offers.",
    )
    baud = click.option(
        "--baud",
        type=click.IntRange(min=50),
        default=DEFAULT_BAUD,
        show_default=True,
        help="Rate of the sensor's firmware; over USB without effect.",
    )
    return baud(framing(command))


def bundle_options(command: _Command) -> _Command:
    """Add `--engine`, `--hardware`, `--mcuboot` and what that needs; see `open_wrapping`."""
    engine = click.option(
        "--engine",
        type=click.Choice(["auto", *ENGINES]),
        default="auto",
        show_default=True,
        help="Whose parts to send. auto: those of the engine that the sensor names, else all.",
    )
    hardware = click.option(
        "--hardware",
        default="",
        metavar="WORD",
        help="What the sensor is, where it cannot say so itself; a bundle's target must be it.",
    )
    return engine(hardware(image_options(command)))


def image_options(command: _Command) -> _Command:
    """Add `--mcuboot`, `--image-version` and what a key needs; see `open_wrapping`."""
    mcuboot = click.option(
        "--mcuboot",
        metavar="FILE|SCHEME:…",
        help="Make an MCUboot image of it, signed by this private key: the one whose public half "
        "the sensor's MCUboot holds.",
    )
    version = click.option(
        "--image-version",
        default="",
        metavar="1.4.0",
        help="Of that image; without it, the bundle's own.",
    )
    return mcuboot(version(password_options(command)))


def open_wrapping(
    mcuboot: str | None, image_version: str, password_env: str | None, ask_password: bool
) -> Wrapping | None:
    """What `bundle_options` gave; ``None``: the bundle goes as it is.

    Raises:
        KeyFileError, SigningError, ConfigurationError: the key or its password is no good.
    """
    from lineside.bundle import open_signer
    from lineside_bridge.payload import Wrapping

    if mcuboot is None:
        return None
    signer = open_signer(mcuboot, read_password(password_env, ask_password))
    return Wrapping(signer=signer, version=image_version)


def open_session(port: str, baud: int, framing: str, *, faster: bool = False) -> Session:
    """Open the port and find the sensor.

    Raises:
        PortError, SensorSilentError, SensorGarbledError: it cannot be opened, or nobody answers.
    """
    from lineside_bridge.framing import Framing
    from lineside_bridge.link import SerialLink
    from lineside_bridge.session import Session

    chosen = None if framing == "auto" else Framing(framing)
    return Session(lambda: SerialLink(port, baud), chosen, faster=faster)
