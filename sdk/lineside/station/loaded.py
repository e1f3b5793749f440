"""From a bundle's file to a product of the station: verified, proved, with regions and drift."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lineside.inspector import Inspector
from lineside.loading import load
from lineside.resident import resident_mib
from lineside.station.bundling import BundleSettings
from lineside.station.configuration import StationConfiguration
from lineside.station.drift import open_drift_watch
from lineside.station.maps import check_map_given
from lineside.station.products import ModelCard, Product


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """A product with what it holds.

    Attributes:
        product: it.
        close: frees it; nobody may judge by it any more.
        cost_mib: what memory the program took for it, as far as can be told.
    """

    product: Product
    close: Callable[[], None]
    cost_mib: float = 0.0


def load_product(
    path: Path, settings: BundleSettings, configuration: StationConfiguration
) -> Loaded:
    """Open a bundle as the station's file says.

    Args:
        path: of the bundle; ``settings`` may name a store in its place.
        settings: of this bundle.
        configuration: of the station.

    Raises:
        BundleError, KeyFileError, OverrideError, EngineError, StorageError: see ``lineside.load``.
        ConfigurationError: the limits loosen the sealed ones, or pictures are wanted of a model
            that gives no map.
    """
    before_mib = resident_mib()
    inspector = _open_inspector(path, settings, configuration)
    try:
        if configuration.maps.path is not None:
            check_map_given(inspector.contract)
        product = Product(
            card=_describe(inspector),
            inspector=inspector,
            contract=inspector.contract,
            regions=settings.regions,
            drift=open_drift_watch(
                inspector.bundle,
                inspector.engine,
                configuration.drift,
                regions=max(1, len(settings.regions)),
            ),
        )
    except BaseException:
        inspector.close()
        raise
    cost_mib = max(0.0, resident_mib() - before_mib)
    return Loaded(product=product, close=inspector.close, cost_mib=cost_mib)


def _open_inspector(
    path: Path, settings: BundleSettings, configuration: StationConfiguration
) -> Inspector:
    return load(
        path,
        trust=settings.trust,
        engine=settings.engine,
        precision=settings.precision or None,
        threads=settings.threads,
        providers=settings.providers,
        provider_options=settings.provider_options,
        device=settings.device,
        cache_folder=settings.cache_folder,
        limits=configuration.limits_of(settings),
        regions=max(1, len(settings.regions)),
    )


def _describe(inspector: Inspector) -> ModelCard:
    manifest = inspector.bundle.manifest
    return ModelCard(
        product=manifest.identity.product,
        bundle=inspector.bundle.hash,
        version=manifest.identity.version,
        engine=f"{inspector.engine.name}/{inspector.engine.precision}",
        unit=manifest.rule.unit,
        limits=inspector.limits,
        counter=manifest.identity.security_counter,
    )
