"""What was measured on this device, kept in small files between starts."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from lineside import __version__
from lineside.bundle import Bundle
from lineside.durable import write_durably
from lineside.engines import EngineSettings, available_engines, engine_version
from lineside.engines.cache import private_folder
from lineside.engines.machine import cpu_flags, cpu_name, usable_cores
from lineside.errors import StorageError
from lineside.plainfile import read_whole

_LOG: Final = logging.getLogger("lineside")
_LIMIT_BYTES: Final = 2**20
_Kept = TypeVar("_Kept")


def memory_file(folder: Path, bundle: Bundle, settings: EngineSettings, asked: Any) -> Path:
    """Whatever could change the outcome is in the name, so that nothing stale is ever read.

    Args:
        folder: of the cache.
        bundle: opened.
        settings: what holds for all that was compared.
        asked: what was compared, as msgspec encodes it.
    """
    circumstances = (
        __version__,
        bundle.hash,
        [(name, engine_version(name)) for name in available_engines()],
        (cpu_name(), cpu_flags(), usable_cores()),
        asked,
        (settings.providers, settings.device),
        [
            (provider, sorted(options.items()))
            for provider, options in sorted(settings.provider_options.items())
        ],
    )
    digest = hashlib.sha256(msgspec.json.encode(circumstances)).hexdigest()
    return folder / "choice" / f"{digest[:32]}.json"


def recall(memory: Path, kind: type[_Kept]) -> _Kept | None:
    """What was remembered; ``None`` where there is nothing, or it is torn."""
    try:
        return msgspec.json.decode(read_whole(memory, limit_bytes=_LIMIT_BYTES), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


def remember(memory: Path, found: object) -> None:
    """Keep it; a folder that cannot be written costs a warning."""
    try:
        private_folder(memory.parent)
        write_durably(memory, [msgspec.json.encode(found)])
    except StorageError as error:
        # A full or read-only disk costs the measuring at the next start, never the inspection.
        _LOG.warning("the choice of engine cannot be remembered: %s", error)
