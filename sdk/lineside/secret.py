"""Passwords that stand in a file or in the environment, never in a setting, a message or a log."""

from __future__ import annotations

import os
from pathlib import Path

from lineside.errors import ConfigurationError
from lineside.plainfile import read_whole

_FILE_LIMIT_BYTES = 2**17


def read_secret(file: Path | None, variable: str, *, section: str) -> str:
    """The password of this moment, ``""`` where neither a file nor a variable is named.

    Args:
        file: its first line is the password.
        variable: the environment variable that holds it.
        section: for the message; its keys are ``password_file`` and ``password_env``.

    Raises:
        ConfigurationError: the file or the variable is not there, empty, or not UTF-8.
    """
    if file is not None:
        return _from_file(file, f"{section}.password_file")
    return read_variable(variable, path=f"{section}.password_env") if variable else ""


def read_variable(variable: str, *, path: str) -> str:
    """The password in an environment variable.

    Args:
        variable: its name.
        path: the key that names it, for the message.

    Raises:
        ConfigurationError: it is not there, empty, or not UTF-8.
    """
    secret = os.environ.get(variable, "")
    if not secret:
        raise ConfigurationError(
            f"{path}: the environment has no {variable}, or it is empty", path=path
        )
    try:
        secret.encode("utf-8")
    except UnicodeEncodeError as error:
        # Bytes of the environment that are no UTF-8; not repeated, they are a secret.
        raise ConfigurationError(f"{path}: the password is not UTF-8", path=path) from error
    return secret


def _from_file(file: Path, path: str) -> str:
    try:
        lines = read_whole(file, limit_bytes=_FILE_LIMIT_BYTES).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise ConfigurationError(f"{path}: {file}: {why}", path=path) from error
    if not lines or not lines[0]:
        raise ConfigurationError(f"{path}: {file}: the first line is empty", path=path)
    return lines[0]
