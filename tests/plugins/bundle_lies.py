"""Bundles sealed by a trusted key that lie all the same: sizes, hashes, names, kinds, and giants.

Each function takes a random source and gives the bytes of one mutant.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from random import Random
from typing import Any, Final

from bundle_damage import GOOD, Maker, manifest_end, mended, whole, with_bodies
from bundle_vectors import VECTOR

from lineside.bundle.layout import MAX_MANIFEST_BYTES, align

FREE: Final = ("provenance", "metrics", "sample_counts", "wishes")
NULLABLE: Final = ("size_hw", "proposed_rule", "memory", "decision", "overkill_bound", "guarantee")
# A whole number is a number as well.
NUMBER_OR_NULL: Final = ("overkill_bound",)
SIZES: Final = (-(2**63), -1, 2**31, 2**32, 2**40, 2**40 + 1, 2**53, 2**63, 2**64, 2**70, 10**300)


def sealed(manifest: object, parts: Sequence[bytes]) -> bytes:
    """By a trusted key."""
    text = json.dumps(manifest, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return seal_text(text.encode("utf-8", "surrogatepass"), parts)


def seal_text(text: bytes, parts: Sequence[bytes]) -> bytes:
    data: bytes = VECTOR.seal_raw(text, parts[:64])
    return data


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
        return with_bodies(mended(data), parts, aligned=False)
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
    fitting: list[Any] = [None] if key in NULLABLE else []
    fitting += [1] if key in NUMBER_OR_NULL else []
    holder[key] = random.choice(
        [value for value in wrong if not any(value is right for right in fitting)]
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


LIES: Final[tuple[Maker, ...]] = (
    *(lying_sizes, lying_hashes, lying_offsets, overlapping_parts, tables, names),
    *(wrong_kinds, missing_and_unknown_fields, beyond_limits, encodings),
)
