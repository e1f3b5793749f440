"""From a configuration to a station that is ready to run: the one place where all parts meet."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from lineside.errors import ConfigurationError
from lineside.health import Health, Notifier, open_health
from lineside.inspector import Inspector
from lineside.kept import KeepSettings
from lineside.limits import LimitSettings
from lineside.loading import load
from lineside.outbox import Outbox
from lineside.resident import resident_mib
from lineside.sources import open_source
from lineside.station.configuration import BundleSettings, MapSettings, StationConfiguration
from lineside.station.drift import open_drift_watch
from lineside.station.figures import health_sources
from lineside.station.keeping import FrameKeeper
from lineside.station.loop import Station
from lineside.station.maps import MapKeeper, check_map_given
from lineside.station.products import ModelCard, Product, Products


@contextlib.contextmanager
def open_station(
    configuration: StationConfiguration,
    *,
    progress: Callable[[Station], None] = lambda _: None,
) -> Iterator[Station]:
    """Open bundles, outbox and source; closes them in the end.

    Raises:
        ConfigurationError: the password cannot be read, no key is trusted, the limits loosen the
            sealed ones, pictures are wanted of models that give no map, two bundles judge one
            product, or together they take more memory than they may.
        BundleError, KeyFileError, OverrideError, EngineError: see ``lineside.load``.
        StorageError: the outbox is torn, not writable, or in use by another station.
        InputDataError: the source is not there.
    """
    configuration.mqtt.read_password()
    with contextlib.ExitStack() as stack:
        outbox = Outbox(configuration.outbox)
        stack.callback(outbox.close)
        source = open_source(configuration.source, configuration.trigger, memory=outbox)
        stack.callback(source.close)
        products = _open_products(configuration, stack)
        station = Station(
            topics=configuration.topics,
            products=products,
            source=source,
            outbox=outbox,
            mqtt=configuration.mqtt,
            pace=configuration.pace,
            maps=_open_maps(configuration.maps, products),
            keeper=_open_keeper(configuration.keep),
            progress=progress,
        )
        station.health = stack.enter_context(_open_health(configuration, station))
        yield station


@contextlib.contextmanager
def _open_health(configuration: StationConfiguration, station: Station) -> Iterator[Health]:
    notifier = Notifier.from_environment()
    try:
        with open_health(
            configuration.health,
            health_sources(station, configuration.outbox.path),
            notifier=notifier,
            beating=("inspection", "source"),
            alive=station.vital,
        ) as health:
            yield health
    finally:
        notifier.close()


def _open_products(configuration: StationConfiguration, stack: contextlib.ExitStack) -> Products:
    loaded: list[Product] = []
    taken: list[str] = []
    for settings in configuration.bundles:
        before_mib = resident_mib()
        inspector = stack.enter_context(
            _open_inspector(settings, configuration.limits_of(settings))
        )
        loaded.append(
            Product(
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
        )
        taken.append(f"{settings.path.name} {resident_mib() - before_mib:.0f}")
    _check_memory(configuration.station.memory_budget_mib, taken)
    return Products(loaded)


def _check_memory(budget_mib: int | None, taken: list[str]) -> None:
    now_mib = resident_mib()
    if budget_mib is not None and now_mib > budget_mib:
        raise ConfigurationError(
            f"station.memory_budget_mib: the program takes {now_mib:.0f} MiB with all bundles "
            f"loaded ({', '.join(taken)}), {budget_mib} are allowed; give fewer bundles, smaller "
            "forms or more memory",
            path="station.memory_budget_mib",
        )


def _open_maps(settings: MapSettings, products: Products) -> MapKeeper | None:
    if settings.path is None:
        return None
    for product in products:
        if product.contract is not None:
            check_map_given(product.contract)
    return MapKeeper(settings)


def _open_keeper(settings: KeepSettings) -> FrameKeeper | None:
    return None if settings.path is None else FrameKeeper(settings)


def _open_inspector(settings: BundleSettings, limits: LimitSettings) -> Inspector:
    return load(
        settings.path,
        trust=settings.trust,
        engine=settings.engine,
        precision=settings.precision or None,
        threads=settings.threads,
        providers=settings.providers,
        provider_options=settings.provider_options,
        device=settings.device,
        cache_folder=settings.cache_folder,
        limits=limits,
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
    )
