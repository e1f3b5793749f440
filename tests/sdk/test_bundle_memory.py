"""Verifying takes at most 16 MB of memory, whatever the bundle holds.

Counted in a process of its own, from after its imports to the peak: every page that is resident
(VmHWM), so mapped pages of the file count until they are let go; and once more by the kernel, which
refuses private memory beyond a limit (RLIMIT_DATA). The file's pages in the system's cache are
nobody's and can be taken at any time; they are not counted.
"""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from bundle_vectors import VECTOR, VECTORS, minimal

from lineside.bundle import open_bundle
from lineside.errors import BundleError

PROMISED_BYTES: Final = 16_000_000
BIG_BYTES: Final = 300_000_000
KIB_64: Final = bytes(64 * 1024)

PROBE: Final = """
import json, resource, sys
from pathlib import Path
from lineside.bundle import open_bundle
from lineside.errors import BundleError

def status_bytes(field):
    return int(Path("/proc/self/status").read_text().split(field + ":")[1].split()[0]) * 1024

way, file, public, limit = sys.argv[1:]
before = status_bytes("VmHWM")
if int(limit):
    allowed = status_bytes("VmData") + int(limit)
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
said = "opened"
try:
    if way == "read":
        Path(file).read_bytes()
    else:
        with open_bundle(file, trust=public) as bundle:
            for name in bundle.present if way == "map" else ():
                bundle.part(name)
except BundleError as error:
    said = type(error).__name__
except MemoryError:
    said = "no memory"
print(json.dumps([said, status_bytes("VmHWM") - before]))
"""


def measure(file: Path, *, way: str = "open", limit_bytes: int = 0) -> tuple[str, int]:
    """What came of it, and by how much the resident peak grew, in bytes."""
    words = [way, str(file), str(VECTORS / "factory.pub"), str(limit_bytes)]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *words], capture_output=True, text=True, check=True
    )
    said, grown_bytes = json.loads(done.stdout)
    return said, grown_bytes


def good() -> dict[str, Any]:
    data = minimal()
    manifest: dict[str, Any] = json.loads(data[128 : 128 + struct.unpack_from("<I", data, 24)[0]])
    return manifest


def write_big(file: Path, size_bytes: int) -> None:
    """A sealed bundle whose last part is all zeros: a hole, so it needs no disk."""
    digest = hashlib.sha256()
    for _ in range(size_bytes // len(KIB_64)):
        digest.update(KIB_64)
    digest.update(bytes(size_bytes % len(KIB_64)))
    manifest = good()
    part = {"name": "memory.bin", "size_bytes": size_bytes, "sha256": digest.hexdigest()}
    manifest["parts"].append({**part, "engine": ""})
    parts = [bytes(part.data) for part in VECTOR.minimal_parts()]
    # An empty third part puts the file's end at the page where the hole begins.
    data = VECTOR.seal_raw(json.dumps(manifest).encode(), [*parts, b""])
    with file.open("wb") as out:
        out.write(data)
        out.truncate(len(data) + size_bytes)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("big") / "big.lsb"
    write_big(file, BIG_BYTES)
    return file


def test_a_large_bundle_is_verified_in_little_memory(big: Path) -> None:
    said, grown_bytes = measure(big, way="map")
    assert said == "opened"
    # Measured: 5.3 MB for 300 MB and for 8 GB; mapped pages are 1 MB of it at a time.
    assert grown_bytes < 8_000_000


def test_the_kernel_gives_no_more_than_was_promised(big: Path) -> None:
    assert measure(big, way="map", limit_bytes=PROMISED_BYTES)[0] == "opened"
    # What a reader that copies would meet, so the limit is one.
    assert measure(big, way="read", limit_bytes=PROMISED_BYTES)[0] == "no memory"


def test_a_part_that_was_let_go_takes_no_memory_and_can_be_read_again(big: Path) -> None:
    def resident_kib() -> int:
        maps = Path("/proc/self/smaps").read_text().split(str(big))[1:]
        return sum(int(found.split("Rss:")[1].split()[0]) for found in maps)

    with open_bundle(big, trust=VECTORS / "factory.pub") as bundle:
        part = bundle.part("memory.bin")
        assert hashlib.sha256(part).digest() and resident_kib() * 1024 >= BIG_BYTES
        bundle.let_go("memory.bin")
        assert resident_kib() < 1024
        assert part[-1] == 0, "a view handed out stays valid"
        with pytest.raises(BundleError, match="not in this bundle"):
            bundle.let_go("another")


def compact(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def repeat_agreements(manifest: dict[str, Any], room: int) -> None:
    agreements = manifest["evidence"]["agreements"]
    manifest["evidence"]["agreements"] = agreements * (room // len(compact(agreements)))


MANIFESTS: Final[dict[str, Callable[[dict[str, Any], int], None]]] = {
    "many short keys": lambda m, room: m.update(
        provenance={f"{i:x}": "" for i in range(room // 10)}
    ),
    "many numbers": lambda m, room: m["evidence"].update(
        metrics={f"{i:x}": 0.5 for i in range(room // 11)}
    ),
    "one letter of four bytes": lambda m, room: m.update(licence="\U0001f600" + "a" * room),
    "many of a kind": repeat_agreements,
    "an unknown tower": lambda m, room: m.update(tower=[[[]] for _ in range(room // 5)]),
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_the_largest_manifests_are_decoded_in_little_memory(kind: str, tmp_path: Path) -> None:
    """Sealed by a trusted key, and as costly as 256 KiB of JSON can be."""
    manifest = good()
    MANIFESTS[kind](manifest, 2**18 - 4000)
    text = compact(manifest)
    assert 2**18 * 0.9 < len(text) <= 2**18
    parts = [bytes(part.data) for part in VECTOR.minimal_parts()]
    (tmp_path / "a.lsb").write_bytes(VECTOR.seal_raw(text, parts))
    said, grown_bytes = measure(tmp_path / "a.lsb", limit_bytes=PROMISED_BYTES)
    assert said == ("BundleFormatError" if kind == "an unknown tower" else "opened")
    # Measured: 2 to 12 MB.
    assert grown_bytes < PROMISED_BYTES
