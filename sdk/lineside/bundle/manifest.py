"""What a bundle says about itself: signed, canonical JSON, checked in full when read.

The structures carry the limits of single fields; `check_manifest` holds the rules between fields.
docs/bundle-format.md describes both for other implementations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Final, Literal

import msgspec

from lineside import __version__
from lineside.bundle.canonical import decode_whole, on_one_line
from lineside.bundle.evidence import Evidence, Sha256Hex, Word
from lineside.bundle.layout import MAX_MANIFEST_BYTES
from lineside.contract import Contract, LimitRule
from lineside.errors import BundleFormatError, IncompatibleBundleError
from lineside.memory import MEMORY_PART, memory_size_fault

MAX_PARTS: Final = 64
MAX_PART_NAME_BYTES: Final = 64
MAX_PART_BYTES: Final = 2**40

# Lower case and no leading dot: a part name is a safe relative path on every file system.
_SEGMENT: Final = r"[a-z0-9][a-z0-9._-]*"
_NUMBER: Final = r"[0-9]{1,4}"  # \d would take the digits of every script
PartName = Annotated[
    str,
    msgspec.Meta(pattern=rf"\A{_SEGMENT}(/{_SEGMENT})*\Z", max_length=MAX_PART_NAME_BYTES),
]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
EngineName = Literal["onnxruntime", "openvino"]


class Identity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What this bundle is.

    Attributes:
        product: what kind of part it judges.
        version: the maker's own, e.g. ``1.4.0``.
        security_counter: never lowered on a device once confirmed.
        target: hardware it was made for; ``any`` where it was not narrowed.
        minimum_runtime: an older ``lineside`` refuses the bundle.
    """

    product: Text
    version: Text
    security_counter: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] = 0
    target: Word = "any"
    minimum_runtime: Annotated[
        str, msgspec.Meta(pattern=rf"\A{_NUMBER}\.{_NUMBER}\.{_NUMBER}\Z")
    ] = "0.1.0"


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One compiled form of the model.

    Attributes:
        engine: who runs it.
        precision: the form's name, e.g. ``fp32``, ``int8-mixed``.
        parts: names of its parts; the first is the file that the engine opens.
        inference_precision: what float layers compute in; set on purpose, because an engine left
            alone may choose bfloat16.
        batch: the static batch it is compiled for; another shape gives other int8 numbers.
    """

    engine: EngineName
    precision: Word
    parts: Annotated[tuple[PartName, ...], msgspec.Meta(min_length=1, max_length=MAX_PARTS)]
    inference_precision: Literal["f32", "bf16"] = "f32"
    batch: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 1


class PartEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One part of the file.

    Attributes:
        name: lower-case relative path, unique.
        size_bytes: exact.
        sha256: of its bytes, 64 lower-case hex digits.
        engine: who needs it; ``""`` means every device does, and no copy may lack it.
    """

    name: PartName
    size_bytes: Annotated[int, msgspec.Meta(ge=0, le=MAX_PART_BYTES)]
    sha256: Sha256Hex
    engine: Literal["", "onnxruntime", "openvino"] = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The signed description of a bundle.

    Attributes:
        contract: what goes into the model and what comes out, as the trainer promised it.
        rule: score to evaluation.
        models: at least one; no two with the same engine and precision.
        provenance: where it came from: data hash, seeds, versions, commit.
        licence: of the model, an SPDX expression or words.
        parts: in the order of the file; sealing fills it in.
    """

    format: Literal[1] = 1
    identity: Identity
    contract: Contract
    rule: LimitRule
    models: tuple[ModelEntry, ...]
    evidence: Evidence
    provenance: dict[str, str]
    licence: str = ""
    parts: tuple[PartEntry, ...] = ()


class _ProbeIdentity(msgspec.Struct):
    minimum_runtime: str


class _Probe(msgspec.Struct):
    format: int
    identity: _ProbeIdentity


def encode_manifest(manifest: Manifest, *, source: str) -> bytes:
    """Canonical JSON: UTF-8, keys sorted by code point, no white space, every field written.

    Raises:
        BundleFormatError: a value outside its limits, or rules between fields broken.
    """
    # Through decoding once, because a struct built in Python is not checked by msgspec, and an
    # int in a float's place would give other bytes for an equal manifest.
    checked = decode_manifest(msgspec.json.encode(manifest, order="sorted"), source=source)
    encoded = msgspec.json.encode(checked, order="sorted")
    if len(encoded) > MAX_MANIFEST_BYTES:
        raise BundleFormatError(
            f"{source}: manifest: {len(encoded)} bytes; at most {MAX_MANIFEST_BYTES} are allowed"
        )
    return encoded


def decode_manifest(data: bytes, *, source: str) -> Manifest:
    """Read and check a manifest whose signature holds already.

    Raises:
        IncompatibleBundleError: it asks for a newer runtime.
        BundleFormatError: not JSON, an unknown or missing key, a value outside its limits.
    """
    try:
        _check_runtime(msgspec.json.decode(data, type=_Probe), source)
        manifest = decode_whole(data, Manifest)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BundleFormatError(f"{source}: manifest: {on_one_line(str(error))}") from error
    check_manifest(manifest, source=source)
    return manifest


def check_manifest(manifest: Manifest, *, source: str) -> None:
    """Hold the rules between fields.

    Raises:
        BundleFormatError: too many or doubled parts, a model whose parts are not there, a memory
            without a contract for it or the other way, or a rule that is looser than its guarantee.
    """
    if not 1 <= len(manifest.parts) <= MAX_PARTS:
        raise BundleFormatError(
            f"{source}: manifest: parts: {len(manifest.parts)}; 1 to {MAX_PARTS} are allowed"
        )
    _refuse_doubles("parts: name", (part.name for part in manifest.parts), source)
    if not manifest.models:
        raise BundleFormatError(f"{source}: manifest: models: at least one is needed")
    _refuse_doubles(
        "models: engine and precision",
        (f"{m.engine} {m.precision}" for m in manifest.models),
        source,
    )
    _refuse_unproven(manifest, source)
    _check_memory(manifest, source)
    engines = {part.name: part.engine for part in manifest.parts}
    for model in manifest.models:
        for name in model.parts:
            if engines.get(name) not in ("", model.engine):
                raise BundleFormatError(
                    f"{source}: manifest: models: {model.engine} {model.precision} needs part "
                    f"{name!r}, which is not in the table of parts for that engine"
                )


def _check_memory(manifest: Manifest, source: str) -> None:
    spec = manifest.contract.memory
    part = next((part for part in manifest.parts if part.name == MEMORY_PART), None)
    if spec is None and part is None:
        return
    if spec is None:
        # Other parts that nobody names are let be; this one somebody sealed to judge by, and the
        # model would judge without it.
        fault = f"part {MEMORY_PART!r} is there, and contract.memory is null: they do not belong"
    elif part is None:
        fault = f"part {MEMORY_PART!r} is missing, which contract.memory names"
    elif part.engine:
        fault = f"part {MEMORY_PART!r} is for {part.engine} alone; every device needs it"
    else:
        fault = memory_size_fault(part.size_bytes, spec)
        fault = fault and f"part {MEMORY_PART!r} has {fault}"
    if fault:
        raise BundleFormatError(f"{source}: manifest: parts: {fault}")


def _refuse_unproven(manifest: Manifest, source: str) -> None:
    guarantee, rule = manifest.evidence.guarantee, manifest.rule
    if guarantee is None:
        return
    if not rule.sign * rule.ok_limit <= rule.sign * guarantee.ok_limit:
        raise BundleFormatError(
            f"{source}: manifest: rule: ok_limit {rule.ok_limit:g} is looser than "
            f"{guarantee.ok_limit:g}, for which evidence.guarantee is proven"
        )


def _refuse_doubles(field: str, names: Iterable[str], source: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise BundleFormatError(f"{source}: manifest: {field} {name!r} stands there twice")
        seen.add(name)


def _check_runtime(probe: _Probe, source: str) -> None:
    needed = on_one_line(probe.identity.minimum_runtime)
    if probe.format != 1 or _release(needed) > _release(__version__):
        raise IncompatibleBundleError(
            f"{source}: needs lineside {needed} or newer (manifest format {probe.format}); this is "
            f"{__version__}: update the device's runtime, or export for the older one",
            expected=needed,
            actual=__version__,
        )


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"[0-9]{1,9}", version)[:3])
