"""Signed bundles: seal, open, trust. docs/bundle-format.md describes the file to the byte."""

from lineside.bundle.evidence import (
    Agreement,
    Decision,
    EscapeGuarantee,
    Evidence,
    PartCounts,
)
from lineside.bundle.keys import (
    PrivateKey,
    PublicKey,
    Trust,
    TrustedKeys,
    generate_key_pair,
    load_private_key,
    load_public_key,
    load_trust,
    write_key_pair,
)
from lineside.bundle.manifest import (
    Identity,
    Manifest,
    ModelEntry,
    PartEntry,
)
from lineside.bundle.reader import Bundle, open_bundle
from lineside.bundle.writer import PartData, make_thin_copy, seal_bundle

__all__ = [
    "Agreement",
    "Bundle",
    "Decision",
    "EscapeGuarantee",
    "Evidence",
    "Identity",
    "Manifest",
    "ModelEntry",
    "PartCounts",
    "PartData",
    "PartEntry",
    "PrivateKey",
    "PublicKey",
    "Trust",
    "TrustedKeys",
    "generate_key_pair",
    "load_private_key",
    "load_public_key",
    "load_trust",
    "make_thin_copy",
    "open_bundle",
    "seal_bundle",
    "write_key_pair",
]
