"""Bundles that must be refused, made by the thousand: `python bundle_fuzzer.py --count N --seed S`.

Each mutant is a good bundle that was changed by one kind of damage or lie. Half of the kinds seal
what they changed by a trusted key, because the signature would hide everything behind it. A mutant
that came out as one of the good files, byte for byte, is drawn again: those alone may be opened.

Prints one JSON document. A case is made again by its seed and number alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Final

from bundle_vectors import TRUSTED, VECTOR, VECTORS

from lineside.bundle import open_bundle
from lineside.bundle.checks import check_bundle
from lineside.bundle.layout import MAX_MANIFEST_BYTES, align
from lineside.errors import BundleError

CASE_LIMIT_S: Final = 5.0
MAX_MESSAGE_LETTERS: Final = 1000
# How much the process may grow once warm: what verifying is promised, and the mutants themselves.
MEMORY_BYTES: Final = 16_000_000 + 8_000_000
FILE_SHARE: Final = 20  # every so many goes through a real file, as a device opens it

NAMES: Final = ("minimal", "full", "thin-onnxruntime", "thin-openvino")
GOOD: Final = tuple((VECTORS / f"{name}.bin").read_bytes() for name in NAMES)
STRANGER: Final = (VECTORS / "signed-by-stranger.bin").read_bytes()
# RFC 8032, sec. 5.1: the order of the base point. S + order is the same scalar to a lax reader.
ORDER: Final = 2**252 + 27742317777372353535851937790883648493


# --- a good bundle, taken apart -------------------------------------------------------------------


def manifest_end(data: bytes) -> int:
    return 128 + int.from_bytes(data[24:28], "little")


def whole() -> tuple[dict[str, Any], list[bytes]]:
    """Manifest and parts of the bundle with both engines."""
    manifest: dict[str, Any] = json.loads(GOOD[1][128 : manifest_end(GOOD[1])])
    return manifest, [bytes(part.data) for part in VECTOR.full_parts()]


def part_spans(data: bytes) -> list[tuple[int, int]]:
    manifest = json.loads(data[128 : manifest_end(data)])
    end, spans = manifest_end(data), []
    for index, part in enumerate(manifest["parts"]):
        if data[96] >> index & 1:
            start = align(end)
            end = start + part["size_bytes"]
            spans.append((start, end))
    return spans


def sealed(manifest: object, parts: Sequence[bytes]) -> bytes:
    """By a trusted key."""
    text = json.dumps(manifest, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return seal_text(text.encode("utf-8", "surrogatepass"), parts)


def seal_text(text: bytes, parts: Sequence[bytes]) -> bytes:
    data: bytes = VECTOR.seal_raw(text, parts[:64])
    return data


def mended(data: bytes | bytearray) -> bytes:
    """With the header's CRC made right, as a forger would."""
    changed = bytearray(data)
    if len(changed) >= 128:
        struct.pack_into("<I", changed, 124, zlib.crc32(changed[:124]))
    return bytes(changed)


def perhaps_mended(random: Random, data: bytes | bytearray) -> bytes:
    return mended(data) if random.random() < 0.5 else bytes(data)


# --- damage: whoever has the file, without a key --------------------------------------------------


def flips(random: Random) -> bytes:
    data = bytearray(random.choice(GOOD))
    area = random.choice((32, 128, manifest_end(data), len(data)))
    for _ in range(random.choice((1, 1, 1, 2, 8, 64))):
        data[random.randrange(area)] ^= 1 << random.randrange(8)
    return perhaps_mended(random, data)


def truncation(random: Random) -> bytes:
    data = random.choice(GOOD)
    edges = (
        0,
        4,
        127,
        128,
        manifest_end(data),
        *(edge for span in part_spans(data) for edge in span),
    )
    near = random.choice(edges) + random.randint(-2, 2)
    length = random.choice((near, random.randrange(len(data))))
    return data[: max(0, min(length, len(data) - 1))]


def extension(random: Random) -> bytes:
    data = random.choice(GOOD)
    size = random.choice((1, 2, 4095, 4096, random.randrange(1, 20_000)))
    return data + random.choice((bytes(size), random.randbytes(size), data[:size], data[-size:]))


def overwritten_blocks(random: Random) -> bytes:
    data = bytearray(random.choice(GOOD))
    for _ in range(random.randint(1, 4)):
        start = random.randrange(len(data))
        size = random.randrange(1, 5000)
        donor = random.choice(GOOD)
        at = random.randrange(len(donor))
        new = random.choice((bytes(size), random.randbytes(size), donor[at : at + size]))
        if random.random() < 0.5:
            new = new[: len(data) - start]
            data[start : start + len(new)] = new
        else:
            data[start : start + random.randrange(5000)] = new
    return perhaps_mended(random, data)


def swapped_parts(random: Random) -> bytes:
    data = GOOD[1]
    spans = part_spans(data)
    bodies = [data[start:stop] for start, stop in spans]
    random.shuffle(bodies)
    return _with_bodies(data, bodies, aligned=random.random() < 0.8)


def repeated_parts(random: Random) -> bytes:
    data = random.choice(GOOD)
    bodies = [data[start:stop] for start, stop in part_spans(data)]
    for _ in range(random.randint(1, 3)):
        if random.random() < 0.5:
            bodies.insert(random.randrange(len(bodies) + 1), random.choice(bodies))
        else:
            bodies[random.randrange(len(bodies))] = random.choice(bodies)
    return _with_bodies(data, bodies, aligned=random.random() < 0.8)


def _with_bodies(data: bytes, bodies: Sequence[bytes], *, aligned: bool) -> bytes:
    out = bytearray(data[: manifest_end(data)])
    for body in bodies:
        out += bytes(align(len(out)) - len(out) if aligned else 0) + body
    return bytes(out)


def padding(random: Random) -> bytes:
    data = bytearray(random.choice(GOOD))
    end = manifest_end(data)
    for start, stop in part_spans(bytes(data)):
        if start > end and random.random() < 0.7:
            data[random.randrange(end, start)] = random.randrange(256)
        end = stop
    return bytes(data)


def present_bits(random: Random) -> bytes:
    data = bytearray(random.choice(GOOD))
    bits = random.choice((random.randrange(16), random.getrandbits(64), 1 << random.randrange(64)))
    struct.pack_into("<Q", data, 96, bits)
    bodies = [body for index, body in enumerate(whole()[1]) if bits >> index & 1]
    laid_out = _with_bodies(bytes(data), bodies, aligned=True)
    return mended(laid_out if random.random() < 0.5 else data)


def header_fields(random: Random) -> bytes:
    data = bytearray(random.choice(GOOD))
    at, form, values = random.choice(
        (
            (0, "<I", (0, random.getrandbits(32))),
            (4, "<H", (0, 2, 0x0100, 0xFFFF)),
            (6, "<H", (0, 127, 129, 0xFFFF)),
            (24, "<I", _near(manifest_end(data) - 128, len(data) - 128, random)),
            (28, "<I", (1, 2**31, random.randrange(1, 2**32))),
            (104 + random.randrange(20), "<B", (1, 255)),
        )
    )
    struct.pack_into(form, data, at, random.choice(values) % 2 ** (8 * struct.calcsize(form)))
    return mended(data)


def _near(truth: int, room: int, random: Random) -> tuple[int, ...]:
    near = (0, 1, truth - 1, truth + 1, truth + 4096, room, room + 1, random.randrange(room))
    return (*near, MAX_MANIFEST_BYTES, MAX_MANIFEST_BYTES + 1, 2**31, 2**32 - 1)


def signatures(random: Random) -> bytes:
    data = bytearray(random.choice(GOOD))
    scalar = int.from_bytes(data[64:96], "little")
    kind = random.randrange(5)
    if kind == 0:  # the malleable twin; up to 2**256 it fits fifteen times
        data[64:96] = (scalar + ORDER * random.randint(1, 14)).to_bytes(32, "little")
    elif kind == 1:
        data[32:96] = random.randbytes(64)
    elif kind == 2:
        data[32:96] = random.choice((bytes(64), b"\xff" * 64, b"\x01" + bytes(63)))
    elif kind == 3:
        data[32:64], data[64:96] = data[64:96], data[32:64]
    else:
        data[32:96] = random.choice([good for good in (*GOOD, STRANGER) if good != data])[32:96]
    if bytes(data[32:96]) in [good[32:96] for good in GOOD]:
        data[33] ^= 1  # a thin copy has the signature of the whole one
    return mended(data)


def strangers(random: Random) -> bytes:
    data = bytearray(STRANGER)
    if random.random() < 0.5:
        data[8:24] = VECTOR.FACTORY.public.key_id
    if random.random() < 0.5:
        data[8 + random.randrange(16)] ^= 1 << random.randrange(8)
    return mended(data)


# --- lies: sealed by a trusted key ----------------------------------------------------------------

FREE: Final = ("provenance", "metrics", "sample_counts", "wishes")
NULLABLE: Final = ("size_hw", "proposed_rule", "decision", "guarantee")
SIZES: Final = (-(2**63), -1, 2**31, 2**32, 2**40, 2**40 + 1, 2**53, 2**63, 2**64, 2**70, 10**300)


def lying_sizes(random: Random) -> bytes:
    manifest, parts = whole()
    index = random.randrange(len(parts))
    truth = len(parts[index])
    lie = random.choice((*SIZES, truth + 1, truth - 1, truth + 4096, random.randrange(30_000)))
    lie = lie if lie != truth else truth + 1
    manifest["parts"][index]["size_bytes"] = lie
    if 0 <= lie < 100_000 and random.random() < 0.5:
        parts[index] = parts[index][:lie].ljust(lie, b"\0")
    elif random.random() < 0.3:
        manifest["parts"][index]["size_bytes"] = random.choice(
            (float(truth) + 0.5, str(truth), None)
        )
    return sealed(manifest, parts)


def lying_hashes(random: Random) -> bytes:
    manifest, parts = whole()
    entries = manifest["parts"]
    entry = random.choice(entries)
    others = [other["sha256"] for other in entries if other is not entry]
    digit = random.randrange(64)
    turned = f"{int(entry['sha256'][digit], 16) ^ random.randint(1, 15):x}"
    entry["sha256"] = random.choice(
        (
            *others,
            entry["sha256"][:digit] + turned + entry["sha256"][digit + 1 :],
            random.choice(("", "0" * 63, "0" * 65, "g" * 64, "0" * 64 + "\n", "0" * 64)),
            entry["sha256"][:-1] + "A",
        )
    )
    return sealed(manifest, parts)


def lying_offsets(random: Random) -> bytes:
    """The format has none; a reader that took one from a field would be led astray."""
    manifest, parts = whole()
    for entry in random.sample(manifest["parts"], random.randint(1, 4)):
        key = random.choice(("offset", "start", "at", "stop", "offset_bytes"))
        entry[key] = random.choice((0, 128, 4096, -1, 2**64, random.randrange(30_000)))
    return sealed(manifest, parts)


def overlapping_parts(random: Random) -> bytes:
    """Two entries for one stretch of the file, or the second in the tail of the first."""
    manifest, parts = whole()
    entries = manifest["parts"]
    index = random.randrange(3)
    way = random.randrange(3)
    if way == 0:  # the same part twice, in one stretch
        copy = dict(entries[index], name=random.choice((entries[index]["name"], "twin")))
        entries.insert(index, copy)
        data = bytearray(sealed(manifest, parts))
        struct.pack_into("<Q", data, 96, (1 << len(entries)) - 1)
        return mended(data)
    if way == 1:  # nothing between the parts
        data = bytearray(sealed(manifest, []))
        struct.pack_into("<Q", data, 96, 15)
        return _with_bodies(mended(data), parts, aligned=False)
    sizes = [len(body) for body in parts]  # the first reaches into the second
    entries[index]["size_bytes"] = align(sizes[index] + 1) + random.randrange(1, 4096)
    return sealed(manifest, parts)


def tables(random: Random) -> bytes:
    manifest, parts = whole()
    entries = manifest["parts"]
    way = random.randrange(6)
    if way == 0:
        random.shuffle(entries)
        if [entry["name"] for entry in entries] == [p.name for p in VECTOR.full_parts()]:
            entries.reverse()
    elif way == 1:
        del entries[random.randrange(len(entries))]
    elif way == 2:
        entries += [dict(entries[0], name=f"p{i}") for i in range(random.randint(61, 300))]
    elif way == 3:
        entry = random.choice(entries[1:])
        entry["engine"] = random.choice(("", "abacus", "openvino ", None, 1, "OPENVINO"))
        if entry["engine"] == "":
            manifest["models"] = []
    elif way == 4:
        models = manifest["models"]
        models.append(random.choice((models[0], dict(models[1], parts=["nowhere"]))))
    else:
        model = random.choice(manifest["models"])
        model["parts"] = random.choice(([], ["nowhere"], [""], [entries[0]["name"]] * 65, "golden"))
    return sealed(manifest, parts)


NAMES_REFUSED: Final = (
    *("", ".", "..", "../a", "a/../b", "/a", "a/", "a//b", "A", "a b", "a\n", "a\0", ".a", "-a"),
    *(
        "a\\b",
        "c:",
        "é",
        "a\u0301",
        "\u202ea",
        "\ud800",
        "a" * 65,
        "a/" * 40 + "a",
        "٣",
        "a" * 9999,
    ),
)


def names(random: Random) -> bytes:
    manifest, parts = whole()
    index = random.randrange(len(parts))
    old, new = manifest["parts"][index]["name"], random.choice(NAMES_REFUSED)
    manifest["parts"][index]["name"] = new
    for model in manifest["models"]:
        model["parts"] = [new if name == old else name for name in model["parts"]]
    return sealed(manifest, parts)


Place = tuple[Any, Any]


def places(value: Any) -> list[Place]:
    """Every (holder, key) below."""
    found: list[Place] = []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        found.append((value, key))
        if isinstance(inner, (dict, list)):
            found += places(inner)
    return found


def objects(value: Any, key: str = "") -> list[dict[str, Any]]:
    """Every object whose keys are the format's, not the writer's own."""
    found = [value] if isinstance(value, dict) and key not in FREE else []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for inner_key, inner in items:
        if isinstance(inner, (dict, list)):
            found += objects(inner, str(inner_key))
    return found


WRONG: Final[dict[type, tuple[Any, ...]]] = {
    str: (0, 1.5, True, None, [], {}),
    bool: (0, "true", None, [], {}),
    int: ("1", None, True, [], {}, [1]),
    float: ("1.0", None, True, [], {}),
    list: ("x", 1, True, {}, {"0": 1}),
    dict: (None, 1, "x", True, []),
    type(None): ("x", 1, True, []),
}


def wrong_kinds(random: Random) -> bytes:
    manifest, parts = whole()
    holder, key = random.choice(places(manifest))
    wrong = WRONG[type(holder[key])]
    holder[key] = random.choice(
        [value for value in wrong if value is not None or key not in NULLABLE]
    )
    return sealed(manifest, parts)


def missing_and_unknown_fields(random: Random) -> bytes:
    manifest, parts = whole()
    for _ in range(random.choice((1, 1, 3))):
        holder = random.choice(objects(manifest))
        if random.random() < 0.5 and holder:
            del holder[random.choice(list(holder))]
        else:
            key = random.choice(("x", "", "\0", "Parts", "format ", "é", "k" * 3000, "__class__"))
            holder[key] = random.choice((None, 1, "x", [], {}, [[[]]]))
    return sealed(manifest, parts)


LIMITS: Final[dict[tuple[str | int, ...], tuple[Any, ...]]] = {
    ("format",): (0, 2, -1, 2**64, "1"),
    ("identity", "product"): ("", "x" * 201),
    ("identity", "version"): ("", "x" * 201),
    ("identity", "security_counter"): (-1, 2**32, 2**64, 1e300, 0.5),
    ("identity", "target"): ("", "../x", "A", "a" * 65, "a b", "é"),
    ("identity", "minimum_runtime"): (
        *("", "0", "0.1", "0.1.0.0", "9999.0.0", "0.1.00000", "-1.0.0", "0.1.0\n", " 0.1.0"),
        *("0.1.x", "٠.١.٠", "０.１.０", "1" * 5000 + ".0.0", "²"),
    ),
    ("contract", "version"): (0, 2, -1),
    ("contract", "frame", "size_hw"): ([], [64], [64, 64, 64], [0, 64], [-1, 64], [16385, 64]),
    ("contract", "frame", "channels"): (0, 2, 4, -1),
    ("contract", "frame", "bit_depth"): (0, 1, 12, 32),
    ("contract", "frame", "window"): ([0, 0], [5, 4], [-1, 5], [0, 65536], [0]),
    ("contract", "input", "channels"): (0, 2, 4),
    ("contract", "head", "kind"): ("", "oracle", "Regression"),
    ("contract", "head", "output"): ("", "nowhere"),
    ("contract", "outputs"): ([],),
    ("models", 0, "batch"): (0, -1, 4097, 2**64),
    ("models", 0, "engine"): ("", "abacus", "openvino\0"),
    ("models", 0, "precision"): ("", "INT8", "int8 ", "x" * 65),
    ("models", 0, "inference_precision"): ("", "F32", "f33"),
    ("rule", "worse"): ("", "both", "HIGHER"),
    ("rule", "ok_limit"): (0.26, 1e300),
    ("evidence", "samples_sha256"): ("", "0" * 63, "G" * 64, "0" * 65),
    ("evidence", "agreements", 0, "samples"): (-1, 2**53, 2**64, 0.5),
    ("evidence", "agreements", 0, "max_abs_drift"): (-1.0, -1e-9),
    ("evidence", "agreements", 0, "engine"): ("", "A"),
}


def beyond_limits(random: Random) -> bytes:
    manifest, parts = whole()
    path, values = random.choice(list(LIMITS.items()))
    holder: Any = manifest
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = random.choice(values)
    return sealed(manifest, parts)


def encodings(random: Random) -> bytes:
    text = GOOD[1][128 : manifest_end(GOOD[1])]
    cut = random.randrange(1, len(text))
    changed = random.choice(
        (
            b"\xef\xbb\xbf" + text,
            text.decode().encode("utf-16"),
            text.decode().encode("utf-32-le"),
            text.decode().encode("latin-1"),
            text + random.choice((b"\0", b"}", b"{}", b"//", b",", text)),
            random.choice((b"\0", b"[", b"//x\n")) + text,
            text[:cut],
            text[cut:],
            text.replace(b'"', b"'"),
            text.replace(b"led-joint", b"led\njoint", 1),
            text.replace(b"led-joint", random.choice((b"\xff", b"\xed\xa0\x80", b"\xc0\xaf")), 1),
            text.replace(b"led-joint", random.choice((b"\\ud800", b"\\x41", b"\\u00g0", b"\\")), 1),
            text.replace(
                b"0.25", random.choice((b"NaN", b"Infinity", b"1e999", b"-1e999", b".25"))
            ),
            text.replace(b"0.25", random.choice((b"0x1", b"00.25", b"+0.25", b"1_0", b"0.25f"))),
            text.replace(b'"licence":', b'"licence":"MIT","licence":'),
            random.randbytes(random.randrange(1, 300)),
        )
    )
    return seal_text(changed if changed != text else text + b"]", whole()[1])


# --- giants: few, because each costs --------------------------------------------------------------


def giants(random: Random) -> bytes:
    manifest, parts = whole()
    room = MAX_MANIFEST_BYTES - 4000
    way = random.randrange(9)
    if way == 0:
        return seal_text(random.choice((b"[", b'{"a":', b"[[],")) * (room // 6), parts)
    if way == 1:
        manifest["provenance"] = {f"{i:x}": "" for i in range(room // 10)}
        manifest["surprise"] = 1
    elif way == 2:
        manifest["k" * random.randrange(room)] = 1
    elif way == 3:
        manifest["licence"] = "\U0001f600" + "a" * random.choice((room - 10, MAX_MANIFEST_BYTES))
        manifest["format"] = random.choice((1, 2)) if len(manifest["licence"]) > room else 2
    elif way == 4:
        manifest["parts"] = [dict(manifest["parts"][0], name=f"p{i}") for i in range(room // 130)]
    elif way == 5:
        text = json.dumps(manifest).replace(
            '"security_counter": 3', '"security_counter": ' + "7" * room
        )
        return seal_text(text.encode(), parts)
    elif way == 6:
        manifest["identity"]["minimum_runtime"] = random.choice(("9" * room, "1." * (room // 2)))
    elif way == 7:
        manifest["parts"][0]["name"] = random.choice(
            ("a/" * (room // 2), "a" * room, "a" * room + "!")
        )
    else:
        data = bytearray(GOOD[1]) + bytes(random.randrange(2 * MAX_MANIFEST_BYTES))
        struct.pack_into("<I", data, 24, random.randrange(2000, 2 * MAX_MANIFEST_BYTES))
        return mended(data)
    return sealed(manifest, parts)


Maker = Callable[[Random], bytes]
DAMAGE: Final[tuple[Maker, ...]] = (
    *(flips, truncation, extension, overwritten_blocks, swapped_parts, repeated_parts),
    *(padding, present_bits, header_fields, signatures, strangers),
)
LIES: Final[tuple[Maker, ...]] = (
    *(lying_sizes, lying_hashes, lying_offsets, overlapping_parts, tables, names),
    *(wrong_kinds, missing_and_unknown_fields, beyond_limits, encodings),
)
MAKERS: Final = (*DAMAGE, *LIES, giants)
GIANT_SHARE: Final = 100  # one in so many


def make_mutant(seed: int, number: int) -> tuple[str, bytes]:
    """The kind and the bytes of one case; never one of the good files."""
    random = Random(f"{seed} {number}")
    maker = giants if number % GIANT_SHARE == 0 else MAKERS[number % (len(MAKERS) - 1)]
    while (data := maker(random)) in GOOD:
        pass
    return maker.__name__, data


# --- the run --------------------------------------------------------------------------------------


def _open(data: bytes, number: int, file: Path) -> None:
    if number % FILE_SHARE:
        check_bundle(memoryview(data), trusted=TRUSTED, source=str(file))
    else:
        file.write_bytes(data)
        open_bundle(file, trust=TRUSTED).close()


def _judge(data: bytes, number: int, file: Path) -> str:
    """The name of the refusal, or what is wrong with it, beginning with ``!``."""
    try:
        _open(data, number, file)
    except BundleError as error:
        words = str(error)
        if (
            words.startswith(f"{file}: ")
            and words.isprintable()
            and len(words) < MAX_MESSAGE_LETTERS
        ):
            return type(error).__name__
        return f"! told in {len(words)} letters: {words[:200]!r}"
    return "! was opened"


def _ring(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"no answer after {CASE_LIMIT_S} s")


def _status_bytes(field: str) -> int:
    return int(Path("/proc/self/status").read_text().split(field + ":")[1].split()[0]) * 1024


def _judge_in_time(data: bytes, number: int, file: Path) -> tuple[str, float]:
    """The refusal, and the CPU time it took, in seconds; no answer at all ends the run."""
    started_s = time.process_time()
    signal.setitimer(signal.ITIMER_REAL, CASE_LIMIT_S)
    try:
        found = _judge(data, number, file)
    except Exception as error:
        raise AssertionError(f"case {number}: {error!r}") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return found, time.process_time() - started_s


def run(count: int, seed: int, folder: Path) -> dict[str, Any]:
    """Judge so many mutants; memory beyond the limit is refused by the kernel meanwhile."""
    file = folder / "mutant.lsb"
    signal.signal(signal.SIGALRM, _ring)
    for warm_up in range(300):
        _judge_in_time(make_mutant(seed + 1, warm_up)[1], warm_up, file)
    before_bytes = _status_bytes("VmHWM")
    allowed = _status_bytes("VmData") + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
    refusals: dict[str, Counter[str]] = {maker.__name__: Counter() for maker in MAKERS}
    wrong: list[str] = []
    slowest = (0.0, "")
    for number in range(count):
        kind, data = make_mutant(seed, number)
        found, took_s = _judge_in_time(data, number, file)
        slowest = max(slowest, (took_s, f"{kind} {number}"))
        if found.startswith("!"):
            wrong.append(f"{kind} {number}: {found}")
        else:
            refusals[kind][found] += 1
    return {
        "seed": seed,
        "refused": sum(found.total() for found in refusals.values()),
        "refusals": refusals,
        "wrong": wrong[:50],
        "slowest_s": slowest,
        "grown_bytes": _status_bytes("VmHWM") - before_bytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = run(told.count, told.seed, Path(folder))
    json.dump(report, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
