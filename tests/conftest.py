"""Fixtures for every area: a real bundle, and a cache folder of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
from tiny_bundle import TinyBundle, build_anomaly_bundle, build_tiny_bundle

from lineside.engines import silence_telemetry

# A deadline measures how busy the machine is; what may not be slow has a measurement of its own.
# Where a change is judged, the same examples for everybody; new ones are looked for at each desk.
hypothesis.settings.register_profile(
    "lineside", deadline=None, print_blob=True, derandomize="CI" in os.environ
)
hypothesis.settings.load_profile("lineside")

# Before any test module can import a vendor.
silence_telemetry()
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `lineside.cli.main` does, and why

_COMPUTING = [Path(__file__).parent / area for area in ("e2e", "export", "trainer")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that compute and files that wait, mixed: at any time the workers have some of both."""
    files = list(dict.fromkeys(item.path for item in items))
    computing = [file for area in _COMPUTING for file in files if area in file.parents]
    waiting = [file for file in files if file not in computing]
    turns = {file: n / len(kind) for kind in (computing, waiting) for n, file in enumerate(kind)}
    items.sort(key=lambda item: turns[item.path])


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> TinyBundle:
    """A sealed bundle with both engines, golden samples and images; leave its files as they are."""
    return build_tiny_bundle(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def anomaly_bundle(tmp_path_factory: pytest.TempPathFactory) -> TinyBundle:
    """Likewise, of a model that gives a score and a map."""
    return build_anomaly_bundle(tmp_path_factory.mktemp("anomaly"))


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `lineside.load` remembers goes here, never into the home of whoever runs the tests."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("LINESIDE_CACHE", str(folder))
    return folder
