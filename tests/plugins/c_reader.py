"""The bundle reader in C, built as its Makefile says, and held against the one in Python."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bundle_damage import GOOD, manifest_end, mended, part_spans
from bundle_vectors import KEY, TRUSTED, VECTOR

from lineside.bundle.checks import check_bundle
from lineside.errors import (
    BundleError,
    BundleFormatError,
    IncompatibleBundleError,
    PartHashError,
    SignatureError,
    UntrustedBundleError,
)

SOURCE: Final = Path(__file__).parents[2] / "firmware_bridge/c"
# docs/bundle-format.md: a reader that runs no model may pass over these; the one in C does.
PASSED_OVER: Final = ("contract", "evidence", "licence", "provenance", "rule")
CLASSES: Final = {
    BundleFormatError: "format",
    IncompatibleBundleError: "incompatible",
    UntrustedBundleError: "untrusted",
    SignatureError: "signature",
    PartHashError: "part",
}


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the reader in C said of one bundle.

    Attributes:
        result: its number in ``lsb.h``; 0 is taken.
        refusal: its class, as the format's vectors name it; "" is taken.
        fields: the rest by its first word, line by line: ``hash``, ``product``, ``part``, …
    """

    result: int
    refusal: str
    fields: dict[str, list[str]]

    @property
    def spans(self) -> dict[str, tuple[int, int]]:
        """Bytes ``[start, stop)`` of each present part."""
        rows = [row.split() for row in self.fields.get("part", [])]
        return {
            name: (int(start), int(start) + int(size))
            for name, _engine, state, start, size in rows
            if state == "present"
        }


def run_make(target: str, build: Path, *variables: str) -> str:
    """Build or try the reader outside its folder; what make printed."""
    return _run(["make", "-C", str(SOURCE), f"BUILD={build}", *variables, target])


def run_cmake(*words: str) -> None:
    """Configure or build what CMakeLists.txt says."""
    _run(["cmake", *words])


def _run(command: list[str]) -> str:
    # Under `make test` the outer make's flags would come along.
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


class CReader:
    """The tool ``lsb-read`` with address and undefined-behaviour sanitizers, and a trusted key."""

    def __init__(self, build: Path) -> None:
        run_make(f"{build}/lsb-read", build)
        self._tool = build / "lsb-read"
        self._key = build / "factory.raw"
        self._key.write_bytes(KEY.public.raw)

    def judge(self, bundles: Iterable[bytes], *options: str) -> list[Told]:
        """What it says of each, in one process; a sanitizer that speaks up is a failure."""
        stream = b"".join(struct.pack("<Q", len(data)) + data for data in bundles)
        command = [str(self._tool), *options, "-", str(self._key)]
        done = subprocess.run(command, input=stream, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()[-5000:]
        return [_parse(block) for block in done.stdout.decode().split("\n\n")[:-1]]

    def run(self, file: Path) -> subprocess.CompletedProcess[str]:
        """The tool as typed for one file."""
        command = [str(self._tool), str(file), str(self._key)]
        return subprocess.run(command, capture_output=True, text=True, check=False)


def _parse(block: str) -> Told:
    fields: dict[str, list[str]] = {}
    for line in block.splitlines():
        name, _, rest = line.partition(" ")
        fields.setdefault(name, []).append(rest)
    return Told(result=int(fields.pop("result")[0]), refusal=fields.pop("class")[0], fields=fields)


def python_refusal(data: bytes) -> str:
    """The class of the refusal by ``lineside.bundle``; "" where it takes the bundle."""
    try:
        check_bundle(memoryview(data), trusted=TRUSTED, source="x.lsb")
    except BundleError as error:
        return next(name for kind, name in CLASSES.items() if isinstance(error, kind))
    return ""


def _keep_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A key that stands there twice is a fault that must not get lost on the way."""
    found = dict(pairs)
    return found if len(found) == len(pairs) else {**found, "a key stands here": "twice"}


def with_sound_rest(data: bytes) -> bytes:
    """The same bundle with sound values in the place of what the reader in C passes over.

    Of a bundle that it took, so its manifest is JSON and its parts lie where the table says.
    """
    manifest: dict[str, Any] = json.loads(
        data[128 : manifest_end(data)], object_pairs_hook=_keep_doubles
    )
    sound = json.loads(GOOD[1][128 : manifest_end(GOOD[1])])
    for name in PASSED_OVER:
        manifest[name] = sound[name]
    parts = [data[start:stop] for start, stop in part_spans(data)]
    text = json.dumps(manifest, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    sealed = bytearray(VECTOR.seal_raw(text.encode(), parts))
    sealed[96:104] = data[96:104]
    return mended(sealed)


@dataclass
class Comparison:
    """Two readers over the same bundles.

    Attributes:
        bundles: how many.
        refusals: how many both refused, by the class that Python names.
        other_class: how many both refused for another reason, by maker and both classes.
        passed_over: how many C took, because what is wrong lies in what it passes over, by maker.
        differ: what should not be: maker and number of each that one takes and the other does not.
    """

    bundles: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    other_class: Counter[str] = field(default_factory=Counter)
    passed_over: Counter[str] = field(default_factory=Counter)
    differ: list[str] = field(default_factory=list)


def compare(reader: CReader, mutants: Sequence[tuple[str, bytes]]) -> Comparison:
    """Hold both readers against each other.

    Args:
        mutants: the maker's name and the bytes.
    """
    found = Comparison(bundles=len(mutants))
    told = reader.judge(data for _, data in mutants)
    for number, ((maker, data), said) in enumerate(zip(mutants, told, strict=True)):
        expected = python_refusal(data)
        if expected and said.refusal:
            found.refusals[expected] += 1
            if expected != said.refusal:
                found.other_class[f"{maker}: {expected}, in C {said.refusal}"] += 1
        elif expected and python_refusal(with_sound_rest(data)) == "":
            found.passed_over[maker] += 1
        elif expected or said.refusal:
            found.differ.append(f"{maker} {number}: {expected!r}, in C {said.refusal!r}")
    return found
