"""The commit of the software, asked of a real git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lineside.commit import find_commit


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in a repository of its own."""
    file = tmp_path / "clone" / "package" / "__init__.py"
    file.parent.mkdir(parents=True)
    file.write_text("x = 1\n")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # where a hook runs the tests
        monkeypatch.delenv(name, raising=False)
    git(tmp_path / "clone", "init", "-q")
    git(tmp_path / "clone", "add", ".")
    git(tmp_path / "clone", "commit", "-q", "-m", "One")
    return file


def test_a_clone_has_a_commit(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = git(module.parent, "rev-parse", "HEAD")
    git(module.parent, "tag", "-a", "v1", "-m", "v1")
    assert find_commit(module) == head
    (module.parent / "untracked.txt").write_text("not part of it")
    assert find_commit(module) == head
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as inside a hook
    assert find_commit(module) == head


def test_a_changed_clone_says_so(module: Path) -> None:
    head = git(module.parent, "rev-parse", "HEAD")
    module.write_text("x = 2\n")
    assert find_commit(module) == f"{head}-dirty"


def test_an_environment_inside_a_repository_is_not_of_it(module: Path) -> None:
    installed = module.parent / ".venv" / "package.py"
    installed.parent.mkdir()
    installed.write_text("")
    assert find_commit(installed) == ""


def test_without_git_there_is_none(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "wheel.py"
    outside.write_text("")
    assert find_commit(outside) == ""
    monkeypatch.setenv("PATH", "")
    assert find_commit(module) == ""
