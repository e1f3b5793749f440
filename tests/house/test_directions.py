"""Every direction between the rooms is a contract that bites: each is broken here on purpose."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = {
    "sdk": "lineside",
    "trainer": "lineside_trainer",
    "export": "lineside_export",
    "firmware_bridge": "lineside_bridge",
    "benchmarks": "lineside_bench",
}

# Contract: the module that gets a forbidden import, and that import.
PLANTS: Final = {
    "parts": [
        ("lineside_trainer.errors", "lineside_export"),
        ("lineside_export.errors", "lineside_trainer"),
        ("lineside_bridge.errors", "lineside_export"),
    ],
    "sdk-alone": [
        ("lineside.errors", "lineside_trainer"),
        ("lineside.verdict", "lineside_export"),
        ("lineside.frame", "lineside_bridge"),
        ("lineside.bench", "lineside_bench"),
    ],
    "torch-free": [
        ("lineside.cli.main", "torch"),
        ("lineside.metrics.ranking", "onnx"),
        ("lineside_bridge.errors", "nncf"),
    ],
    "export-untrained": [
        ("lineside_export.errors", "timm"),
        ("lineside_export.errors", "lightning"),
    ],
    "trainer-unexported": [
        ("lineside_trainer.errors", "openvino"),
        ("lineside_trainer.errors", "nncf"),
    ],
    "engines": [("lineside.cli.main", "openvino"), ("lineside.frame", "onnxruntime")],
    "cryptography": [("lineside.frame", "cryptography")],
    "mqtt": [("lineside.frame", "paho.mqtt.client")],
    "storage": [("lineside.frame", "sqlite3")],
    "serial": [("lineside.frame", "serial"), ("lineside_trainer.errors", "serial")],
    "smp": [("lineside.frame", "smp"), ("lineside_trainer.errors", "smp")],
    "images": [("lineside.verdict", "cv2")],
    "pure": [("lineside.decide", "time"), ("lineside.heads.regression", "socket")],
    "layers": [("lineside.errors", "lineside.verdict"), ("lineside.decide", "lineside.cli.main")],
}


def contracts() -> list[str]:
    """Contract ids as declared, in order."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return [contract["id"] for contract in declared["tool"]["importlinter"]["contracts"]]


def lint(copy: Path, contract: str) -> subprocess.CompletedProcess[str]:
    """Check one contract against a copy of the four packages."""
    paths = [str(copy / folder) for folder in PACKAGES]
    # The copy must win over the editable installs, which .pth files put at the end of sys.path.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "200"}
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    return subprocess.run(
        [*command, "--config", str(ROOT / "pyproject.toml"), "--contract", contract],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The four packages' sources, free to be spoilt."""
    for folder, package in PACKAGES.items():
        shutil.copytree(
            ROOT / folder / package,
            tmp_path / folder / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    return tmp_path


def module_file(copy: Path, module: str) -> Path:
    package = module.split(".")[0]
    folder = next(folder for folder, name in PACKAGES.items() if name == package)
    return copy.joinpath(folder, *module.split(".")).with_suffix(".py")


def test_every_contract_has_a_violation_here() -> None:
    assert set(PLANTS) == set(contracts())


@pytest.mark.parametrize("contract", PLANTS)
def test_contract_holds_and_names_each_planted_violation(copy: Path, contract: str) -> None:
    kept = lint(copy, contract)
    assert kept.returncode == 0, kept.stdout + kept.stderr

    for module, imported in PLANTS[contract]:
        file = module_file(copy, module)
        file.write_text(f"{file.read_text('utf-8')}\nimport {imported}\n", "utf-8")
    broken = lint(copy, contract)

    assert broken.returncode == 1, broken.stdout + broken.stderr
    assert "Contracts: 0 kept, 1 broken." in broken.stdout
    for module, imported in PLANTS[contract]:
        named = [line for line in broken.stdout.splitlines() if module in line and "->" in line]
        assert any(imported.split(".")[0] in line for line in named), (
            f"{module} -> {imported} went unseen:\n{broken.stdout}"
        )


def test_a_module_without_a_place_in_the_layers_is_refused(copy: Path) -> None:
    (copy / "sdk/lineside/stray.py").write_text('"""No layer names this."""\n', "utf-8")

    refused = lint(copy, "layers")

    assert refused.returncode == 1
    assert "stray" in refused.stdout
