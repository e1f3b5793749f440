"""What the reader costs on a Cortex-M4: flash, memory of an open bundle, and the deepest stack.

Needs Debian's gcc-arm-none-eabi and Python alone. `make cortex-m` prints a table; ``--json`` the
same as one document, which ``benchmarks/c_reader_size.py`` records.

Stack is the sum of the frames along the worst chain of calls, as the compiler reports both
(``-fcallgraph-info=su``). Calls through pointers are the firmware's own functions: what those take
comes on top, at the depth that is told.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
PREFIX: Final = "arm-none-eabi-"
FLAGS: Final = (
    *("-mcpu=cortex-m4", "-mthumb", "-Os", "-std=c99", "-ffreestanding"),
    *("-ffunction-sections", "-fdata-sections", "-fstack-usage", "-fcallgraph-info=su"),
    *("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Werror"),
)
INDIRECT: Final = "__indirect_call"
# What firmware calls; lsb_tell and lsb_class are words for logs, told apart.
ENTRIES: Final = (
    *("lsb_open", "lsb_open_unhashed", "lsb_find_part", "lsb_check_part", "lsb_load_part"),
    *("lsb_read_part", "lsb_read_texts", "lsb_is_for"),
)
WORDS: Final = ("lsb_tell", "lsb_class")
BUILDS: Final[dict[str, tuple[str, ...]]] = {
    "default": (),
    "8 parts, 2 models": ("-DLSB_MAX_PARTS=8", "-DLSB_MAX_MODELS=2"),
    "8 parts, 2 models, chunks of 64": (
        *("-DLSB_MAX_PARTS=8", "-DLSB_MAX_MODELS=2", "-DLSB_CHUNK_BYTES=64"),
    ),
}
_NODE: Final = re.compile(r'node: \{ title: "([^"]+)" label: "[^"]*?\\n(\d+) bytes \(static\)')
_ANY_NODE: Final = re.compile(r'node: \{ title: "([^"]+)" label: "[^"]*?bytes \(([^)]+)\)')
_EDGE: Final = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"')


@dataclass(frozen=True, kw_only=True)
class Calls:
    """Who calls whom, and how large each function's frame is.

    Attributes:
        frames: bytes by function.
        callees: by function; `INDIRECT` stands for the firmware's own.
    """

    frames: Mapping[str, int]
    callees: Mapping[str, frozenset[str]]

    def deepest(self, function: str, above: tuple[str, ...] = ()) -> int:
        """Bytes of stack from this function on, without the firmware's own functions.

        Raises:
            ValueError: a function calls itself, so nobody can say.
        """
        if function in above:
            raise ValueError(f"recursion: {' > '.join((*above, function))}")
        deeper = [
            self.deepest(callee, (*above, function))
            for callee in self.callees.get(function, frozenset())
            if callee in self.frames
        ]
        return self.frames[function] + max(deeper, default=0)

    def depth_at_pointers(self, function: str) -> dict[str, int]:
        """By function that calls through a pointer: bytes of stack in use when it does."""
        found: dict[str, int] = {}
        self._walk(function, 0, found)
        return found

    def _walk(self, function: str, above: int, found: dict[str, int]) -> None:
        depth = above + self.frames[function]
        callees = self.callees.get(function, frozenset())
        if INDIRECT in callees:
            found[function] = max(depth, found.get(function, 0))
        for callee in callees:
            if callee in self.frames:
                self._walk(callee, depth, found)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def _compile(sources: Sequence[Path], defines: Sequence[str], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for source in sources:
        target = folder / (source.stem + ".o")
        include = ("-Iinclude", "-Isrc", "-Iadapters")
        _run(f"{PREFIX}gcc", *FLAGS, *defines, *include, "-c", str(source), "-o", str(target))
        made.append(target)
    return made


def read_calls(folder: Path) -> Calls:
    """The call graph of everything that was compiled into the folder.

    Raises:
        ValueError: a frame whose size is not known when compiling.
    """
    text = "\n".join(file.read_text() for file in sorted(folder.glob("*.ci")))
    frames = {name: int(size) for name, size in _NODE.findall(text)}
    unknown = [name for name, kind in _ANY_NODE.findall(text) if kind != "static"]
    if unknown:
        raise ValueError(f"frames without a fixed size: {', '.join(unknown)}")
    callees: dict[str, set[str]] = {}
    for caller, callee in _EDGE.findall(text):
        callees.setdefault(caller, set()).add(callee)
    return Calls(frames=frames, callees={name: frozenset(found) for name, found in callees.items()})


def flash_bytes(objects: Sequence[Path], entries: Sequence[str], target: Path) -> int:
    """Code and constants that these entries keep, after the linker dropped the rest."""
    keep = [f"-Wl,--undefined={entry}" for entry in entries]
    _run(
        *(f"{PREFIX}gcc", "-mcpu=cortex-m4", "-mthumb", "-nostdlib", "-Wl,--gc-sections"),
        *("-Wl,--entry=0", "-Wl,--unresolved-symbols=ignore-all", *keep),
        *(*map(str, objects), "-lgcc", "-o", str(target)),
    )
    text, data = _run(f"{PREFIX}size", str(target)).splitlines()[1].split()[:2]
    return int(text) + int(data)


def needed_symbols(objects: Sequence[Path], target: Path) -> list[str]:
    """What the reader asks of the C library or the compiler's."""
    _run(f"{PREFIX}ld", "-r", *map(str, objects), "-o", str(target))
    return sorted(line.split()[-1] for line in _run(f"{PREFIX}nm", "-u", str(target)).splitlines())


def struct_bytes(defines: Sequence[str], folder: Path) -> int:
    """The memory of one open bundle, its buffer and SHA-256 state included."""
    source = folder / "sizes.c"
    folder.mkdir(parents=True, exist_ok=True)
    source.write_text('#include "lsb.h"\nchar bundle_size[sizeof(struct lsb_bundle)];\n')
    (made,) = _compile([source], defines, folder / "sizes")
    return int(_run(f"{PREFIX}nm", "-S", str(made)).split()[1], 16)


def measure(build: Path, defines: Sequence[str]) -> dict[str, Any]:
    """One build of the reader."""
    objects = _compile(sorted((HERE / "src").glob("*.c")), defines, build)
    calls = read_calls(build)
    at_pointers = calls.depth_at_pointers("lsb_open")
    return {
        "flash_bytes": flash_bytes(objects, ENTRIES, build / "kept.elf"),
        "flash_of_words_bytes": flash_bytes(objects, WORDS, build / "words.elf"),
        "bundle_bytes": struct_bytes(defines, build),
        "stack_bytes": {entry: calls.deepest(entry) for entry in ENTRIES},
        "stack_below_ed25519_bytes": at_pointers["lsb_check_seal"],
        "stack_below_read_and_sha256_bytes": max(
            depth for name, depth in at_pointers.items() if name != "lsb_check_seal"
        ),
        "needs": needed_symbols(objects, build / "whole.o"),
    }


def with_monocypher(build: Path, folder: Path) -> dict[str, Any]:
    """The reader and Monocypher's Ed25519: flash, and the stack that verifying takes."""
    ours = [*sorted((HERE / "src").glob("*.c")), HERE / "adapters/lsb_monocypher.c"]
    theirs = [folder / "monocypher.c", folder / "monocypher-ed25519.c"]
    objects = _compile(ours, (f"-I{folder}",), build)
    objects += _compile(theirs, (f"-I{folder}", "-w"), build)
    calls = read_calls(build)
    entry = "lsb_monocypher_ed25519_holds"
    return {
        "version": (folder / "monocypher.c").read_text().splitlines()[0].split()[-1],
        "flash_bytes": flash_bytes(objects, (*ENTRIES, entry), build / "kept.elf"),
        "ed25519_stack_bytes": calls.deepest(entry),
    }


def measure_all(build: Path, monocypher: Path | None = None) -> dict[str, Any]:
    """Every build, as one document."""
    build = build.resolve()
    found: dict[str, Any] = {
        "compiler": _run(f"{PREFIX}gcc", "--version").splitlines()[0],
        "flags": " ".join(FLAGS[:7]),
        "builds": {
            name: measure(build / str(index), defines)
            for index, (name, defines) in enumerate(BUILDS.items())
        },
    }
    if monocypher is not None:
        found["with_monocypher"] = with_monocypher(build / "monocypher", monocypher.resolve())
    return found


def _print(found: Mapping[str, Any]) -> None:
    print(f"{found['compiler']}: {found['flags']}")
    for name, build in found["builds"].items():
        print(f"\n{name}:")
        print(
            f"  flash {build['flash_bytes']} bytes; words for logs {build['flash_of_words_bytes']}"
        )
        print(f"  memory of an open bundle {build['bundle_bytes']} bytes")
        print("  deepest stack, without the firmware's own functions:")
        for entry, size in build["stack_bytes"].items():
            print(f"    {entry:<20}{size:>6} bytes")
        print(f"  on top of {build['stack_below_ed25519_bytes']} bytes: ed25519_holds")
        print(f"  on top of {build['stack_below_read_and_sha256_bytes']} bytes: read, sha256_…")
        print(f"  needs of the C library: {', '.join(build['needs']) or 'nothing'}")
    if "with_monocypher" in found:
        print(f"\nwith Monocypher's Ed25519: {found['with_monocypher']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=HERE / "build/cortex-m")
    parser.add_argument("--monocypher", type=Path, help="folder of monocypher.c and -ed25519.c")
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    found = measure_all(told.build, told.monocypher)
    if told.json:
        json.dump(found, sys.stdout, indent=1)
    else:
        _print(found)


if __name__ == "__main__":
    main()
