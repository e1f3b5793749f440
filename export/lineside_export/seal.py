"""Write the bundle aside, open it as a device would, and only then put it in its place.

No time stamp goes in by itself and no path, so the same candidate, key and options give the same
bytes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lineside.bundle import (
    Decision,
    EscapeGuarantee,
    Evidence,
    Identity,
    Manifest,
    PartData,
    Signer,
    TrustedKeys,
    open_bundle,
    seal_bundle,
)
from lineside.commit import find_commit
from lineside.contract import LimitRule
from lineside.drift import DRIFT_PART, DriftReference, encode_reference
from lineside.durable import replace_durably
from lineside.engines import EngineSettings, open_engine
from lineside.engines.machine import cpu_name
from lineside.errors import StorageError
from lineside.golden import GOLDEN_PART, GoldenSamples, encode_golden
from lineside.selftest import SelfTestResult, run_selftest
from lineside_export.candidate import Candidate
from lineside_export.formats import Format, Given, memory_parts
from lineside_export.parity import Parity, agreements, metrics
from lineside_export.targets import Target
from lineside_export.vendors import tool_versions


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """A bundle that was sealed, opened again and proved.

    Attributes:
        hash: 64 hex digits.
        size_bytes: of the file.
        selftests: one for each format inside.
    """

    hash: str
    size_bytes: int
    selftests: tuple[SelfTestResult, ...]


def make_manifest(
    candidate: Candidate,
    *,
    identity: Identity,
    rule: LimitRule,
    target: Target,
    formats: Sequence[Format],
    parity: Parity,
    decision: Decision,
    guarantee: EscapeGuarantee | None,
    licence: str = "",
) -> Manifest:
    """All that the bundle says of itself; its table of parts is made when sealing."""
    sealed = parity.about(formats)
    return Manifest(
        identity=identity,
        contract=candidate.contract,
        rule=rule,
        models=tuple(format_.entry for format_ in formats),
        evidence=Evidence(
            agreements=agreements(sealed),
            metrics=metrics(sealed),
            sample_counts={name: len(samples) for name, samples in candidate.samples.items()},
            samples_sha256=candidate.samples_sha256,
            unchecked=target.unchecked,
            decision=decision,
            guarantee=guarantee,
        ),
        provenance={
            **candidate.provenance,
            "export.program": candidate.program_file.name,
            "export.program_sha256": candidate.program_sha256,
            "export.reference": parity.reference.label,
            "export.cpu": cpu_name(),
            **{
                f"export.float.{made.entry.engine}": ", ".join(made.kept_float)
                for made in formats
                if made.kept_float
            },
            "export.commit": find_commit(Path(__file__)),
            **{f"export.{name}": version for name, version in tool_versions().items()},
        },
        licence=licence,
    )


def check_place(out: Path) -> None:
    """Whether a bundle can be written there, before minutes of work.

    Raises:
        StorageError: read-only, not permitted, or a name that is too long.
    """
    aside = _aside(out)
    try:
        aside.touch()
        aside.unlink()
    except OSError as error:
        raise StorageError(f"{out}: cannot be written: {error.strerror}") from error


def _aside(out: Path) -> Path:
    # Beside the target, so that the rename stays within one file system.
    return out.with_name(f".{out.name}.{os.getpid()}.sealed")


def seal(
    out: Path,
    manifest: Manifest,
    *,
    formats: Sequence[Format],
    given: Given,
    golden: GoldenSamples,
    drift: DriftReference,
    key: Signer,
    write_figures: Callable[[], None],
) -> Sealed:
    """Seal, prove on this machine, write the figures, rename.

    Figures beside OUT say that there is a bundle, so they wait until little can fail any more.

    Raises:
        SelfTestError: the sealed file does not reproduce its own golden samples.
        BundleError: it does not open.
        StorageError: it cannot be written.
    """
    parts = [
        PartData(name=GOLDEN_PART, data=encode_golden(golden)),
        PartData(name=DRIFT_PART, data=encode_reference(drift)),
        *memory_parts(given),
    ]
    parts += [part for format_ in formats for part in format_.parts]
    aside = _aside(out)
    try:
        bundle_hash = seal_bundle(aside, manifest=manifest, parts=parts, key=key)
        selftests = prove(aside, TrustedKeys(keys=(key.public,)))
        size_bytes = aside.stat().st_size
        write_figures()
        replace_durably(aside, out)
    except OSError as error:
        raise StorageError(f"{out}: cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
    return Sealed(hash=bundle_hash, size_bytes=size_bytes, selftests=selftests)


def prove(path: Path, trust: TrustedKeys) -> tuple[SelfTestResult, ...]:
    """Open a bundle as a device does, and run the golden self-test of every format in it.

    Raises:
        BundleError: it is refused.
        SelfTestError: a format does not give what was sealed.
    """
    with open_bundle(path, trust=trust) as bundle:
        results = []
        for model in bundle.manifest.models:
            engine = open_engine(model, bundle.part, bundle.manifest.contract, EngineSettings())
            try:
                results.append(run_selftest(bundle, engine))
            finally:
                engine.close()
    return tuple(results)
