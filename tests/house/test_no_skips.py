"""The plug-in that makes a skip a failure does so for every way a test can avoid running."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

PLUGIN_FOLDER: Final = Path(__file__).parents[1] / "plugins"

WAYS_OUT: Final = {
    "skip_called": "def test_it(): pytest.skip('why')",
    "skip_mark": "@pytest.mark.skip(reason='why')\ndef test_it(): pass",
    "skipif": "@pytest.mark.skipif(True, reason='why')\ndef test_it(): pass",
    "module_skips": "pytest.skip('why', allow_module_level=True)",
    "missing_import": "pytest.importorskip('no_such_module_why')",
    "xfail_fails": "@pytest.mark.xfail(reason='why')\ndef test_it(): assert False",
    "xfail_called": "def test_it(): pytest.xfail('why')",
    "xfail_passes": "@pytest.mark.xfail(reason='why')\ndef test_it(): pass",
    "fixture_skips": "@pytest.fixture\ndef thing(): pytest.skip('why')\ndef test_it(thing): pass",
    "passes": "def test_it(): assert True",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """One run over a module for each way, apart from this repository's settings."""
    folder = tmp_path_factory.mktemp("ways-out")
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {PLUGIN_FOLDER}\n", "utf-8")
    for way, source in WAYS_OUT.items():
        (folder / f"test_{way}.py").write_text(f"import pytest\n{source}\n", "utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no_skips", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "-rA", "--continue-on-collection-errors"],
        cwd=folder,
        env={"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("way", [way for way in WAYS_OUT if way != "passes"])
def test_a_way_out_is_a_failure_that_keeps_its_reason(
    run: subprocess.CompletedProcess[str], way: str
) -> None:
    (line,) = re.findall(rf"^(?:FAILED|ERROR) test_{way}\.py.*$", run.stdout, re.MULTILINE)

    assert "a skip counts as a failure here" in line
    assert "why" in line


def test_a_test_that_runs_and_passes_still_passes(run: subprocess.CompletedProcess[str]) -> None:
    assert "PASSED test_passes.py::test_it" in run.stdout
    assert run.returncode == 1
    assert re.search(r" 4 failed, 1 passed, 5 errors in ", run.stdout), run.stdout[-300:]


def test_this_very_run_uses_the_plug_in(request: pytest.FixtureRequest) -> None:
    assert request.config.pluginmanager.hasplugin("no_skips")
