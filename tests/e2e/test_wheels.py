"""What is released: the wheel `lineside` with one engine runs a bundle on a machine without torch.

The environments here are made with plain pip and know nothing of this repository but the wheel.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path
from typing import Final

import pytest
from tiny_bundle import TinyBundle

ROOT: Final = Path(__file__).parents[2]
FOLDERS: Final = {
    "lineside": "sdk",
    "lineside_trainer": "trainer",
    "lineside_export": "export",
    "lineside_bridge": "firmware_bridge",
    "lineside_bench": "benchmarks",
}
NEVER_ON_A_DEVICE: Final = frozenset({"torch", "torchvision", "timm", "onnx", "nncf", "lightning"})
MAX_DISTRIBUTIONS: Final = 16

IMPORT_EVERY_MODULE: Final = """
import importlib, json, pkgutil, lineside
names = [module.name for module in pkgutil.walk_packages(lineside.__path__, "lineside.")]
for name in names:
    importlib.import_module(name)
print(json.dumps({"file": lineside.__file__, "modules": names}))
"""
LIST_DISTRIBUTIONS: Final = """
import json
from importlib import metadata
print(json.dumps(sorted({found.metadata["Name"] for found in metadata.distributions()})))
"""
INSPECT: Final = """
import json, sys, lineside
bundle, trust, engine, *frames = sys.argv[1:]
with lineside.load(bundle, trust=trust, engine=engine, threads=1) as inspector:
    verdicts = [inspector.inspect(lineside.read_frame(frame)) for frame in frames]
    print(json.dumps({
        "engine": inspector.engine.name,
        "evaluations": [verdict.evaluation.name for verdict in verdicts],
        "loaded": sorted({name.split(".")[0] for name in sys.modules}),
    }))
"""


def build(package: str, into: Path) -> tuple[Path, Path]:
    """Build one distribution as a release would; its wheel and its sdist."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(into)]
    subprocess.run([*command, str(ROOT / FOLDERS[package])], check=True, capture_output=True)
    (wheel,) = into.glob(f"{package}-*.whl")
    (sdist,) = into.glob(f"{package}-*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def lineside_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("lineside", tmp_path_factory.mktemp("wheel"))[0]


class BareMachine:
    """A virtual environment with the sdk's wheel and one engine, and nothing of ours else."""

    def __init__(self, folder: Path, wheel: Path, engine: str) -> None:
        self.engine = engine
        self._folder = folder
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "VIRTUAL_ENV") and not name.startswith("LINESIDE_")
        } | {"HOME": str(folder), "LINESIDE_CACHE": str(folder / "cache")}
        venv.create(folder / "venv", with_pip=True, symlinks=True)
        self.run(
            "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), f"{wheel}[{engine}]"
        )

    def run(self, *arguments: str, program: str = "python") -> str:
        """Run a program of the environment away from the repository; what it printed."""
        done = subprocess.run(
            [str(self._folder / "venv/bin" / program), *arguments],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def bare_machine(
    request: pytest.FixtureRequest, lineside_wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BareMachine]:
    engine: str = request.param
    yield BareMachine(tmp_path_factory.mktemp(f"bare-{engine}"), lineside_wheel, engine)


def test_every_module_imports_where_only_one_engine_is(bare_machine: BareMachine) -> None:
    told = json.loads(bare_machine.run("-c", IMPORT_EVERY_MODULE))

    sources = ROOT / "sdk/lineside"
    files = {file.relative_to(sources.parent).with_suffix("") for file in sources.rglob("*.py")}
    expected = {".".join(file.parts).removesuffix(".__init__") for file in files} - {"lineside"}
    assert set(told["modules"]) == expected
    assert not Path(told["file"]).is_relative_to(ROOT)


def test_torch_and_friends_did_not_come_along(bare_machine: BareMachine) -> None:
    installed = json.loads(bare_machine.run("-c", LIST_DISTRIBUTIONS))

    assert {"lineside", bare_machine.engine} <= set(installed)
    assert NEVER_ON_A_DEVICE.isdisjoint(installed)
    assert len(installed) <= MAX_DISTRIBUTIONS, installed


def test_a_bundle_runs_from_python(bare_machine: BareMachine, tiny_bundle: TinyBundle) -> None:
    frames = [str(frame) for frame in tiny_bundle.frames[:2]]
    key = str(tiny_bundle.public_key_path)

    told = json.loads(
        bare_machine.run("-c", INSPECT, str(tiny_bundle.path), key, bare_machine.engine, *frames)
    )

    assert told["engine"] == bare_machine.engine
    assert told["evaluations"] == ["OK", "NOT_OK"]
    assert NEVER_ON_A_DEVICE.isdisjoint(told["loaded"])


def test_a_bundle_runs_from_the_command_line(
    bare_machine: BareMachine, tiny_bundle: TinyBundle
) -> None:
    trust = ("--trust", str(tiny_bundle.public_key_path))

    bare_machine.run("verify", str(tiny_bundle.path), *trust, program="lineside")
    told = bare_machine.run(
        *("inspect", str(tiny_bundle.path), str(tiny_bundle.frames[0]), *trust, "--json"),
        program="lineside",
    )

    assert '"OK"' in told
    assert "NOT_DECIDABLE" not in told


@pytest.mark.parametrize("package", FOLDERS)
def test_wheel_and_sdist_are_complete(package: str, tmp_path: Path) -> None:
    wheel, sdist = build(package, tmp_path)

    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata_name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        info = message_from_string(archive.read(metadata_name).decode())
        licence = archive.read(metadata_name.replace("METADATA", "licenses/LICENSE"))
    with tarfile.open(sdist) as archive:
        source_names = {name.split("/", 1)[1] for name in archive.getnames()}

    files = (ROOT / FOLDERS[package] / package).rglob("*")
    ours = {
        str(file.relative_to(ROOT / FOLDERS[package]))
        for file in files
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == ours
    readme = tomllib.loads((ROOT / FOLDERS[package] / "pyproject.toml").read_text("utf-8"))
    told = {"LICENSE", readme["project"]["readme"], "pyproject.toml", "PKG-INFO"}
    assert ours | told <= source_names
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert info["License-Expression"] == "Apache-2.0"
    assert f"{package}/py.typed" in names
    for field in ("Summary", "Author", "Keywords", "Requires-Python", "Description-Content-Type"):
        assert info[field], f"{package}: no {field}"
