"""Whose seal counts on this machine: public keys that are trusted, less those that were revoked.

A trusted key is a ``.pub`` file; a revoked one is a file ``KEYID.revoked`` that holds the same id
once more, so that a torn or changed one is seen. Revocation wins wherever both are found.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from lineside.bundle.keys import TRUST_SUFFIX, PublicKey, load_public_key, read_small
from lineside.bundle.layout import KEY_ID_BYTES
from lineside.durable import write_durably
from lineside.errors import KeyFileError
from lineside.plainfile import is_folder

REVOKED_SUFFIX: Final = ".revoked"
KEY_ID: Final = re.compile(rf"[0-9a-f]{{{2 * KEY_ID_BYTES}}}")


@dataclass(frozen=True, kw_only=True)
class TrustedKeys:
    """The keys whose seal counts on this machine.

    Attributes:
        keys: all that were found, also revoked ones.
        revoked: ids, 16 bytes each, whose seal never counts.
    """

    keys: tuple[PublicKey, ...]
    revoked: frozenset[bytes] = frozenset()

    @property
    def valid(self) -> tuple[PublicKey, ...]:
        """Those that are not revoked."""
        return tuple(key for key in self.keys if key.key_id not in self.revoked)

    def find(self, key_id: bytes) -> PublicKey | None:
        """The key with this id, if its seal counts."""
        return next((key for key in self.valid if key.key_id == key_id), None)

    def __str__(self) -> str:
        told = ", ".join(f"{key.key_id.hex()} ({key.name or 'unnamed'})" for key in self.valid)
        return told or "none"


Trust = str | Path | Sequence[str | Path] | TrustedKeys


def load_trust(trust: Trust) -> TrustedKeys:
    """Read whose seal counts: key files, revocations, folders of both, or several of these.

    Revocations that lie beside a key file count too, though only the key was named.

    Raises:
        KeyFileError: a file that is missing or damaged, or no key at all. One bad file in a folder
            is named and refuses the whole: a key that was meant would be lacking, or one that was
            revoked would count.
    """
    if isinstance(trust, TrustedKeys):
        return trust
    places = [Path(trust)] if isinstance(trust, (str, Path)) else [Path(place) for place in trust]
    if not places:
        raise KeyFileError("no trusted key was named: give a .pub file or a folder of them")
    files = [file for place in places for file in _files(place)]
    keys = [load_public_key(file) for file in files if not _is_revocation(file)]
    revoked = {load_revocation(file) for file in files if _is_revocation(file)}
    if not keys:
        _refuse_empty(*places)
    return TrustedKeys(keys=tuple(dict.fromkeys(keys)), revoked=frozenset(revoked))


def load_revocation(path: str | Path) -> bytes:
    """Read a ``.revoked`` file.

    Returns:
        The id of the key that was revoked, 16 bytes.

    Raises:
        KeyFileError: missing, or anything but one key id, the one that the file is named for.
    """
    path = Path(path)
    lines = read_small(path).decode("utf-8", "replace").splitlines(keepends=True)
    ids = [line for line in lines if not line.startswith("#")]
    # Without its line's end it is torn. Windows ends lines its own way.
    whole = ids in ([path.stem + "\n"], [path.stem + "\r\n"])
    if not whole or not KEY_ID.fullmatch(path.stem):
        raise KeyFileError(
            f"{path}: a damaged revocation, so nobody can say which key is meant, and no bundle is "
            "taken: it must hold the key id that it is named for, on one line. Make it again with "
            "`lineside keys revoke`"
        )
    return bytes.fromhex(path.stem)


def load_revocations(places: Sequence[str | Path]) -> frozenset[bytes]:
    """What files and folders of trust revoke, whichever keys lie there.

    Args:
        places: folders, and key files beside which revocations lie; one that is not there revokes
            nothing.

    Returns:
        Key ids, 16 bytes each.

    Raises:
        KeyFileError: a revocation is damaged, or a folder cannot be read.
    """
    folders = {place if is_folder(place) else place.parent for place in map(Path, places)}
    files = [file for folder in folders if is_folder(folder) for file in _list(folder, ())]
    return frozenset(load_revocation(file) for file in files)


def revoke_key(folder: str | Path, key: PublicKey | bytes) -> Path:
    """Write a revocation into a trust folder: aside, flushed, renamed.

    Args:
        folder: where a device keeps its trusted keys.
        key: whose seal shall not count any more, or its id (16 bytes) where the key is lost.

    Returns:
        The file, ``KEYID.revoked``; every device that trusts the key needs a copy.

    Raises:
        KeyFileError: the folder is not there.
        StorageError: it cannot be written.
    """
    folder = Path(folder)
    if not is_folder(folder):
        raise KeyFileError(f"{folder}: no such folder: name one that a device trusts")
    key_id, name = (key, "") if isinstance(key, bytes) else (key.key_id, key.name)
    path = folder / (key_id.hex() + REVOKED_SUFFIX)
    told = f"# Lineside revoked key: {_on_one_line(name)}\n" if name else ""
    write_durably(path, [f"{told}{key_id.hex()}\n".encode("utf-8", "surrogateescape")])
    return path


def _on_one_line(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def _files(place: Path) -> list[Path]:
    if is_folder(place):
        found = _list(place, (TRUST_SUFFIX, REVOKED_SUFFIX))
        return found or _refuse_empty(place)
    if _is_revocation(place):
        return [place]
    # Where the key's folder is not there, reading the key says so.
    beside = _list(place.parent, (REVOKED_SUFFIX,)) if is_folder(place.parent) else []
    return [place, *beside]


def _refuse_empty(*places: Path) -> NoReturn:
    raise KeyFileError(
        f"{', '.join(map(str, places))}: holds no *{TRUST_SUFFIX}: copy the factory's public key "
        "there"
    )


def _is_revocation(file: Path) -> bool:
    # A FAT stick may give names in capitals, and a revocation must not get lost by it.
    return file.suffix.lower() == REVOKED_SUFFIX


def _list(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    try:
        return sorted(
            path for path in folder.iterdir() if path.suffix in suffixes or _is_revocation(path)
        )
    except OSError as error:
        raise KeyFileError(f"{folder}: {error.strerror}") from error
