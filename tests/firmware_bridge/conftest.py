"""Bundles of one maker, sealed once for all tests of the sensor's side."""

from __future__ import annotations

import pytest
from sensor_bundles import Family, seal_family
from tiny_bundle import TinyBundle


@pytest.fixture(scope="session")
def family(tiny_bundle: TinyBundle, tmp_path_factory: pytest.TempPathFactory) -> Family:
    """Old, new, later, beside, failing; leave them as they are."""
    return seal_family(tiny_bundle, tmp_path_factory.mktemp("family"))
