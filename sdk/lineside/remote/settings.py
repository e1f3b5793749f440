"""Section ``[commands]`` of ``station.toml``: who may tell the station what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec

from lineside.remote.verbs import UNSIGNED_VERBS, UnsignedVerb, Verb

SKEW_S: Final = 30.0
LIFETIME_LIMIT_S: Final = 600.0


class CommandKeySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of ``[[commands.keys]]``: a key, and what it may ask for.

    Attributes:
        path: a public key, ``.pub``, or a folder of them.
        verbs: what its owner may say.
    """

    path: Path
    verbs: Annotated[tuple[Verb, ...], msgspec.Meta(min_length=1)]


class CommandSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[commands]``.

    Attributes:
        unsigned: commands that are taken without signature: the broker's access list alone says
            from whom.
        keys: whose signed commands count.
        skew_s: so far a signer's clock may be ahead of the station's.
        lifetime_s: so long a signed command may be meant to live.
        url: where bundles may be downloaded from; ``""``: they come over the broker only.
    """

    unsigned: tuple[UnsignedVerb, ...] = UNSIGNED_VERBS
    keys: tuple[CommandKeySettings, ...] = ()
    skew_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = SKEW_S
    lifetime_s: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = LIFETIME_LIMIT_S
    url: str = ""
