"""Bundles changed by whoever has the file but no key: bits, cuts, swapped and repeated parts.

Each function takes a random source and gives the bytes of one mutant.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

from bundle_vectors import VECTOR, VECTORS

from lineside.bundle.layout import MAX_MANIFEST_BYTES, align

Maker = Callable[[Random], bytes]

NAMES: Final = ("minimal", "full", "thin-onnxruntime", "thin-openvino")
GOOD: Final = tuple((VECTORS / f"{name}.bin").read_bytes() for name in NAMES)
STRANGER: Final = (VECTORS / "signed-by-stranger.bin").read_bytes()
# RFC 8032, sec. 5.1: the order of the base point. S + order is the same scalar to a lax reader.
ORDER: Final = 2**252 + 27742317777372353535851937790883648493


def manifest_end(data: bytes | bytearray) -> int:
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


def mended(data: bytes | bytearray) -> bytes:
    """With the header's CRC made right, as a forger would."""
    changed = bytearray(data)
    if len(changed) >= 128:
        struct.pack_into("<I", changed, 124, zlib.crc32(changed[:124]))
    return bytes(changed)


def perhaps_mended(random: Random, data: bytes | bytearray) -> bytes:
    return mended(data) if random.random() < 0.5 else bytes(data)


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
    return with_bodies(data, bodies, aligned=random.random() < 0.8)


def repeated_parts(random: Random) -> bytes:
    data = random.choice(GOOD)
    bodies = [data[start:stop] for start, stop in part_spans(data)]
    for _ in range(random.randint(1, 3)):
        if random.random() < 0.5:
            bodies.insert(random.randrange(len(bodies) + 1), random.choice(bodies))
        else:
            bodies[random.randrange(len(bodies))] = random.choice(bodies)
    return with_bodies(data, bodies, aligned=random.random() < 0.8)


def with_bodies(data: bytes, bodies: Sequence[bytes], *, aligned: bool) -> bytes:
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
    laid_out = with_bodies(bytes(data), bodies, aligned=True)
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


DAMAGE: Final[tuple[Maker, ...]] = (
    *(flips, truncation, extension, overwritten_blocks, swapped_parts, repeated_parts),
    *(padding, present_bits, header_fields, signatures, strangers),
)
