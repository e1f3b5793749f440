"""A folder for what may be kept between starts: compiled models, measured choices."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from lineside.errors import StorageError

# Where the file system standard keeps a service's cache (FHS 3.0, sec. 5.5).
_SERVICE_CACHE: Final = Path("/var/cache")


def default_cache_folder() -> Path:
    """``LINESIDE_CACHE``, else ``lineside`` in the XDG cache folder, in ``~/.cache``, or, where the
    user has no home (a container's bare user id), in ``/var/cache``."""
    named = os.environ.get("LINESIDE_CACHE")
    if named:
        return Path(named)
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else _home_cache()) / "lineside"


def _home_cache() -> Path:
    try:
        return Path("~/.cache").expanduser()
    except RuntimeError:
        return _SERVICE_CACHE


def private_folder(path: Path) -> Path:
    """Make the folder for its owner alone, or refuse one that others may write.

    What lies in it is not signed; whoever can write there could exchange a compiled model.

    Raises:
        StorageError: it cannot be made, is another user's, or others may write to it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = path.stat()
    except OSError as error:
        raise StorageError(f"{path}: no cache folder: {error.strerror}") from error
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StorageError(
            f"{path}: a cache of compiled models must belong to this user alone: "
            f"chown {os.geteuid()} and chmod go-w it, or name another folder"
        )
    return path
