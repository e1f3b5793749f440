"""Whose command counts, and for which verbs; revocation wins, wherever it lies."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from lineside.bundle import PublicKey, load_revocations, load_trust
from lineside.errors import ConfigurationError, KeyFileError
from lineside.remote.settings import CommandKeySettings

_LOOK_EVERY_S: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class CommandKeys:
    """Keys by id, each with its verbs. Without any, every signed command is a stranger's.

    Attributes:
        keys: by key id, 16 bytes; also revoked ones.
        verbs: what each may ask for.
        revoked: ids whose command never counts.
    """

    keys: Mapping[bytes, PublicKey] = field(default_factory=dict)
    verbs: Mapping[bytes, frozenset[str]] = field(default_factory=dict)
    revoked: frozenset[bytes] = frozenset()

    def find(self, key_id: bytes) -> PublicKey | None:
        """The key with this id, unless it was revoked."""
        return None if self.is_revoked(key_id) else self.keys.get(key_id)

    def is_revoked(self, key_id: bytes) -> bool:
        """Whether this key's command never counts."""
        return key_id in self.revoked

    def verbs_of(self, key_id: bytes) -> frozenset[str]:
        """What it may ask for."""
        return self.verbs.get(key_id, frozenset())


def load_command_keys(
    settings: Sequence[CommandKeySettings], *, revocations: Sequence[Path] = ()
) -> CommandKeys:
    """Read the keys of ``[[commands.keys]]``; one that stands there twice may do both.

    Args:
        settings: which keys, with which verbs; revocations that lie beside them count.
        revocations: files or folders that may revoke further: the machine's trust folders.

    Raises:
        ConfigurationError: a key file is missing or damaged, or a revocation is.
    """
    keys: dict[bytes, PublicKey] = {}
    verbs: dict[bytes, frozenset[str]] = {}
    revoked: set[bytes] = set()
    for index, one in enumerate(settings):
        try:
            trusted = load_trust(one.path)
        except KeyFileError as error:
            path = f"commands.keys[{index}].path"
            raise ConfigurationError(f"{path}: {error}", path=path) from error
        revoked |= trusted.revoked
        for key in trusted.keys:
            keys[key.key_id] = key
            verbs[key.key_id] = verbs.get(key.key_id, frozenset()) | set(one.verbs)
    try:
        revoked |= load_revocations(revocations)
    except KeyFileError as error:
        raise ConfigurationError(f"commands.keys: {error}", path="commands.keys") from error
    return CommandKeys(keys=keys, verbs=verbs, revoked=frozenset(revoked))


class KeyRing:
    """The keys as they lie on the disk, looked at again once a second: a revocation counts at once.

    Attributes:
        fault: why no key counts just now, in words; ``""`` when all is well.

    Args:
        load: reads them; called at once.
        clock_s: monotonic, seconds.

    Raises:
        ConfigurationError: see `load_command_keys`; only when it is made.
    """

    def __init__(
        self, load: Callable[[], CommandKeys], *, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.fault = ""
        self._load = load
        self._clock_s = clock_s
        self._looked_s = clock_s()
        self._keys = load()

    def look(self) -> CommandKeys:
        """The keys of this moment.

        Where a file was damaged or taken away meanwhile, nobody can say which key still counts:
        none does until it is cured.
        """
        now_s = self._clock_s()
        if now_s - self._looked_s >= _LOOK_EVERY_S:
            self._looked_s = now_s
            try:
                self._keys, self.fault = self._load(), ""
            except ConfigurationError as error:
                self.fault = str(error)
        keys = self._keys
        return replace(keys, revoked=frozenset(keys.keys)) if self.fault else keys
