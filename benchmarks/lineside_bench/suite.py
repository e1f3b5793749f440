"""The sealed models that are measured: a folder of bundles, their key, and a list of what they are.

Made once where trainer and exporter are, and carried to the device as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from lineside.bundle import Bundle, TrustedKeys, load_trust, open_bundle
from lineside.errors import InputDataError
from lineside.plainfile import read_whole

LIST_FILE: Final = "suite.json"
KEY_FILE: Final = "factory.pub"
SIDES_FOLDER: Final = "sides"
"""In a suite: another one, of the same network for larger and smaller inputs (`scaling`)."""

_LIMIT_BYTES: Final = 2**20


class Sealed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One bundle.

    Attributes:
        model: what it is called in tables, e.g. ``vit_tiny``.
        kind: ``regression`` or ``anomaly``.
        score: of an anomaly model: ``recon``, ``gradcon`` or ``memory``; else ``""``.
        side_px: of the square input.
        form: of the weights, as `lineside export --precision` names them.
        file: in the suite's folder.
    """

    model: str
    kind: str
    score: str = ""
    side_px: int
    form: str
    file: str


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A folder of bundles."""

    folder: Path
    sealed: tuple[Sealed, ...]

    @property
    def key(self) -> Path:
        """The maker's public key."""
        return self.folder / KEY_FILE

    @property
    def trusted(self) -> TrustedKeys:
        """The key, as a verb's ``--trust`` would read it."""
        return load_trust([self.key])

    def path(self, one: Sealed) -> Path:
        """Of a bundle's file."""
        return self.folder / one.file

    def open(self, one: Sealed) -> Bundle:
        """Verified; close it, or use it in a ``with`` statement."""
        return open_bundle(self.path(one), trust=self.trusted)

    def pick(self, model: str, form: str) -> Sealed:
        """One of them.

        Raises:
            InputDataError: there is none.
        """
        for one in self.sealed:
            if (one.model, one.form) == (model, form):
                return one
        known = ", ".join(f"{one.model}/{one.form}" for one in self.sealed)
        raise InputDataError(
            f"{self.folder}: no {model}/{form} among {known}: "
            "make the suite again (`lineside measure bundles`)"
        )


def read_suite(folder: Path) -> Suite:
    """What `lineside measure bundles` wrote.

    Raises:
        InputDataError: it is none.
    """
    path = folder / LIST_FILE
    try:
        text = read_whole(path, limit_bytes=_LIMIT_BYTES)
        sealed = msgspec.json.decode(text, type=tuple[Sealed, ...])
    except (OSError, msgspec.MsgspecError) as error:
        raise InputDataError(
            f"{path}: {error}: give the folder that `lineside measure bundles --out` wrote"
        ) from error
    if not sealed:
        raise InputDataError(f"{path}: lists no model: make the suite again")
    return Suite(folder=folder, sealed=sealed)


def encode_list(sealed: Iterable[Sealed]) -> bytes:
    """The file that `read_suite` reads."""
    return msgspec.json.format(msgspec.json.encode(tuple(sealed)), indent=1) + b"\n"
