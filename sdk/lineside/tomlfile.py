"""TOML files that people write: read whole, made sections of, each fault told by its key."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from lineside.errors import ConfigurationError
from lineside.plainfile import read_whole

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FILE_LIMIT_BYTES = 2**20
_Section = TypeVar("_Section", bound=msgspec.Struct)


def read_toml(file: Path) -> dict[str, Any]:
    """The document in a file.

    Raises:
        ConfigurationError: not readable, or not TOML.
    """
    try:
        data = read_whole(file, limit_bytes=_FILE_LIMIT_BYTES)
        # "-sig": editors on Windows put a byte order mark in front.
        return tomllib.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}", file=file) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: is not TOML: {error}", file=file) from error
    except RecursionError as error:
        raise ConfigurationError(f"{file}: is nested too deeply", file=file) from error


def convert_document(document: dict[str, Any], kind: type[_Section]) -> _Section:
    """A document as the structure that describes its file.

    Raises:
        ConfigurationError: a key unknown, missing or impossible; ``path`` says which.
    """
    try:
        return msgspec.convert(document, kind, dec_hook=_to_path)
    except msgspec.ValidationError as error:
        words, _, where = str(error).partition(" - at `$")
        path = where.rstrip("`").lstrip(".")
        raise ConfigurationError(f"{path or 'the file'}: {words}", path=path or None) from error


def _to_path(kind: type, value: object) -> Path:
    if kind is Path and isinstance(value, str) and value and "\0" not in value:
        return Path(value)
    raise ValueError(f"expected a path, got {value!r}")
