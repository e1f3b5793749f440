"""Which commit this software is from, for the provenance of what it makes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

_TIMEOUT_S: Final = 20.0


def find_commit(file: Path) -> str:
    """The git commit that a file of the software belongs to.

    Args:
        file: e.g. a package's ``__file__``.

    Returns:
        40 hex digits, with ``-dirty`` behind them where a tracked file was changed since; empty
        where the file is not under version control (installed from a wheel), or git is not here.
    """
    # Tracked, because .venv may lie inside somebody else's repository.
    if not _ask_git(file.parent, "ls-files", "--error-unmatch", file.name):
        return ""
    return _ask_git(
        file.parent, "describe", "--always", "--dirty", "--abbrev=40", "--no-tags", "--exclude=*"
    )


def _ask_git(folder: Path, *words: str) -> str:
    # A reader takes no lock: another process may be committing right now.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    # Set by a hook of git's own, these would name another repository than the folder's.
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        environment.pop(name, None)
    try:
        done = subprocess.run(
            ["git", *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
