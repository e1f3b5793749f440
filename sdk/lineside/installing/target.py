"""What hardware this machine says it is, and whether a bundle was made for it.

The exporter seals a word (``lineside export --target``). The golden self-test proves numbers, not
speed: a bundle for another processor may pass it and be late at every part.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lineside.errors import ConfigurationError, TargetError
from lineside.plainfile import read_whole

TARGET_VARIABLE: Final = "LINESIDE_TARGET"
TARGET_FILE: Final = Path("/etc/lineside/target")
# Every machine computes on its CPU, and that is what the exporter seals unless told otherwise.
DEFAULT_TARGETS: Final = ("cpu",)
ANY_TARGET: Final = "any"

_WORD: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_FILE_LIMIT_BYTES: Final = 4096


def machine_targets(
    file: Path = TARGET_FILE, environment: Mapping[str, str] = os.environ
) -> tuple[str, ...]:
    """The words of this machine: of ``LINESIDE_TARGET``, else of the file, else ``cpu``.

    Several stand beside each other, separated by spaces, commas or lines; what follows a ``#`` is
    for people.

    Raises:
        ConfigurationError: it holds no word, or what is none; the file cannot be read.
    """
    named = environment.get(TARGET_VARIABLE, "")
    if named:
        return _words(named, TARGET_VARIABLE)
    try:
        told = read_whole(file, limit_bytes=_FILE_LIMIT_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return DEFAULT_TARGETS
    except OSError as error:
        raise ConfigurationError(
            f"{file}: what hardware this is cannot be read: {error.strerror}", path="target"
        ) from error
    return _words(told.decode("utf-8", "replace"), str(file))


def check_target(sealed: str, targets: tuple[str, ...], *, source: str) -> None:
    """Refuse what was made for other hardware.

    Args:
        sealed: the bundle's word.
        targets: this machine's.
        source: the bundle's name, for the message.

    Raises:
        TargetError: none of the machine's words is the bundle's.
    """
    if sealed in (ANY_TARGET, *targets):
        return
    here = ", ".join(targets)
    raise TargetError(
        f"{source}: was made for {sealed}; this machine is {here}: export it for {targets[0]} "
        f"(lineside export --target), or, where this is {sealed}, write that word into "
        f"{TARGET_FILE} or {TARGET_VARIABLE}",
        expected=sealed,
        actual=here,
    )


def _words(told: str, source: str) -> tuple[str, ...]:
    lines = (line.partition("#")[0] for line in told.splitlines())
    words = [word for line in lines for word in re.split(r"[\s,]+", line) if word]
    wrong = next((word for word in words if not _WORD.fullmatch(word)), None)
    if wrong is not None or not words:
        what = "holds no word" if wrong is None else f"{wrong[:64]!r} is no word of a target"
        raise ConfigurationError(
            f"{source}: {what}: write what lineside export --target was told for this machine, "
            "e.g. cpu or jetson, in lower case",
            path="target",
        )
    return tuple(dict.fromkeys(words))
