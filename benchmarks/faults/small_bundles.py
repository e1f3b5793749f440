"""Small real bundles for slots: sealed, checked with their signature; no engine runs them."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Final

from slot_files import SlotFile

from lineside.bundle import (
    Evidence,
    Identity,
    Manifest,
    ModelEntry,
    PartData,
    PrivateKey,
    TrustedKeys,
    generate_key_pair,
    seal_bundle,
)
from lineside.bundle.checks import check_bundle
from lineside.contract import (
    Contract,
    FrameSpec,
    InputSpec,
    LimitRule,
    OutputSpec,
    RegressionHead,
)
from lineside.slots import Incoming, SlotCard

_PART: Final = "onnxruntime/model.onnx"


class Factory:
    """Seals bundles, and knows those that are whole.

    Attributes:
        trusted: its key, as a device has it.
    """

    def __init__(self) -> None:
        self._key: PrivateKey = generate_key_pair("factory")
        self.trusted = TrustedKeys(keys=(self._key.public,))
        self._hashes: dict[bytes, str] = {}

    def seal(self, version: str, *, counter: int, part_bytes: int = 100) -> SlotFile:
        """A bundle of one part."""
        part = hashlib.shake_256(version.encode()).digest(part_bytes)
        with tempfile.TemporaryDirectory(prefix="lineside-faults-") as folder:
            path = Path(folder) / "small.lsb"
            sealed = seal_bundle(
                path,
                manifest=_describe(version, counter),
                parts=[PartData(name=_PART, data=part, engine="onnxruntime")],
                key=self._key,
            )
            data = path.read_bytes()
        return SlotFile(
            data=data,
            card=SlotCard(
                hash=sealed,
                size_bytes=len(data),
                key_id=self._key.public.key_id,
                security_counter=counter,
            ),
            incoming=Incoming(sha256=hashlib.sha256(data).digest(), size_bytes=len(data)),
        )

    def check(self, data: bytes) -> str:
        """The hash of a bundle whose every check holds; those that held before are known by bytes.

        Raises:
            BundleError: a check does not hold.
        """
        known = hashlib.sha256(data).digest()
        if known not in self._hashes:
            checked = check_bundle(memoryview(data), trusted=self.trusted, source="slot")
            self._hashes[known] = checked.hash
        return self._hashes[known]


def _describe(version: str, counter: int) -> Manifest:
    return Manifest(
        identity=Identity(product="small", version=version, security_counter=counter),
        contract=Contract(
            product="small",
            frame=FrameSpec(size_hw=(8, 8), channels=1),
            input=InputSpec(size_hw=(8, 8), channels=1),
            outputs=(OutputSpec(name="value"),),
            head=RegressionHead(target="brightness"),
        ),
        rule=LimitRule(ok_limit=0.5, not_ok_limit=0.6),
        models=(ModelEntry(engine="onnxruntime", precision="fp32", parts=(_PART,)),),
        evidence=Evidence(
            agreements=(), metrics={}, sample_counts={"golden": 0}, samples_sha256="0" * 64
        ),
        provenance={"made_by": "benchmarks/faults/slots.py"},
    )
