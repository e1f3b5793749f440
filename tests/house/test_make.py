"""The commands that everybody types, and what is said where a tool is missing."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]


def make(*arguments: str) -> str:
    """Run make; what it printed."""
    # Under `make test` the outer make's flags would come along.
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    done = subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def planned(target: str, *variables: str) -> str:
    """What a target would run, the environment being up to date."""
    return make("--dry-run", "--old-file", ".venv/.installed", target, *variables)


def test_help_explains_every_target() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)

    told = make("help")

    for target in phony.split():
        assert re.search(rf"^make {target} +\w", told, re.MULTILINE), f"{target} has no help"


def test_help_explains_every_variable() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    used = set(re.findall(r"\$\(([A-Z]+)\)", text)) - {"BIN", "STAMP", "DECLARED", "MAKE"}

    told = make("help")

    assert {"DATA", "TARGET", "GROUP", "LIMIT", "OUT", "PYTHON"} <= used
    assert not [name for name in used if f"{name}=" not in told]


def test_demo_hands_its_variables_on() -> None:
    variables = ("DATA=some images", "TARGET=column", "GROUP=run", "LIMIT=0.5", "OUT=there")

    command = planned("demo", *variables)

    assert "examples/demo.py --out 'there' --data 'some images' --target 'column'" in command
    assert "--group 'run' --limit '0.5'" in command
    assert "--data" not in planned("demo")


def test_test_includes_check_and_comes_after_it() -> None:
    steps = planned("test")

    order = [steps.index(word) for word in ("ruff check", "mypy", "lint-imports", "bin/pytest")]
    assert order == sorted(order)
    assert "mosquitto strace" in steps


@pytest.mark.parametrize(
    "declared", ["constraints.txt", "requirements-dev.txt", "sdk/pyproject.toml"]
)
def test_environment_is_made_again_when_a_requirement_changed(declared: str) -> None:
    steps = make("--dry-run", "--what-if", declared, "venv")

    assert "scripts/make_venv" in steps


def need_debian(folder: Path, *packages: str) -> subprocess.CompletedProcess[str]:
    """Ask for packages as a user who is not root."""
    identity = folder / "id"
    identity.write_text("#!/bin/sh\necho 1000\n", "utf-8")
    identity.chmod(0o755)
    return subprocess.run(
        [str(ROOT / "scripts/need_debian"), *packages],
        env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_missing_tool_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    done = need_debian(tmp_path, "bash", "no-such-tool")

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "make: missing: no-such-tool. Get it with: sudo apt-get install no-such-tool"
    ]


def test_tools_that_are_there_are_not_spoken_of(tmp_path: Path) -> None:
    done = need_debian(tmp_path, "bash", "mosquitto", "strace")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_scripts_are_executable_and_stop_at_the_first_fault() -> None:
    for script in (ROOT / ".ci/run", ROOT / "scripts/make_venv", ROOT / "scripts/need_debian"):
        assert os.access(script, os.X_OK)
        assert "\nset -euo pipefail\n" in script.read_text("utf-8")
