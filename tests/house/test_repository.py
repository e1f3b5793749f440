"""What the repository may hold, and that it is made again anywhere: no keys, data, indexes."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[2]
DISTRIBUTIONS: Final = (
    *("lineside", "lineside-trainer", "lineside-export", "lineside-bridge", "lineside-bench"),
)
MAX_FILE_BYTES: Final = 1_000_000
MAX_CODE_LINES: Final = 400
REFUSED_SUFFIXES: Final = frozenset(
    {
        *(".key", ".pem", ".lsb", ".ckpt", ".pt", ".pt2", ".pth", ".safetensors", ".onnx"),
        *(".npz", ".npy", ".sqlite", ".zip", ".gz", ".whl", ".lock"),
    }
)
# Sealed bundles of a few bytes for other readers of the format; no model is in them.
BUNDLE_VECTORS: Final = Path("tests/sdk/bundle_vectors")
NAMES_THAT_OWN_NOTHING: Final = frozenset({"utils", "util", "helpers", "common", "misc", "manager"})
INDEX_ADDRESS: Final = re.compile(
    r"--?(?:extra-)?index-url|--find-links|(?:pypi\.org|pythonhosted\.org|download\.pytorch\.org)/\w"
)
# Home and workspace folders of one machine; /etc, /opt, /tmp and the like are everybody's.
MACHINE_PATH: Final = re.compile(r"(?<![\w.$}~])/(?:home|root|Users|work|mnt)/[\w.]")


def tracked() -> list[Path]:
    """Files under version control that are there."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    names = [name for name in done.stdout.decode().split("\0") if name]
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def tracked_texts() -> list[tuple[Path, str]]:
    """Tracked files that are text, this one aside: it must spell out what it refuses."""
    found = []
    for file in tracked():
        content = file.read_bytes()
        if b"\0" not in content and file != Path(__file__):
            found.append((file.relative_to(ROOT), content.decode("utf-8")))
    return found


def matches(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{file}:{number}: {line.strip()[:120]}"
        for file, text in tracked_texts()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_there_are_files_to_look_at() -> None:
    names = {str(file.relative_to(ROOT)) for file in tracked()}

    assert {"Makefile", "pyproject.toml", "sdk/lineside/__init__.py", ".ci/run"} <= names


def test_no_large_files() -> None:
    sizes = {str(file.relative_to(ROOT)): file.stat().st_size for file in tracked()}

    assert not {name: size for name, size in sizes.items() if size > MAX_FILE_BYTES}


def test_no_data_weights_keys_or_lock_files() -> None:
    refused = [file.relative_to(ROOT) for file in tracked() if file.suffix in REFUSED_SUFFIXES]

    assert not [str(file) for file in refused if file.parent != BUNDLE_VECTORS]


def test_no_private_key_in_any_text() -> None:
    assert not matches(re.compile("-----BEGIN " + r"[A-Z ]*PRIVATE KEY"))


def test_no_index_address() -> None:
    assert not matches(INDEX_ADDRESS)


def test_no_path_of_one_machine() -> None:
    assert not matches(MACHINE_PATH)


def test_code_files_are_short_and_named_for_what_they_own() -> None:
    code = [
        (file, text)
        for file, text in tracked_texts()
        if file.suffix == ".py" and file.parts[0] not in ("tests", "benchmarks")
    ]

    assert not {str(file): n for file, text in code if (n := text.count("\n")) > MAX_CODE_LINES}
    assert not [str(file) for file, _ in code if file.stem in NAMES_THAT_OWN_NOTHING]


def test_constraints_are_bare_pins() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]

    assert all(re.fullmatch(r"==[\w.]+", str(pin.specifier)) for pin in pins)
    assert not [str(pin) for pin in pins if pin.url or pin.extras]
    for name in {canonicalize_name(pin.name) for pin in pins}:
        same = [pin for pin in pins if canonicalize_name(pin.name) == name]
        assert len(same) == 1 or all(pin.marker for pin in same), f"{name} is pinned twice"


def pins_here() -> dict[str, Requirement]:
    """Canonical name to pin, for this interpreter."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(p.name): p for p in pins if not p.marker or p.marker.evaluate()}


def needed_here() -> set[str]:
    """Names of all distributions that ours and the tools need, directly or not."""
    tools = (ROOT / "requirements-dev.txt").read_text("utf-8").splitlines()
    ahead = [line for text in tools if (line := text.split("#")[0].strip())]
    ahead.extend(DISTRIBUTIONS)
    seen: set[str] = set()
    while ahead:
        line = ahead.pop()
        if line not in seen:
            seen.add(line)
            ahead.extend(required_by(Requirement(line)))
    names: set[str] = {canonicalize_name(Requirement(line).name) for line in seen}
    return names.difference(map(canonicalize_name, DISTRIBUTIONS))


def required_by(requirement: Requirement) -> list[str]:
    """Direct requirements of an installed distribution with these extras, here."""
    found = []
    for text in metadata.requires(requirement.name) or []:
        below = Requirement(text)
        extras = requirement.extras or {""}
        if not below.marker or any(below.marker.evaluate({"extra": extra}) for extra in extras):
            found.append(f"{below.name}[{','.join(sorted(below.extras))}]")
    return found


def test_whatever_is_needed_is_pinned_and_installed_as_pinned() -> None:
    pins = pins_here()
    needed = needed_here()

    assert len(needed) > 50
    assert not needed - set(pins), "add them to constraints.txt"
    drifted = {name: metadata.version(name) for name in needed}
    assert not {n: v for n, v in drifted.items() if not pins[n].specifier.contains(v)}


@pytest.mark.parametrize("folder", ["export", "trainer", "sdk", "benchmarks", "firmware_bridge"])
def test_the_repositorys_root_is_not_importable(folder: str) -> None:
    # `import export` would succeed as a namespace package and hide a fault.
    assert (ROOT / folder).is_dir()
    assert importlib.util.find_spec(folder) is None, (
        f"{folder!r} can be imported; run `.venv/bin/pytest`, not `python -m pytest`"
    )
    assert str(ROOT) not in sys.path
    assert "" not in sys.path
