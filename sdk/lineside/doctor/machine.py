"""All checks, in the order people look at things."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lineside.doctor.check import Check
from lineside.doctor.clock import check_clock
from lineside.doctor.disk import check_disk
from lineside.doctor.engines import check_engines
from lineside.doctor.permissions import check_cache, check_serial_ports, check_trust
from lineside.doctor.platform import (
    check_container,
    check_cores,
    check_glibc,
    check_memory,
    check_python,
)
from lineside.doctor.target import check_machine_targets
from lineside.engines.cache import default_cache_folder


def examine_machine(*, folder: Path, trust_places: Sequence[Path]) -> list[Check]:
    """Look at the machine; nothing is changed but a cache folder, which is made.

    Args:
        folder: whose disk is measured.
        trust_places: trusted keys, or folders of them.
    """
    return [
        check_python(),
        check_glibc(),
        *check_engines(),
        check_cores(),
        check_memory(),
        check_container(),
        check_machine_targets(),
        check_clock(),
        check_disk("disk", folder, needed=False),
        check_cache(default_cache_folder()),
        check_trust(trust_places),
        check_serial_ports(),
    ]
