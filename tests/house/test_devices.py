"""The table of supported devices says what a resolver says."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

ROOT: Final = Path(__file__).parents[2]
SCRIPT: Final = ROOT / "scripts/resolve_device.py"
JETPACK_6: Final = ("--machine", "aarch64", "--python", "3.10", "--glibc", "2.35")


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("resolve_device", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up
    spec.loader.exec_module(module)
    return module


script = load_script()


def resolve(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


def documented() -> list[list[str]]:
    """Cells of the rows that the script made."""
    text = (ROOT / "docs/devices.md").read_text("utf-8")
    rows = re.findall(r"^\| ((?:onnxruntime|openvino) \|.*) \|$", text, re.MULTILINE)
    return [row.split(" | ") for row in rows]


def test_every_engine_machine_and_python_has_a_row() -> None:
    told = {(engine, machine, python) for engine, machine, python, *_ in documented()}

    assert told == {
        (engine, machine, python)
        for engine in script.ENGINES
        for machine in ("aarch64", "x86_64")
        for python in script.PYTHONS
    }


@pytest.mark.parametrize("row", documented(), ids=lambda row: "-".join(row[:3]))
def test_documented_version_is_the_pinned_one(row: list[str]) -> None:
    engine, machine, python, version, *_ = row
    pinned = script.pins(script.device_environment(machine, python))

    assert Requirement(pinned[engine]) == Requirement(f"{engine}=={version}")


@pytest.mark.parametrize("engine", script.ENGINES)
def test_a_jetson_gets_what_its_row_says(engine: str) -> None:
    done = resolve(*JETPACK_6, "--engine", engine, "--markdown")

    assert done.returncode == 0, done.stderr
    (row,) = [row for row in documented() if row[:3] == [engine, "aarch64", "3.10"]]
    assert done.stdout.strip() == f"| {' | '.join(row)} |"


def test_too_old_a_glibc_is_refused_and_not_answered_with_an_old_openvino() -> None:
    done = resolve("--engine", "openvino", "--python", "3.10", "--glibc", "2.31")

    assert done.returncode == 1
    assert "FAILED" in done.stderr
    assert "openvino" in done.stderr
    assert not done.stdout


def test_the_sdk_itself_asks_for_no_older_openvino() -> None:
    # Without a constraints file a resolver must not fall back to 2023 either.
    declared = tomllib.loads((ROOT / "sdk/pyproject.toml").read_text("utf-8"))
    (line,) = declared["project"]["optional-dependencies"]["openvino"]

    assert not Requirement(line).specifier.contains("2023.1.0")


@given(
    minors=st.lists(st.integers(5, 60), min_size=1, max_size=4, unique=True),
    machine=st.sampled_from(["aarch64", "x86_64"]),
)
def test_a_wheel_needs_the_oldest_glibc_of_its_tags(minors: list[int], machine: str) -> None:
    tags = ".".join(f"manylinux_2_{minor}_{machine}" for minor in minors)

    assert script.glibc_minor_of(f"thing-1.0-cp310-cp310-{tags}.whl") == min(minors)


@pytest.mark.parametrize(
    ("tags", "minor"),
    [
        ("py3-none-any", 0),
        ("cp310-cp310-manylinux2014_aarch64", 17),
        ("cp310-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64", 17),
    ],
)
def test_wheels_of_older_tags(tags: str, minor: int) -> None:
    assert script.glibc_minor_of(f"thing-1.0-{tags}.whl") == minor


def test_a_version_that_is_not_pinned_is_refused() -> None:
    pinned = {"openvino": "openvino==2026.4.1"}
    old = script.Wheel(name="openvino", version="2023.1.0", file="…", glibc_minor=17)

    with pytest.raises(script.ResolutionError, match=r"got openvino 2023\.1\.0"):
        script.check_pin(old, pinned, "a device")
    with pytest.raises(script.ResolutionError, match="not in constraints"):
        script.check_pin(old, {}, "a device")
