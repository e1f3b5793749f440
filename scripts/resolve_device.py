"""Which wheels a device gets, and the glibc they need, for the pinned versions of the sdk.

    python scripts/resolve_device.py                     # Linux aarch64, every engine and Python
    python scripts/resolve_device.py --machine x86_64
    python scripts/resolve_device.py --glibc 2.31        # can a device with this glibc have them?

pip resolves for the device from here, binary wheels only, and downloads nothing (`--dry-run`).
Fails where a wheel is missing or its version is not the pinned one: a resolver that knows only
older glibc tags falls back to OpenVINO 2023 in silence, so every tag is listed and compared.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT: Final = Path(__file__).resolve().parent.parent
ENGINES: Final = ("onnxruntime", "openvino")
PYTHONS: Final = ("3.10", "3.11", "3.12", "3.13")
GLIBC_MINORS: Final = (17, 24, 26, 27, 28, 31, 34, 35)
LEGACY_GLIBC_MINOR: Final = {"manylinux1": 5, "manylinux2010": 12, "manylinux2014": 17}


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """One resolved wheel; ``glibc_minor`` is 17 for glibc 2.17, 0 where no glibc is needed."""

    name: str
    version: str
    file: str
    glibc_minor: int


class ResolutionError(RuntimeError):
    """The pinned versions cannot be had for this device."""


def glibc_minor_of(file: str) -> int:
    """Oldest glibc 2.x that a wheel's platform tags admit (PEP 600); 0 for pure Python."""
    minors = [_tag_minor(tag.platform) for tag in parse_wheel_filename(file)[3]]
    return min(minors)


def _tag_minor(platform: str) -> int:
    if match := re.match(r"manylinux_2_(\d+)_", platform):
        return int(match.group(1))
    return LEGACY_GLIBC_MINOR.get(platform.split("_")[0], 0)


def device_environment(machine: str, python: str) -> dict[str, str]:
    """Marker variables of the device; pip itself evaluates markers for the machine it runs on."""
    return {
        "platform_machine": machine,
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "extra": "",
    }


def requirements_of(engine: str, environment: Mapping[str, str]) -> list[str]:
    """The sdk's own dependencies with one engine, without markers."""
    project = tomllib.loads((ROOT / "sdk/pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"][engine]]
    return list(_without_markers(wanted, environment))


def pins(environment: Mapping[str, str]) -> dict[str, str]:
    """Canonical name to `name==version` from constraints.txt, as the device would read it."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    declared = [line for line in lines if line.strip() and not line.startswith("#")]
    kept = _without_markers(declared, environment)
    return {canonicalize_name(Requirement(line).name): line for line in kept}


def _without_markers(lines: Iterable[str], environment: Mapping[str, str]) -> Iterable[str]:
    for requirement in map(Requirement, lines):
        if requirement.marker is None or requirement.marker.evaluate(dict(environment)):
            requirement.marker = None
            yield str(requirement)


def resolve(engine: str, machine: str, python: str, glibc_minor: int) -> list[Wheel]:
    """Every wheel one device needs for the sdk with one engine, checked against the pins.

    ``glibc_minor`` is the device's, 35 for 2.35.

    Raises:
        ResolutionError: no wheel fits, or one is not of the pinned version.
    """
    environment = device_environment(machine, python)
    pinned = pins(environment)
    wanted = requirements_of(engine, environment)
    tags = platform_tags(machine, glibc_minor)
    while True:
        report = _dry_run(wanted, pinned.values(), tags, python)
        missing = _unmet(report, environment)
        if not missing:
            break
        wanted.extend(missing)
    wheels = [_wheel(item) for item in report]
    for wheel in wheels:
        check_pin(wheel, pinned, f"{engine} on {machine}, Python {python}")
    return sorted(wheels, key=lambda wheel: (-wheel.glibc_minor, wheel.name))


def platform_tags(machine: str, glibc_minor: int) -> list[str]:
    """Every wheel platform that such a device takes."""
    minors = [minor for minor in GLIBC_MINORS if minor <= glibc_minor]
    return [
        f"{name}_{machine}" for name in ("manylinux2014", *(f"manylinux_2_{m}" for m in minors))
    ]


def _dry_run(
    wanted: list[str], pinned: Iterable[str], tags: Iterable[str], python: str
) -> list[dict[str, dict[str, object]]]:
    platforms = [word for tag in tags for word in ("--platform", tag)]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text("\n".join(pinned), "utf-8")
        command = [
            *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"),
            *("--quiet", "--report", "-", "--target", folder, "--only-binary", ":all:"),
            *("--python-version", python, "--implementation", "cp", *platforms),
            *("--constraint", str(constraints), *wanted),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ResolutionError(done.stderr.strip())
    items: list[dict[str, dict[str, object]]] = json.loads(done.stdout)["install"]
    return items


def _unmet(report: list[dict[str, dict[str, object]]], environment: Mapping[str, str]) -> list[str]:
    """Dependencies that hold on the device only, which pip left out when it ran here."""
    present = {canonicalize_name(str(item["metadata"]["name"])) for item in report}
    declared = [line for item in report for line in _requires(item)]
    needed = _without_markers(declared, environment)
    return [line for line in needed if canonicalize_name(Requirement(line).name) not in present]


def _requires(item: dict[str, dict[str, object]]) -> list[str]:
    lines = item["metadata"].get("requires_dist", [])
    assert isinstance(lines, list)
    return [str(line) for line in lines]


def _wheel(item: dict[str, dict[str, object]]) -> Wheel:
    file = str(item["download_info"]["url"]).rsplit("/", 1)[-1]
    metadata = item["metadata"]
    return Wheel(
        name=str(metadata["name"]),
        version=str(metadata["version"]),
        file=file,
        glibc_minor=glibc_minor_of(file),
    )


def check_pin(wheel: Wheel, pinned: Mapping[str, str], device: str) -> None:
    """Refuse a wheel whose version is not the one in constraints.txt."""
    line = pinned.get(canonicalize_name(wheel.name))
    if line is None:
        raise ResolutionError(f"{device}: {wheel.name} {wheel.version} is not in constraints.txt")
    if Requirement(line).specifier.contains(wheel.version, prereleases=True):
        return
    raise ResolutionError(f"{device}: got {wheel.name} {wheel.version}, pinned is {line}")


def _glibc_minor(text: str) -> int:
    major, _, minor = text.partition(".")
    if major != "2" or not minor.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 2.35")
    return int(minor)


def glibc_text(minor: int) -> str:
    """`2.35`, or `any` for wheels without native code."""
    return f"2.{minor}" if minor else "any"


def main() -> int:
    """Print one table a device kind; 1 when any cannot be resolved as pinned."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--machine", default="aarch64", choices=("aarch64", "x86_64"))
    parser.add_argument("--glibc", type=_glibc_minor, default=GLIBC_MINORS[-1], metavar="2.N")
    parser.add_argument("--engine", action="append", choices=ENGINES)
    parser.add_argument("--python", action="append", choices=PYTHONS)
    parser.add_argument("--all", action="store_true", help="list every wheel, not only the engine")
    parser.add_argument("--markdown", action="store_true", help="rows for docs/devices.md")
    options = parser.parse_args()
    failed = False
    for engine in options.engine or ENGINES:
        for python in options.python or PYTHONS:
            try:
                wheels = resolve(engine, options.machine, python, options.glibc)
            except ResolutionError as error:
                failed = True
                print(f"{engine}, Python {python}: FAILED: {error}", file=sys.stderr)
                continue
            line = table_row if options.markdown else summary
            print(line(engine, options.machine, python, wheels))
            for wheel in wheels if options.all else ():
                print(f"    {glibc_text(wheel.glibc_minor):<5} {wheel.file}")
    return int(failed)


def summary(engine: str, machine: str, python: str, wheels: list[Wheel]) -> str:
    """One line: the engine's version and wheel, and the glibc that the whole set needs."""
    own, highest = _engine_wheel(engine, wheels), max(wheel.glibc_minor for wheel in wheels)
    return (
        f"{engine:<12} {machine:<8} Python {python:<5} {own.version:<10}"
        f" glibc >= {glibc_text(highest):<5} {len(wheels):>2} wheels  {own.file}"
    )


def table_row(engine: str, machine: str, python: str, wheels: list[Wheel]) -> str:
    """The same as a row of docs/devices.md."""
    own, highest = _engine_wheel(engine, wheels), max(wheel.glibc_minor for wheel in wheels)
    cells = (engine, machine, python, own.version, glibc_text(highest), str(len(wheels)))
    return f"| {' | '.join(cells)} |"


def _engine_wheel(engine: str, wheels: list[Wheel]) -> Wheel:
    return next(wheel for wheel in wheels if canonicalize_name(wheel.name) == engine)


if __name__ == "__main__":
    sys.exit(main())
