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
    generate_key_pair,
    load_private_key,
    load_public_key,
    write_key_pair,
)
from lineside.bundle.manifest import (
    Identity,
    Manifest,
    ModelEntry,
    PartEntry,
)
from lineside.bundle.override import Override, OverrideTerms, read_override, seal_override
from lineside.bundle.reader import Bundle, open_bundle
from lineside.bundle.signer import Signer, open_signer
from lineside.bundle.trust import Trust, TrustedKeys, load_revocations, load_trust, revoke_key
from lineside.bundle.writer import PartData, make_thin_copy, reseal_bundle, seal_bundle

__all__ = [
    "Agreement",
    "Bundle",
    "Decision",
    "EscapeGuarantee",
    "Evidence",
    "Identity",
    "Manifest",
    "ModelEntry",
    "Override",
    "OverrideTerms",
    "PartCounts",
    "PartData",
    "PartEntry",
    "PrivateKey",
    "PublicKey",
    "Signer",
    "Trust",
    "TrustedKeys",
    "generate_key_pair",
    "load_private_key",
    "load_public_key",
    "load_revocations",
    "load_trust",
    "make_thin_copy",
    "open_bundle",
    "open_signer",
    "read_override",
    "reseal_bundle",
    "revoke_key",
    "seal_bundle",
    "seal_override",
    "write_key_pair",
]
