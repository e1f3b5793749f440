"""The state file of a rollout: what a new process needs to go on. Written aside and renamed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from lineside.closing import Closing
from lineside.durable import write_durably
from lineside.errors import ConfigurationError, InputDataError, RefusedError, StorageError
from lineside.fleet.progress import RolloutState
from lineside.plainfile import read_whole

_VERSION: Final = 1
_LIMIT_BYTES: Final = 2**24
SUFFIX: Final = ".rollout.json"


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file.

    Attributes:
        v: version of this layout.
        bundle: its hash, 64 hex digits.
        product, version: of the bundle, for people.
        state: how far each station is.
    """

    v: int
    bundle: str
    product: str
    version: str
    state: RolloutState


class _Version(msgspec.Struct):
    v: int = 0


class Journal(Closing):
    """One rollout's file, this process's alone until closed.

    Args:
        path: the file; made by the first `write`.
        bundle_hash: 64 hex digits.
        product, version: of the bundle, for people.
        stations: the whole list; its order does not count.

    Attributes:
        path: of the file.
        stations: as given.

    Raises:
        RefusedError: another rollout writes the same file.
        StorageError: the folder cannot be written to.
    """

    def __init__(
        self, path: Path, *, bundle_hash: str, product: str, version: str, stations: Sequence[str]
    ) -> None:
        self.path = path
        self._bundle_hash = bundle_hash
        self._product = product
        self._version = version
        self.stations = tuple(stations)
        self._written: RolloutState | None = None
        self._lock = _take_lock(path)

    def read(self) -> RolloutState | None:
        """How far it had come; ``None``: there is no file yet.

        Raises:
            RefusedError: it is of another bundle, or of other stations.
            InputDataError: it is no such file, or of a newer version.
            StorageError: it cannot be read.
        """
        try:
            data = read_whole(self.path, limit_bytes=_LIMIT_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be read: {error.strerror}") from error
        entry = _decode(data, self.path)
        self._check(entry)
        self._written = entry.state
        return entry.state

    def write(self, state: RolloutState) -> None:
        """Make it durable; nothing is written where nothing has changed.

        Raises:
            StorageError: full, read-only, not permitted; what was there before is untouched.
        """
        if state == self._written:
            return
        entry = _Entry(
            v=_VERSION,
            bundle=self._bundle_hash,
            product=self._product,
            version=self._version,
            state=state,
        )
        write_durably(self.path, [msgspec.json.format(msgspec.json.encode(entry)) + b"\n"])
        self._written = state

    def close(self) -> None:
        """Let others have the file."""
        descriptor, self._lock = self._lock, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _check(self, entry: _Entry) -> None:
        remedy = "finish that one, or give this one a file of its own by --state"
        if entry.bundle != self._bundle_hash:
            raise RefusedError(
                f"{self.path}: is of the rollout of {entry.product} {entry.version} "
                f"({entry.bundle[:16]}), not of {self._bundle_hash[:16]}; {remedy}"
            )
        known, asked = set(entry.state.stations), set(self.stations)
        if known != asked:
            other = sorted(known ^ asked)[0]
            where = "only there" if other in known else "not there"
            raise RefusedError(
                f"{self.path}: is of a rollout to other stations ({other} is {where}); {remedy}"
            )


def state_path(bundle: Path, given: Path | None) -> Path:
    """Where the file lies: beside the bundle unless somebody says where.

    Raises:
        ConfigurationError: the given one is the bundle itself.
    """
    path = given if given is not None else bundle.with_suffix(SUFFIX)
    if path.resolve() == bundle.resolve():
        raise ConfigurationError(f"--state: {path} is the bundle; name another", path="state")
    return path


def _decode(data: bytes, path: Path) -> _Entry:
    remedy = "move it away to begin anew: stations that have the bundle are skipped"
    try:
        version = msgspec.json.decode(data, type=_Version).v
        if version > _VERSION:
            raise InputDataError(
                f"{path}: is version {version}, of a newer Lineside; this one reads {_VERSION}: go "
                f"on with the newer one, or {remedy}"
            )
        return msgspec.json.decode(data, type=_Entry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputDataError(f"{path}: is no state of a rollout: {error}; {remedy}") from error


def _take_lock(path: Path) -> int:
    lock_path = path.with_name(f"{path.name}.lock")
    try:
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StorageError(
            f"{lock_path}: {error.strerror}; give a writable place by --state"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise RefusedError(
            f"{path}: a rollout with this file is running; wait for it, or give --state"
        ) from error
    return descriptor
