"""From ``[bundle] store`` to the keeper of that store, which a station opens at its start."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lineside.bundle import open_bundle
from lineside.engines import EngineSettings
from lineside.engines.cache import private_folder
from lineside.installing import InstallTerms
from lineside.installing.proving import prove_apart
from lineside.resident import resident_mib
from lineside.slots import lock_station, open_store
from lineside.station.bundling import BundleSettings
from lineside.station.configuration import StationConfiguration
from lineside.station.hanging import leaving_when_late
from lineside.station.loaded import Loaded, load_product
from lineside.station.slotkeeper import SlotKeeper
from lineside.station.slotstart import SlotOpener, start_store

# A model that is compiled for the device on first use may take minutes, and systemd waits for ten.
_OPEN_LIMIT_S: Final = 480.0


@contextlib.contextmanager
def enter_store(
    settings: BundleSettings, configuration: StationConfiguration
) -> Iterator[SlotKeeper]:
    """Be the station of a store, and open what is to judge; free it in the end.

    Args:
        settings: with a store.
        configuration: of the station.

    Raises:
        RefusedError: it is empty.
        StorageError: it is not there, not writable, damaged, or another station runs on it.
        LinesideError: nothing in it opens.
    """
    folder = settings.place
    store = open_store(folder)
    with lock_station(folder):

        def load(path: Path) -> Loaded:
            return load_product(path, settings, configuration)

        def prove(path: Path) -> None:
            _prove(path, settings)

        def take_back() -> None:
            store.revert("watchdog")

        opener = SlotOpener(store, load=load, prove=prove)
        start = start_store(
            opener,
            restarts=settings.trial.restarts,
            guard=lambda: leaving_when_late(_OPEN_LIMIT_S, take_back),
        )
        budget_mib = configuration.station.memory_budget_mib

        def room(more_mib: float) -> bool:
            return budget_mib is None or resident_mib() + more_mib <= budget_mib

        keeper = SlotKeeper(opener, settings.trial, start, room=room)
        try:
            yield keeper
        finally:
            keeper.close()


def install_terms(settings: BundleSettings) -> InstallTerms:
    """On what terms this station takes a bundle into the store: as it will open it.

    Raises:
        StorageError: the cache folder cannot be used.
    """
    folder = settings.cache_folder
    return InstallTerms(
        precision=settings.precision or None,
        settings=EngineSettings(
            threads=settings.threads,
            providers=settings.providers,
            provider_options=settings.provider_options,
            device=settings.device,
            cache_folder=None if folder is None else private_folder(folder),
        ),
    )


def _prove(path: Path, settings: BundleSettings) -> None:
    terms = install_terms(settings)
    with open_bundle(path, trust=settings.trust) as bundle:
        prove_apart(
            bundle,
            engine=settings.engine,
            precision=terms.precision,
            settings=terms.settings,
            timeout_s=terms.timeout_s,
        )
