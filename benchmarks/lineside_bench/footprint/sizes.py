"""What is installed: distributions and their bytes, from the metadata that pip wrote."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lineside

_EXTRAS: Final = ("", "onnxruntime", "openvino")
_BUILD_LIMIT_S: Final = 120


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """Lineside's own: bytes of the file, and of what it unpacks to; or why there is none."""

    packed_bytes: int = 0
    unpacked_bytes: int = 0
    absent: str = ""


def measure_sizes() -> dict[str, Any]:
    """Lineside alone, and with each engine, as they are installed here."""
    wheel = build_wheel()
    rows = [_installation(extra, wheel) for extra in _EXTRAS]
    return {
        "wheel": {"packed_bytes": wheel.packed_bytes, "absent": wheel.absent},
        "installations": rows,
    }


def build_wheel() -> Wheel:
    """Make Lineside's wheel in a folder of its own, where its sources are here."""
    source = Path(lineside.__file__).parents[1]
    if not (source / "pyproject.toml").exists():
        return Wheel(absent="installed from a wheel; its sources are not here")
    missing = [name for name in ("build", "hatchling") if util.find_spec(name) is None]
    if missing:
        return Wheel(absent=f"not installed: {', '.join(missing)}")
    with tempfile.TemporaryDirectory() as folder:
        words = ("-m", "build", "--wheel", "--no-isolation", "--outdir", folder, str(source))
        done = subprocess.run(
            [sys.executable, *words], capture_output=True, timeout=_BUILD_LIMIT_S, check=False
        )
        made = list(Path(folder).glob("*.whl"))
        if done.returncode or not made:
            return Wheel(absent=f"the build failed: {done.stderr.decode()[-200:].strip()}")
        with zipfile.ZipFile(made[0]) as archive:
            unpacked_bytes = sum(entry.file_size for entry in archive.infolist())
        return Wheel(packed_bytes=made[0].stat().st_size, unpacked_bytes=unpacked_bytes)


def _installation(extra: str, wheel: Wheel) -> dict[str, Any]:
    names = sorted(needed("lineside", extra))
    absent = [name for name in names if not _installed(name)]
    sizes = {name: _installed_bytes(name) for name in names if name not in absent}
    if wheel.unpacked_bytes:
        sizes["lineside"] = wheel.unpacked_bytes
    return {
        "installation": f"lineside[{extra}]" if extra else "lineside",
        "distributions": len(names),
        "installed_bytes": sum(sizes.values()),
        "of_lineside_bytes": sizes["lineside"],
        "largest": dict(sorted(sizes.items(), key=lambda pair: -pair[1])[:4]),
        "absent": absent,
    }


def needed(name: str, extra: str = "") -> set[str]:
    """A distribution and all that it asks for in this environment, by canonical name."""
    seen: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(name), extra)]
    while waiting:
        pair = waiting.pop()
        if pair in seen:
            continue
        seen.add(pair)
        waiting += [
            (canonicalize_name(wanted.name), of_it)
            for wanted in _requirements(*pair)
            for of_it in ("", *wanted.extras)
        ]
    return {found for found, _ in seen}


def _requirements(name: str, extra: str) -> list[Requirement]:
    if not _installed(name):
        return []
    lines = metadata.distribution(name).requires or []
    return [
        wanted
        for wanted in map(Requirement, lines)
        if wanted.marker is None or wanted.marker.evaluate({"extra": extra})
    ]


def _installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _installed_bytes(name: str) -> int:
    """What RECORD lists and is there; of Lineside in its sources, the sources."""
    if name == "lineside":
        sources = Path(lineside.__file__).parent.rglob("*")
        return sum(file.stat().st_size for file in sources if _is_source(file))
    files = metadata.distribution(name).files or []
    located = (Path(str(file.locate())) for file in files)
    return sum(path.stat().st_size for path in located if path.is_file())


def _is_source(file: Path) -> bool:
    return file.suffix != ".pyc" and file.is_file()
