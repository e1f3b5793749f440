"""The four distributions: one version, one licence, and nothing imported that is not declared."""

from __future__ import annotations

import ast
import importlib
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[2]
# Scripts for environments that others' packages are installed into: nothing of ours imports them.
RUN_ELSEWHERE: Final = ROOT / "benchmarks" / "lineside_bench" / "peers" / "runners"
PACKAGES: Final = {
    "sdk": "lineside",
    "trainer": "lineside_trainer",
    "export": "lineside_export",
    "firmware_bridge": "lineside_bridge",
    "benchmarks": "lineside_bench",
}
ENGINES: Final = {"onnxruntime", "openvino"}


def project(folder: str) -> dict[str, Any]:
    declared = tomllib.loads((ROOT / folder / "pyproject.toml").read_text("utf-8"))
    table: dict[str, Any] = declared["project"]
    return table


def test_one_version_for_all_of_them() -> None:
    versions = {folder: project(folder)["version"] for folder in PACKAGES}
    spoken = importlib.import_module("lineside").__version__

    assert set(versions.values()) == {spoken}


@pytest.mark.parametrize("folder", PACKAGES)
def test_siblings_are_required_at_this_very_version(folder: str) -> None:
    declared = map(Requirement, project(folder)["dependencies"])
    siblings = [line for line in declared if line.name.startswith("lineside")]

    assert [str(line.specifier) for line in siblings] == [
        f"=={project(folder)['version']}" for _ in siblings
    ]
    assert bool(siblings) == (folder != "sdk")


def test_trainer_and_comparison_call_the_same_words_good() -> None:
    compared = importlib.import_module("lineside.comparison.folder").GOOD_NAMES
    learnt = importlib.import_module("lineside_trainer.tasks.classification").GOOD_NAMES
    assert set(compared) == set(learnt)


@pytest.mark.parametrize("folder", PACKAGES)
def test_licence_is_the_repositorys_own(folder: str) -> None:
    assert (ROOT / folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert project(folder)["license"] == "Apache-2.0"
    assert project(folder)["license-files"] == ["LICENSE"]


def test_licence_is_the_whole_apache_text() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")

    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert "APPENDIX: How to apply the Apache License to your work." in text


@pytest.mark.parametrize(
    ("folder", "oldest"),
    [
        *(("sdk", ">=3.10"), ("firmware_bridge", ">=3.10"), ("benchmarks", ">=3.10")),
        *(("trainer", ">=3.11"), ("export", ">=3.11")),
    ],
)
def test_oldest_python(folder: str, oldest: str) -> None:
    assert project(folder)["requires-python"] == oldest


def imported_packages(folder: str) -> set[str]:
    """Top-level names that a distribution's sources import anywhere, the standard library aside."""
    names: set[str] = set()
    for file in (ROOT / folder / PACKAGES[folder]).rglob("*.py"):
        if file.is_relative_to(RUN_ELSEWHERE):
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.add(node.module.split(".")[0])
    return names - sys.stdlib_module_names - {PACKAGES[folder]}


@pytest.mark.parametrize("folder", PACKAGES)
def test_whatever_is_imported_is_declared(folder: str) -> None:
    table = project(folder)
    groups = [table["dependencies"], *table.get("optional-dependencies", {}).values()]
    requirements = [Requirement(line) for group in groups for line in group]
    declared = {canonicalize_name(line.name) for line in requirements}
    declared |= {canonicalize_name(extra) for line in requirements for extra in line.extras}
    owners = metadata.packages_distributions()

    undeclared = {
        name
        for name in imported_packages(folder)
        # tomli is for Python 3.10 only, so this interpreter may not have it.
        if declared.isdisjoint(canonicalize_name(owner) for owner in owners.get(name, [name]))
    }

    assert not undeclared, f"{folder}/pyproject.toml does not declare {sorted(undeclared)}"


def test_an_engine_is_the_users_choice() -> None:
    table = project("sdk")
    always = {canonicalize_name(Requirement(line).name) for line in table["dependencies"]}

    assert always.isdisjoint(ENGINES)
    assert set(table["optional-dependencies"]) == ENGINES | {"serial"}
