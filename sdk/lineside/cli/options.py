"""Options that mean the same in every verb. Each is a decorator; the names in brackets arrive.

`@trust_option` (trust), `@json_option` (as_json), `@engine_option` (engine),
`@password_options` (password_env, ask_password; hand both to `read_password`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from lineside.errors import ConfigurationError

_Command = TypeVar("_Command", bound=Callable[..., Any])

TRUST_VARIABLE: Final = "LINESIDE_TRUST"
TRUST_FOLDERS: Final = ("/etc/lineside/trust", "~/.config/lineside/trust")
ENGINES: Final = ("openvino", "onnxruntime")


def find_trust(given: tuple[Path, ...] = ()) -> tuple[Path, ...]:
    """Whose seal counts: the keys given, else those in this machine's folders.

    What was revoked in this machine's folders counts whatever is given: a key that is named in a
    station's file must not come back to life by that.

    Raises:
        ConfigurationError: none given, and neither folder holds a key; or the system's folder may
            not be looked into, so that nobody can say what was revoked there.
    """
    closed: list[str] = []
    held = {folder: _look_into(folder, closed) for folder in map(_expand, TRUST_FOLDERS)}
    if given:
        if closed and closed[0].startswith(TRUST_FOLDERS[0]):
            raise ConfigurationError(f"what was revoked cannot be read: {closed[0]}", path="trust")
        revoked = (
            path for paths in held.values() for path in paths if path.suffix.lower() == ".revoked"
        )
        return (*given, *revoked)
    if not any(path.suffix == ".pub" for paths in held.values() for path in paths):
        raise ConfigurationError(
            "no trusted keys: give --trust factory.pub (a file, or a folder of *.pub), set "
            f"{TRUST_VARIABLE}, or put the factory's public key into {' or '.join(TRUST_FOLDERS)}"
            + "".join(f"; {why}" for why in closed),
            path="trust",
        )
    return tuple(folder for folder, paths in held.items() if paths)


def _look_into(folder: Path, closed: list[str]) -> list[Path]:
    try:
        return sorted(
            path
            for path in folder.iterdir()
            if path.suffix == ".pub" or path.suffix.lower() == ".revoked"
        )
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:  # a service that was given another user's HOME
        closed.append(f"{folder}: {error.strerror}")
        return []


def _expand(folder: str) -> Path:
    try:
        return Path(folder).expanduser()
    except RuntimeError:  # a service without a home
        return Path(folder)


def _take_trust(
    _context: click.Context, _option: click.Parameter, given: tuple[Path, ...]
) -> tuple[Path, ...]:
    return find_trust(given)


def trust_option(command: _Command) -> _Command:
    """Add `--trust`; the verb gets `trust`, never empty."""
    return click.option(
        "--trust",
        metavar="FILE|FOLDER",
        multiple=True,
        type=click.Path(path_type=Path),
        envvar=TRUST_VARIABLE,
        callback=_take_trust,
        help="Public key that may sign, or a folder of *.pub; may be given again. Without it: "
        f"{TRUST_VARIABLE}, else {' and '.join(TRUST_FOLDERS)}.",
    )(command)


class Seconds(click.FloatRange):
    """A duration; `nan`, which passes every comparison with a limit, is refused."""

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(
        self, value: float, param: click.Parameter | None, context: click.Context | None
    ) -> float:
        seconds = float(super().convert(value, param, context))
        if math.isnan(seconds):
            self.fail("nan is no number of seconds", param, context)
        return seconds


class Finite(click.ParamType):  # type: ignore[type-arg]
    """A number; `nan` and `inf`, which `float` takes, are refused."""

    name = "float"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> float:
        number: float = click.FLOAT.convert(value, param, context)
        if not math.isfinite(number):
            self.fail(f"{value} is no limit: give a number in the rule's unit", param, context)
        return number


def json_option(command: _Command) -> _Command:
    """Add `--json`; the verb gets `as_json` and then prints one document on stdout."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document instead of words."
    )(command)


def engine_option(command: _Command) -> _Command:
    """Add `--engine`; the verb gets `engine`."""
    return click.option(
        "--engine",
        type=click.Choice(["auto", *ENGINES]),
        default="auto",
        show_default=True,
        help="auto: the fastest that passes the golden self-test.",
    )(command)


def password_options(command: _Command) -> _Command:
    """Add `--password-env` and `--ask-password`, for verbs that read or write a private key."""
    ask = click.option("--ask-password", is_flag=True, help="Ask for the private key's password.")
    take = click.option(
        "--password-env", metavar="VAR", help="Environment variable that holds the key's password."
    )
    return ask(take(command))


def read_password(
    password_env: str | None, ask_password: bool, *, confirm: bool = False
) -> str | None:
    """The password that the two options ask for; `None` where neither was given.

    Raises:
        ConfigurationError: the variable is not set, or is empty.
    """
    if password_env is not None:
        password = os.environ.get(password_env, "")
        if not password:
            raise ConfigurationError(
                f"--password-env: the variable {password_env} is not set or empty",
                path="password-env",
            )
        return password
    if ask_password:
        answer: str = click.prompt(
            "Password", hide_input=True, confirmation_prompt=confirm, err=True
        )
        return answer
    return None
