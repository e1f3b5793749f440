"""Make the test vectors of the bundle format: `python generate.py [FOLDER]`.

The keys are those of RFC 8032, section 7.1, tests 1 and 2, published to be known by everybody.
Every byte here follows from this file; a test makes the vectors again and compares. They are named
.bin, because the repository keeps no .lsb: nobody shall take one of these for a product.
"""

from __future__ import annotations

import json
import struct
import sys
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lineside.bundle import (
    Agreement,
    Decision,
    EscapeGuarantee,
    Evidence,
    Identity,
    Manifest,
    ModelEntry,
    PartCounts,
    PartData,
    PrivateKey,
    TrustedKeys,
    make_thin_copy,
    open_bundle,
    seal_bundle,
)
from lineside.bundle.keys import encode_public_key
from lineside.contract import (
    Contract,
    FrameSpec,
    InputSpec,
    LimitRule,
    OutputSpec,
    RegressionHead,
)

FACTORY_SEED = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
STRANGER_SEED = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
FACTORY = PrivateKey(bytes.fromhex(FACTORY_SEED), name="factory")
STRANGER = PrivateKey(bytes.fromhex(STRANGER_SEED), name="stranger")
TRUSTED = TrustedKeys(keys=(FACTORY.public,))

ONNX = ModelEntry(engine="onnxruntime", precision="int8", parts=("onnxruntime/model.onnx",))
OPENVINO = ModelEntry(
    engine="openvino", precision="int8", parts=("openvino/model.xml", "openvino/model.bin")
)


def describe(*models: ModelEntry) -> Manifest:
    """A manifest without parts; its models are no real ones, since a reader runs none."""
    return Manifest(
        identity=Identity(product="led-joint", version="1.0.0", security_counter=3),
        contract=Contract(
            product="led-joint",
            frame=FrameSpec(size_hw=(64, 64), channels=1),
            input=InputSpec(size_hw=(64, 64), channels=1),
            outputs=(OutputSpec(name="value"),),
            head=RegressionHead(target="delta_b_max"),
        ),
        rule=LimitRule(ok_limit=0.2, not_ok_limit=0.25),
        models=models,
        evidence=Evidence(
            agreements=tuple(
                Agreement(
                    engine=model.engine,
                    precision=model.precision,
                    batch=1,
                    threads=1,
                    output="value",
                    samples=100,
                    max_abs_drift=0.0078125,
                    mean_abs_drift=0.001,
                    verdict_flips=1,
                    flip_bound=0.0625,
                )
                for model in models
            ),
            metrics={"validation_mse": 0.0009765625},
            sample_counts={"golden": 16, "validation": 100},
            samples_sha256="00" * 32,
        ),
        provenance={"seed": "7", "note": 'Größe, "quoted"'},
        licence="Apache-2.0",
    )


def describe_promised(*models: ModelEntry) -> Manifest:
    """The same with limits that were chosen and proven."""
    manifest = describe(*models)
    counts = tuple(
        PartCounts(
            engine=model.engine,
            precision=model.precision,
            bad=400,
            escaped=0,
            bad_reviewed=20,
            good=1600,
            overkilled=8,
            good_reviewed=40,
        )
        for model in models
    )
    evidence = msgspec.structs.replace(
        manifest.evidence,
        decision=Decision(
            way="recall", wishes={"min_recall": 0.99}, part_images="together", validation=()
        ),
        guarantee=EscapeGuarantee(
            max_escape=0.01,
            confidence=0.95,
            ok_limit=0.2,
            escape_bound=0.0074,
            limits_tested=60,
            limits_proven=50,
            assurance=counts,
            unknown_samples=3,
            assurance_sha256="11" * 32,
            date="2026-11-21",
        ),
    )
    return msgspec.structs.replace(manifest, evidence=evidence)


def full_parts() -> list[PartData]:
    """Sizes at the edges: short, exactly one page, one byte more, none at all."""
    return [
        PartData(name="golden.msgpack", data=b"golden"),
        PartData(name="onnxruntime/model.onnx", data=bytes(range(256)) * 16, engine="onnxruntime"),
        PartData(name="openvino/model.xml", data=b"x" * 4097, engine="openvino"),
        PartData(name="openvino/model.bin", data=b"", engine="openvino"),
    ]


def minimal_parts() -> list[PartData]:
    """One common part and one of an engine."""
    return [
        PartData(name="golden.msgpack", data=b"golden"),
        PartData(name="onnxruntime/model.onnx", data=b"\x08\x09model", engine="onnxruntime"),
    ]


def write_vectors(folder: Path) -> None:
    """Write all files of this folder but this one."""
    for key in (FACTORY, STRANGER):
        (folder / f"{key.public.name}.pub").write_bytes(encode_public_key(key.public))
    seal_bundle(folder / "minimal.bin", manifest=describe(ONNX), parts=minimal_parts(), key=FACTORY)
    full = folder / "full.bin"
    promised = describe_promised(ONNX, OPENVINO)
    seal_bundle(full, manifest=promised, parts=full_parts(), key=FACTORY)
    with open_bundle(full, trust=TRUSTED) as bundle:
        for engine in ("onnxruntime", "openvino"):
            make_thin_copy(bundle, folder / f"thin-{engine}.bin", engine=engine)
    _write_signed_but_wrong(folder)
    index = {"good": _good(folder), "bad": _bad(folder)}
    (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n")


def mend_crc(data: bytearray) -> None:
    """Make the header's CRC right again, as whoever forges a bundle would."""
    if len(data) >= 128:
        struct.pack_into("<I", data, 124, zlib.crc32(data[:124]))


def _good(folder: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for name in ("minimal", "full", "thin-onnxruntime", "thin-openvino"):
        with open_bundle(folder / f"{name}.bin", trust=TRUSTED) as bundle:
            parts = {part: bundle.checked.spans[part] for part in bundle.present}
            rows.append(
                {
                    "file": f"{name}.bin",
                    "hash": bundle.hash,
                    "present": {p: [span.start, span.stop] for p, span in parts.items()},
                }
            )
    return rows


def _bad(folder: Path) -> list[dict[str, object]]:
    """Each is a file as it lies here, or one changed in the way that is said."""
    manifest_bytes = struct.unpack_from("<I", (folder / "full.bin").read_bytes(), 24)[0]
    size_bytes = (folder / "full.bin").stat().st_size
    edits: list[tuple[str, str, str, list[tuple[int, str]], bool]] = [
        ("magic", "full.bin", "format", [(0, "4c534232")], True),
        ("crc", "full.bin", "format", [(124, "00000000")], False),
        ("later format", "full.bin", "incompatible", [(4, "0200")], True),
        ("header size", "full.bin", "format", [(6, "c000")], True),
        ("unknown key", "full.bin", "untrusted", [(8, "00" * 16)], True),
        ("no manifest", "full.bin", "format", [(24, "00000000")], True),
        ("giant manifest", "full.bin", "format", [(24, "ffffffff")], True),
        ("manifest beyond the file", "full.bin", "format", [(24, "00000400")], True),
        ("manifest a byte short", "full.bin", "signature", [(24, _u32(manifest_bytes - 1))], True),
        ("reserved 28", "full.bin", "format", [(28, "01")], True),
        ("signature first byte", "full.bin", "signature", [(32, "00")], True),
        ("signature last byte", "full.bin", "signature", [(95, "ff")], True),
        ("no part present", "full.bin", "format", [(96, "00" * 8)], True),
        ("common part absent", "full.bin", "format", [(96, "0e")], True),
        ("half an engine", "full.bin", "format", [(96, "07")], True),
        ("no engine", "full.bin", "format", [(96, "01")], True),
        ("part that is not in the table", "full.bin", "format", [(96, "1f")], True),
        ("bit 63", "full.bin", "format", [(103, "80")], True),
        ("reserved 104", "full.bin", "format", [(104, "01")], True),
        ("reserved 123", "full.bin", "format", [(123, "01")], True),
        ("manifest first byte", "full.bin", "signature", [(128, "5b")], False),
        ("padding", "full.bin", "format", [(4095, "01")], False),
        ("first byte of a part", "full.bin", "part", [(4096, "00")], False),
        ("last byte of a part", "full.bin", "part", [(16384, "00")], False),
    ]
    rows: list[dict[str, object]] = [
        {
            "name": name,
            "file": file,
            "expect": expect,
            "edits": [{"at": at, "bytes": data} for at, data in changes],
            "mend_crc": mend,
            "length": size_bytes,
        }
        for name, file, expect, changes, mend in edits
    ]
    for name, length in (("cut in the header", 127), ("cut in the manifest", 200)):
        rows.append(_resized(name, length))
    rows += [_resized("cut by a byte", size_bytes - 1), _resized("a byte more", size_bytes + 1)]
    reasons = {
        "signed-by-stranger": "untrusted",
        "signed-newer-runtime": "incompatible",
        "signed-later-manifest": "incompatible",
    }
    for path in sorted(folder.glob("signed-*.bin")):
        rows.append(
            {
                "name": path.stem.replace("-", " "),
                "file": path.name,
                "expect": reasons.get(path.stem, "format"),
                "edits": [],
                "mend_crc": False,
                "length": path.stat().st_size,
            }
        )
    return rows


def _resized(name: str, length: int) -> dict[str, object]:
    return {
        "name": name,
        "file": "full.bin",
        "expect": "format",
        "edits": [],
        "mend_crc": False,
        "length": length,
    }


def _u32(value: int) -> str:
    return struct.pack("<I", value).hex()


def _write_signed_but_wrong(folder: Path) -> None:
    """A good seal over what no writer of ours makes: the reader must refuse it all the same."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "stranger.bin"
        seal_bundle(path, manifest=describe(ONNX), parts=minimal_parts(), key=STRANGER)
        (folder / "signed-by-stranger.bin").write_bytes(path.read_bytes())
    data = (folder / "minimal.bin").read_bytes()
    size_bytes = struct.unpack_from("<I", data, 24)[0]
    good = json.loads(data[128 : 128 + size_bytes])
    first, second = good["parts"]
    (model,) = good["models"]
    changes: dict[str, dict[str, object]] = {
        "doubled-part": {"parts": [first, second, second]},
        "missing-part": {"parts": [first]},
        "path-up": {"parts": [{**first, "name": "../golden.msgpack"}, second]},
        "capital-name": {"parts": [{**first, "name": "Golden.msgpack"}, second]},
        "long-name": {"parts": [{**first, "name": "g" * 65}, second]},
        "giant-part": {"parts": [first, {**second, "size_bytes": 2**40}]},
        "too-giant-part": {"parts": [first, {**second, "size_bytes": 2**40 + 1}]},
        "negative-part": {"parts": [first, {**second, "size_bytes": -1}]},
        "65-parts": {"parts": [first, second, *({**first, "name": f"p{i}"} for i in range(63))]},
        "no-part": {"parts": []},
        "doubled-model": {"models": [model, model]},
        "no-model": {"models": []},
        "later-manifest": {"format": 2},
        "foreign-part": {"parts": [first, {**second, "engine": "openvino"}]},
        "unknown-field": {"surprise": 1},
        "missing-field": {"models": [{k: v for k, v in model.items() if k != "batch"}]},
        "newer-runtime": {
            "identity": {**good["identity"], "minimum_runtime": "9999.0.0"},
            "surprise": 1,
        },
        "unproven-rule": {"evidence": _proven_up_to(0.1, good["evidence"])},
    }
    golden, model_file = (bytes(part.data) for part in minimal_parts())
    bytes_by_name = {"doubled-part": [golden, model_file, model_file], "missing-part": [golden]}
    no_bytes = ("65-parts", "no-part")
    for name, change in changes.items():
        manifest = msgspec.json.encode({**good, **change}, order="sorted")
        # Laid out as the manifest says, so that only the broken rule can be the reason.
        parts = [] if name in no_bytes else bytes_by_name.get(name, [golden, model_file])
        (folder / f"signed-{name}.bin").write_bytes(seal_raw(manifest, parts))
    (folder / "signed-not-json.bin").write_bytes(seal_raw(b"\xff{not json"))


def _proven_up_to(ok_limit: float, evidence: dict[str, object]) -> dict[str, object]:
    """Evidence whose guarantee ends before the rule's ok_limit."""
    guarantee = describe_promised(ONNX).evidence.guarantee
    return {**evidence, "guarantee": {**msgspec.to_builtins(guarantee), "ok_limit": ok_limit}}


def seal_raw(manifest_bytes: bytes, parts: Sequence[bytes] = ()) -> bytes:
    """Seal any bytes as a manifest, with these parts behind it, by hand."""
    size_bytes = len(manifest_bytes)
    signed = struct.pack("<4sHH16sII", b"LSB1", 1, 128, FACTORY.public.key_id, size_bytes, 0)
    signature = FACTORY.sign(signed + manifest_bytes)
    present = struct.pack("<Q", (1 << len(parts)) - 1)
    data = bytearray(signed + signature + present + bytes(24) + manifest_bytes)
    mend_crc(data)
    for part in parts:
        data += bytes(-len(data) % 4096) + part
    return bytes(data)


if __name__ == "__main__":
    write_vectors(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
