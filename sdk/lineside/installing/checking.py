"""What must hold before a bundle is taken in, all of it found out without changing anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lineside.bundle import Bundle, Trust, open_bundle
from lineside.choose import list_candidates
from lineside.errors import EngineError
from lineside.installing.target import check_target, machine_targets
from lineside.slots import SlotCard


@dataclass(frozen=True, kw_only=True)
class CheckedFile:
    """A bundle's file whose seal and hashes hold, and that was made for this machine.

    Attributes:
        card: what a store's record will know of it.
        product, version: as sealed.
    """

    card: SlotCard
    product: str
    version: str


def check_bundle_file(
    path: str | Path, *, trust: Trust, targets: Sequence[str] | None = None
) -> CheckedFile:
    """Signature, hashes, runtime, target.

    Args:
        path: the file.
        trust: whose seal counts.
        targets: this machine's words; ``None``: `machine_targets`.

    Raises:
        BundleError: refused; the kind says why, `TargetError` that it is for other hardware.
        KeyFileError: a trusted key cannot be read.
        ConfigurationError: this machine's words cannot be read.
    """
    with open_bundle(path, trust=trust) as bundle:
        return describe_bundle(bundle, targets=targets)


def describe_bundle(bundle: Bundle, *, targets: Sequence[str] | None = None) -> CheckedFile:
    """The same of one that is open, which holds all but the target."""
    identity = bundle.manifest.identity
    here = machine_targets() if targets is None else tuple(targets)
    check_target(identity.target, here, source=str(bundle.path))
    return card_bundle(bundle)


def card_bundle(bundle: Bundle) -> CheckedFile:
    """What it is; nothing is checked."""
    identity = bundle.manifest.identity
    return CheckedFile(
        card=SlotCard(
            hash=bundle.hash,
            size_bytes=bundle.path.stat().st_size,
            key_id=bundle.signer.key_id,
            security_counter=identity.security_counter,
        ),
        product=identity.product,
        version=identity.version,
    )


def check_engines(bundle: Bundle, *, engine: str = "auto", precision: str | None = None) -> None:
    """Refuse a copy of which nothing can even be tried here: thin for another engine, or none.

    Raises:
        EngineError: with each form and what it lacks.
    """
    ways, refused = list_candidates(bundle, engine=engine, precision=precision, threads=1)
    if ways:
        return
    told = "; ".join(
        f"{found.candidate.engine}/{found.candidate.precision}: {found.detail}" for found in refused
    )
    offered = ", ".join(f"{model.engine}/{model.precision}" for model in bundle.manifest.models)
    raise EngineError(
        f"{bundle.path}: nothing of it runs on this machine: "
        + (told or f"it offers {offered}, which is not what was asked for (--engine)")
        + ". Take the whole bundle or a thin copy for this machine's engine"
    )
