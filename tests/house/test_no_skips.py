"""The plug-in that makes a skip a failure does so for every way a test can avoid running."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

PLUGIN_FOLDER: Final = Path(__file__).parents[1] / "plugins"

WAYS_OUT: Final = {
    "skip called": "def test_it(): pytest.skip('why')",
    "skip mark": "@pytest.mark.skip(reason='why')\ndef test_it(): pass",
    "skipif": "@pytest.mark.skipif(True, reason='why')\ndef test_it(): pass",
    "module skips": "pytest.skip('why', allow_module_level=True)",
    "missing import": "pytest.importorskip('no_such_module_why')",
    "xfail fails": "@pytest.mark.xfail(reason='why')\ndef test_it(): assert False",
    "xfail called": "def test_it(): pytest.xfail('why')",
    "xfail passes": "@pytest.mark.xfail(reason='why')\ndef test_it(): pass",
    "fixture skips": "@pytest.fixture\ndef thing(): pytest.skip('why')\ndef test_it(thing): pass",
}


def run(folder: Path, source: str) -> subprocess.CompletedProcess[str]:
    """Run one test module with the plug-in, apart from this repository's settings."""
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {PLUGIN_FOLDER}\n", "utf-8")
    (folder / "test_one.py").write_text(f"import pytest\n{source}\n", "utf-8")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no_skips", "-p", "no:cacheprovider", "-q"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("way", WAYS_OUT)
def test_a_way_out_is_a_failure_that_keeps_its_reason(tmp_path: Path, way: str) -> None:
    done = run(tmp_path, WAYS_OUT[way])

    assert done.returncode in (1, 2), done.stdout  # 2: collection was interrupted
    assert "a skip counts as a failure here" in done.stdout
    assert "why" in done.stdout


def test_a_test_that_runs_and_passes_still_passes(tmp_path: Path) -> None:
    done = run(tmp_path, "def test_it(): assert True")

    assert done.returncode == 0, done.stdout


def test_this_very_run_uses_the_plug_in(request: pytest.FixtureRequest) -> None:
    assert request.config.pluginmanager.hasplugin("no_skips")
